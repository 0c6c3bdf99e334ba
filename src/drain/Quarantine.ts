/**
 * Batches share the process, but a chunk that was held when a process died has it to itself: when the process dies again,
 * that says something about the chunk. While the chunk waits for its turn no others begin.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

/** More batches than ever run at once. */
const everybody = 1024

/** Lets batches run side by side, or one of them alone. */
export interface Quarantine {
  readonly shared: <A, E, R>(run: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly alone: <A, E, R>(run: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** Whether a fiber belongs to a batch that was let in: then it waits for nobody. A handler may persist another call inline. */
export const IsInside = Context.Reference("effect-sluice/Quarantine/IsInside", { defaultValue: () => false })

const inside = <A, E, R>(
  run: Effect.Effect<A, E, R>,
  letIn: (run: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(IsInside, (isInside) => isInside ? run : letIn(Effect.provideService(run, IsInside, true)))

/** A quarantine of its own. */
export const make = (): Quarantine => {
  const door = Semaphore.makeUnsafe(1)
  const seats = Semaphore.makeUnsafe(everybody)
  return {
    shared: (run) =>
      inside(run, (entered) => Effect.andThen(door.withPermits(1)(Effect.void), seats.withPermits(1)(entered))),
    alone: (run) => inside(run, (entered) => door.withPermits(1)(seats.withPermits(everybody)(entered)))
  }
}

/** The quarantine of this process, for all drains in it: it is the process that dies. */
export const Quarantine = Context.Reference<Quarantine>("effect-sluice/Quarantine", { defaultValue: make })
