/**
 * Transactions that stay open for as long as a test likes.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as SqlClient from "effect/sql/SqlClient"
import { untilIt } from "./until.ts"

/** Runs an effect in a transaction that stays open until `end`. */
export const heldOpen = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
  const sql = yield* SqlClient.SqlClient
  const done = yield* Latch.make(false)
  const mayEnd = yield* Latch.make(false)
  const fiber = yield* Effect.forkScoped(
    sql.withTransaction(Effect.tap(effect, () => Effect.andThen(done.open, mayEnd.await)))
  )
  yield* Effect.raceFirst(done.await, Fiber.join(fiber))
  return { end: Effect.andThen(mayEnd.open, Fiber.join(fiber)) }
})

/** Until an effect that runs beside waits for a lock of this database, beside others that wait already, or has ended. */
export const waitsOrEnds = <A, E>(fiber: Fiber.Fiber<A, E>, others = 0) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    untilIt(
      Effect.all([
        sql`select pid, query from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        Effect.sync(() => fiber.pollUnsafe() !== undefined)
      ]),
      ([waiting, ended]) => waiting.length > others || ended
    ))
