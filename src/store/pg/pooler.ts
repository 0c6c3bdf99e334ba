/**
 * Detects a pooler in transaction mode (usually PgBouncer) between a client and its server. Behind one, prepared statements
 * do not last, and notifications do not arrive.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlClient } from "effect/sql/SqlClient"
import { within } from "../within.ts"
import { clientOf, isSingle, open, reserve, type Session } from "./session.ts"

const pidOf = (session: Session) =>
  Effect.map(session.run<{ pid: number }>("select pg_catalog.pg_backend_pid() as pid"), ([row]) => row?.pid)

/**
 * Asks two sessions for the process id of their server process. Without such a pooler each has its own. With one, another
 * process may answer a session's next statement, or the same process may answer both sessions. If the pooler reuses the most
 * recently returned process, the second session gets the first one's. If it reuses the longest idle one, the first session's
 * process changes. The second session stays in a transaction while the first asks once more, so a pooler cannot hide by
 * giving both the same process.
 */
export const isPooledBetween = Effect.fnUntraced(function*(first: Session, second: Session) {
  const pids = [yield* pidOf(first), yield* pidOf(first), yield* pidOf(first)]
  return yield* Effect.acquireUseRelease(
    second.run("begin"),
    () =>
      Effect.gen(function*() {
        const other = yield* pidOf(second)
        if (new Set(pids).size > 1 || pids.includes(other)) return true
        return (yield* pidOf(first)) !== pids[0]
      }),
    () => Effect.ignore(second.run("rollback"))
  )
})

/** How long to wait for a second connection. */
const timeout = "5 seconds"

/**
 * Whether the client is behind such a pooler. `false` when no second connection is available to determine it: the check is a
 * precaution, and must not keep a program from starting.
 */
export const isPooled = (sql: SqlClient) =>
  Effect.scoped(Effect.gen(function*() {
    const client = clientOf(sql)
    const first = yield* reserve(sql)
    const second = client !== undefined && isSingle(client) ? open(client.config, "effect-sluice") : reserve(sql)
    return yield* isPooledBetween(first, yield* second)
  })).pipe(
    within(timeout),
    Effect.map(Option.getOrElse(() => false)),
    Effect.catchTag("SqlError", () => Effect.succeed(false))
  )
