/**
 * Work that can be given up though it hangs: a handler that cannot be interrupted must not hold up its worker for ever.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"

/** How long whoever ends waits for what does not answer. */
export const hangUp = Duration.seconds(5)

/**
 * An effect that can be given up even while it cannot be interrupted: then `onHang` is told when it ends after all, which
 * may be never.
 */
export const abandonable = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  onHang: (ended: Effect.Effect<unknown>) => Effect.Effect<unknown>
): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.forkDetach(Effect.interruptible(effect), { startImmediately: true }),
      (fiber) =>
        restore(Fiber.join(fiber)).pipe(
          Effect.onInterrupt(() =>
            Effect.flatMap(
              Effect.timeoutOption(Effect.interruptible(Fiber.interrupt(fiber)), hangUp),
              (ended) => Option.isNone(ended) ? onHang(Fiber.await(fiber)) : Effect.void
            )
          )
        )
    )
  )
