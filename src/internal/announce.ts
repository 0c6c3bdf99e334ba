/** Publishes what is committed. An application may bring a `DomainEvents` of its own, whose `publish` may hang or fail. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { DomainEvents } from "../DomainEvents.ts"
import type { DomainObjectCreated } from "../DomainObject.ts"

/**
 * Publishes the events, also when the caller is interrupted: the publication begins at once. An interrupted caller does not
 * wait for its end, also in a region that cannot be interrupted. A publication that fails is logged: the rows are committed.
 */
export const announce = (
  { publish }: DomainEvents["Service"],
  created: ReadonlyArray<DomainObjectCreated>
): Effect.Effect<void> =>
  created.length === 0 ? Effect.void : Effect.suspend(() => publish(created)).pipe(
    Effect.ignoreCause({ log: "Error" }),
    Effect.interruptible,
    Effect.forkDetach({ startImmediately: true }),
    Effect.flatMap((publication) => Effect.interruptible(Fiber.await(publication))),
    Effect.exit,
    Effect.asVoid
  )
