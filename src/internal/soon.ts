/**
 * Waits at most a second for code of the application. After that it interrupts the code and does not wait for its end,
 * because it may be uninterruptible.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"

/** How long to wait. */
const timeout = Duration.seconds(1)

/** The exit of an effect, if it ends within a second. A synchronous effect costs no extra step. */
export const soon = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<Option.Option<Exit.Exit<A, E>>, never, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.forkDetach(Effect.interruptible(effect), { startImmediately: true }),
      (fiber) => {
        const exit = fiber.pollUnsafe()
        return exit !== undefined ? Effect.succeed(Option.some(exit)) : Effect.ensuring(
          restore(Effect.timeoutOption(Fiber.await(fiber), timeout)),
          Effect.sync(() => fiber.interruptUnsafe())
        )
      }
    )
  )
