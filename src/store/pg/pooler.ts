/**
 * Whether a pooler in transaction mode (PgBouncer, as it is mostly run) is between a client and its server: then nothing that
 * is prepared lasts, and nothing can be heard.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlClient } from "effect/sql/SqlClient"
import { within } from "../within.ts"
import { clientOf, isSingle, open, reserve, type Session } from "./session.ts"

const pidOf = (session: Session) =>
  Effect.map(session.run<{ pid: number }>("select pg_catalog.pg_backend_pid() as pid"), ([row]) => row?.pid)

/**
 * Asks two sessions which server process answers. Without such a pooler each has its own. With one, a session's next statement may
 * be answered by another process, or both sessions by the same one: when the pooler hands out first what came back last, the second
 * session is given the first one's process; when it hands out what has been idle longest, the first session changes. The second
 * session stays in a transaction while the first asks once more, so that a pooler cannot give both the same process unnoticed.
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

/** How long a second connection is waited for. */
const patience = "5 seconds"

/**
 * Whether the client is behind such a pooler. `false` when that cannot be found out, for want of a second connection: it is a
 * precaution, and must not keep a program from starting.
 */
export const isPooled = (sql: SqlClient) =>
  Effect.scoped(Effect.gen(function*() {
    const client = clientOf(sql)
    const first = yield* reserve(sql)
    const second = client !== undefined && isSingle(client) ? open(client.config, "effect-sluice") : reserve(sql)
    return yield* isPooledBetween(first, yield* second)
  })).pipe(
    within(patience),
    Effect.map(Option.getOrElse(() => false)),
    Effect.catchTag("SqlError", () => Effect.succeed(false))
  )
