/**
 * What runs after a commit. The client runs all that is registered by `sql.afterCommit` one after another, and lets nothing
 * of it be interrupted. A handler may register an effect that never ends. So Sluice's own effects run first, and the time
 * that the others may hold up a worker is limited.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Tables } from "./tables.ts"

/** The limit for transactions that come without one. */
export const longestAfterCommit = Duration.seconds(30)

/** Collects Sluice's own effects for the commit of the surrounding transaction. */
const CurrentOwn = Context.Reference<Array<Effect.Effect<void>> | undefined>("effect-sluice/store/pg/CurrentOwn", {
  defaultValue: () => undefined
})

/** Runs an effect of Sluice's own after the surrounding commit, or immediately when there is none. */
export const afterCommit = ({ afterCommit }: SqlClient, effect: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.flatMap(
    CurrentOwn,
    (own) => own === undefined ? afterCommit(effect) : Effect.sync(() => void own.push(effect))
  )

/** The commit of a transaction. */
export interface Commit {
  /** Must be the first that runs in the transaction. */
  readonly begun: Effect.Effect<void>
  /** What this part of the transaction registers by {@link afterCommit} runs before all that handlers have registered. */
  readonly first: <A, E, R>(part: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** Within a caller's transaction: what is registered waits for its commit, in the order of registration. */
const atOnce: Commit = { begun: Effect.void, first: (part) => part }

/**
 * Runs a transaction, and returns at most `timeout` after its commit; what is still running then continues alone. Has no
 * effect within a caller's transaction, whose commit is the caller's.
 */
export const notHeldUp = <E, R>(
  { client, sql }: Tables,
  timeout: Duration.Duration,
  transaction: (commit: Commit) => Effect.Effect<void, E, R>
): Effect.Effect<void, E, R> => {
  const bounded = Effect.uninterruptibleMask((restore) => {
    const committed = Deferred.makeUnsafe<void>()
    const own: Array<Effect.Effect<void>> = []
    const commit: Commit = {
      // registered first, so it runs first, right after the commit
      begun: sql.afterCommit(
        Effect.andThen(
          Deferred.succeed(committed, undefined),
          Effect.suspend(() =>
            Effect.forEach(own, (effect) => Effect.ignoreCause(effect, { log: "Error" }), { discard: true })
          )
        )
      ),
      first: Effect.provideService(CurrentOwn, own)
    }
    const late = Deferred.await(committed).pipe(
      Effect.andThen(Effect.sleep(timeout)),
      Effect.andThen(Effect.logWarning(
        `what a handler registered by sql.afterCommit did not end within ${Duration.format(timeout)}: ` +
          "the worker no longer waits for it"
      )),
      Effect.interruptible
    )
    return Effect.flatMap(
      Effect.forkDetach(Effect.interruptible(transaction(commit)), { startImmediately: true }),
      (fiber) =>
        // interruptible, because the race interrupts its loser
        restore(Effect.raceFirst(Effect.interruptible(Fiber.join(fiber)), late)).pipe(
          Effect.onInterrupt(() => Effect.raceFirst(Effect.interruptible(Fiber.interrupt(fiber)), late))
        )
    )
  })
  return Effect.flatMap(client.isCallers, (isCallers) => isCallers ? transaction(atOnce) : bounded)
}
