/**
 * Waits for code of the application for a short time only. What is interrupted then is not waited for: it may not be
 * interruptible.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"

/** How long it is waited for. */
const timeout = Duration.seconds(1)

/** How an effect ends, if it does so within a second. What ends synchronously costs no step of the waiting fiber. */
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
