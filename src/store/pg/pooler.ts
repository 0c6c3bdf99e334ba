/**
 * Detects a pooler in transaction mode (usually PgBouncer) between a client and its server. Behind one, prepared statements
 * do not last, and notifications do not arrive. In statement mode it allows no transactions, so Sluice cannot work.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { DatabaseUnfit } from "../DatabaseUnfit.ts"
import { within } from "../within.ts"
import { codeOf } from "./errors.ts"
import { clientOf, isSingle, open, reserve, type Session } from "./session.ts"

const pidOf = (session: Session) =>
  Effect.map(session.run<{ pid: number }>("select pg_catalog.pg_backend_pid() as pid"), ([row]) => row?.pid)

const begin = (session: Session) => Effect.andThen(pidOf(session), session.run("begin"))

/** Whether the pooler ended the connection, and was not silent. The client does not always report the pooler's code. */
const isEnded = (error: SqlError): boolean =>
  codeOf(error) === "08P01" || (error.reason._tag === "ConnectionError" && error.reason.operation === "query")

/**
 * Asks two sessions for the process id of their server process. Without such a pooler each has its own. With one, another
 * process may answer a session's next statement, or the same process may answer both sessions. If the pooler reuses the most
 * recently returned process, the second session gets the first one's. If it reuses the longest idle one, the first session's
 * process changes. The second session stays in a transaction while the first asks once more, so a pooler cannot hide by
 * giving both the same process. A pooler in statement mode answers other statements, and ends the connection of a `begin`.
 */
export const isPooledBetween = Effect.fnUntraced(function*(
  first: Session,
  second: Session
): Effect.fn.Return<boolean, SqlError | DatabaseUnfit> {
  const pids = [yield* pidOf(first), yield* pidOf(first), yield* pidOf(first)]
  return yield* Effect.acquireUseRelease(
    Effect.catch(begin(second), (error) =>
      // one lost connection may be chance
      isEnded(error)
        ? Effect.matchEffect(begin(first), {
          onFailure: (again) => Effect.fail(isEnded(again) ? inStatementMode : error),
          onSuccess: () => Effect.fail(error)
        })
        : Effect.fail(error)),
    () =>
      Effect.gen(function*() {
        const other = yield* pidOf(second)
        if (new Set(pids).size > 1 || pids.includes(other)) return true
        return (yield* pidOf(first)) !== pids[0]
      }),
    () => Effect.ignore(second.run("rollback"))
  )
})

const inStatementMode = new DatabaseUnfit({
  problem: "pooler",
  reason:
    "a pooler in statement mode is in between, which allows no transactions: give it the mode transaction or session"
})

/** How long to wait for a second connection. */
const timeout = Duration.seconds(5)

/**
 * Whether the client is behind such a pooler. `false` when no second connection is available to determine it: the check is a
 * precaution, and must not keep a program from starting. Fails if the pooler is in statement mode.
 */
export const isPooled = (sql: SqlClient): Effect.Effect<boolean, DatabaseUnfit> =>
  Effect.scoped(Effect.gen(function*() {
    const client = clientOf(sql)
    const first = yield* reserve(sql, timeout)
    const second = client !== undefined && isSingle(client)
      ? open(client.config, { name: "effect-sluice", limit: timeout })
      : reserve(sql, timeout)
    return yield* isPooledBetween(first, yield* second)
  })).pipe(
    within(timeout),
    Effect.map(Option.getOrElse(() => false)),
    Effect.catchTag("SqlError", () => Effect.succeed(false))
  )
