/**
 * What handlers register for their commit by `sql.afterCommit`. The client waits for it after the commit, and does not let
 * it be interrupted: one that does not end would stop the worker.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Tables } from "./tables.ts"

/** How long it is waited for, unless a run of its handler may take longer or must be shorter. */
export const longestAfterCommit = Duration.seconds(30)

/**
 * Runs a transaction, and waits no longer than `timeout` after its commit. What was registered then goes on by itself. A
 * caller's transaction is the caller's, who waits for it. `begun` is to be run first in the transaction.
 */
export const notHeldUp = <E, R>(
  { client, sql }: Tables,
  timeout: Duration.Duration,
  transaction: (begun: Effect.Effect<void>) => Effect.Effect<void, E, R>
): Effect.Effect<void, E, R> => {
  const bounded = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const committed = yield* Deferred.make<void>()
      // it is registered first, so it runs first
      const begun = sql.afterCommit(Effect.asVoid(Deferred.succeed(committed, undefined)))
      const fiber = yield* Effect.forkDetach(Effect.interruptible(transaction(begun)), { startImmediately: true })
      const late = Deferred.await(committed).pipe(
        Effect.andThen(Effect.sleep(timeout)),
        Effect.andThen(Effect.logWarning(
          `what a handler has registered by sql.afterCommit did not end within ${Duration.format(timeout)}: ` +
            "it is no longer waited for"
        )),
        Effect.interruptible
      )
      // interruptible within the race, because its loser is interrupted
      yield* restore(Effect.raceFirst(Effect.interruptible(Fiber.join(fiber)), late)).pipe(
        Effect.onInterrupt(() => Effect.raceFirst(Effect.interruptible(Fiber.interrupt(fiber)), late))
      )
    })
  )
  return Effect.flatMap(client.isCallers, (isCallers) => isCallers ? transaction(Effect.void) : bounded)
}
