/**
 * Work that can be given up although it hangs: a module or a layer that cannot be interrupted must not hold up a start or
 * an end for ever.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/** How long whoever ends waits for what does not answer. */
export const hangUp = Duration.seconds(5)

/** An effect that is left behind when it was interrupted and goes on for longer than {@link hangUp}. */
export const leavable = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.forkDetach(Effect.interruptible(effect), { startImmediately: true }),
      (fiber) =>
        restore(Fiber.join(fiber)).pipe(
          Effect.onInterrupt(() => Effect.timeoutOption(Effect.interruptible(Fiber.interrupt(fiber)), hangUp))
        )
    )
  )
