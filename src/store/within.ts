/**
 * A time limit that holds whatever is waited for.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"

/**
 * The effect's answer, or none after so long. Unlike a plain timeout it does not wait for what it gave up: a statement
 * is cancelled by asking a server that may be the very one that does not answer.
 */
export const within = (limit: Duration.Input) =>
<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<
  Option.Option<A>,
  E,
  R
> =>
  Effect.flatMap(Effect.forkDetach(effect), (fiber) =>
    Fiber.join(fiber).pipe(
      Effect.timeoutOption(limit),
      Effect.ensuring(Effect.forkDetach(Fiber.interrupt(fiber)))
    ))
