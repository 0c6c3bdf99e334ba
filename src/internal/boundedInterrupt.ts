/**
 * Bounds the interruption time of effects: a module or a layer that cannot be interrupted must not block the start or
 * the end of a program.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/** How long an interruption waits for an effect that does not end. */
export const longestInterrupt = Duration.seconds(5)

/**
 * The effect; when it is interrupted and does not end within {@link longestInterrupt}, it is left running in the
 * background.
 */
export const boundedInterrupt = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.forkDetach(Effect.interruptible(effect), { startImmediately: true }),
      (fiber) =>
        restore(Fiber.join(fiber)).pipe(
          Effect.onInterrupt(() => Effect.timeoutOption(Effect.interruptible(Fiber.interrupt(fiber)), longestInterrupt))
        )
    )
  )
