/**
 * Limits the time that the effects which handlers register by `sql.afterCommit` may hold up a worker. The client waits
 * for them after the commit and does not let them be interrupted, so one that never ends would stop the worker.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Tables } from "./tables.ts"

/** The limit for transactions that come without one. */
export const longestAfterCommit = Duration.seconds(30)

/**
 * Runs a transaction, and returns at most `timeout` after its commit; what is still running then continues alone. Has no
 * effect within a caller's transaction, whose commit is the caller's. The transaction must run `begun` first.
 */
export const notHeldUp = <E, R>(
  { client, sql }: Tables,
  timeout: Duration.Duration,
  transaction: (begun: Effect.Effect<void>) => Effect.Effect<void, E, R>
): Effect.Effect<void, E, R> => {
  const bounded = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const committed = yield* Deferred.make<void>()
      // registered first, so it runs first, right after the commit
      const begun = sql.afterCommit(Effect.asVoid(Deferred.succeed(committed, undefined)))
      const fiber = yield* Effect.forkDetach(Effect.interruptible(transaction(begun)), { startImmediately: true })
      const late = Deferred.await(committed).pipe(
        Effect.andThen(Effect.sleep(timeout)),
        Effect.andThen(Effect.logWarning(
          `what a handler registered by sql.afterCommit did not end within ${Duration.format(timeout)}: ` +
            "the worker no longer waits for it"
        )),
        Effect.interruptible
      )
      // interruptible, because the race interrupts its loser
      yield* restore(Effect.raceFirst(Effect.interruptible(Fiber.join(fiber)), late)).pipe(
        Effect.onInterrupt(() => Effect.raceFirst(Effect.interruptible(Fiber.interrupt(fiber)), late))
      )
    })
  )
  return Effect.flatMap(client.isCallers, (isCallers) => isCallers ? transaction(Effect.void) : bounded)
}
