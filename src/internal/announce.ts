/** Publishes what is committed. An application may bring a `DomainEvents` of its own, whose `publish` may hang or fail. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { LazyArg } from "effect/Function"

/**
 * Begins a publication at once and waits for its end. An interrupted caller stops waiting, even in a region that cannot be
 * interrupted, and the publication continues. A failure is only logged, because the rows are committed.
 */
export const announce = (publication: LazyArg<Effect.Effect<void>>): Effect.Effect<void> =>
  Effect.suspend(publication).pipe(
    Effect.ignoreCause({ log: "Error", message: "publishing created objects failed; they are committed" }),
    Effect.interruptible,
    Effect.forkDetach({ startImmediately: true }),
    Effect.flatMap((fiber) => Effect.interruptible(Fiber.await(fiber))),
    Effect.exit,
    Effect.asVoid
  )
