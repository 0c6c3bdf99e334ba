/**
 * A time limit that holds even when the effect cannot be interrupted in time.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"

/**
 * The effect's result, or none after the limit. Unlike a plain timeout it does not wait for the interrupted effect:
 * cancelling a statement needs a request to the server, which may be the server that does not answer.
 */
export const within = (limit: Duration.Input) =>
<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<
  Option.Option<A>,
  E,
  R
> =>
  Effect.flatMap(Effect.forkDetach(effect, { startImmediately: true }), (fiber) =>
    Fiber.join(fiber).pipe(
      Effect.timeoutOption(limit),
      Effect.ensuring(Effect.forkDetach(Fiber.interrupt(fiber)))
    ))
