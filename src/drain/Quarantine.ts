/**
 * Runs a suspect chunk while no other batch runs in the process. A chunk that was held when a process died is a
 * suspect: if the process dies again while the chunk runs alone, the chunk is the cause. While a suspect waits for the
 * running batches, no other batch begins.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

/** More batches than can run at the same time. */
const mostBatches = 1024

/** Runs batches concurrently, or one of them alone. */
export interface Quarantine {
  readonly shared: <A, E, R>(run: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly alone: <A, E, R>(run: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** Whether a fiber belongs to a batch that already runs, and need not wait: a handler may persist another call inline. */
export const IsAdmitted = Context.Reference("effect-sluice/Quarantine/IsAdmitted", { defaultValue: () => false })

const admit = <A, E, R>(
  run: Effect.Effect<A, E, R>,
  letIn: (run: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(IsAdmitted, (isAdmitted) => isAdmitted ? run : letIn(Effect.provideService(run, IsAdmitted, true)))

/** Makes a quarantine. */
export const make = (): Quarantine => {
  const door = Semaphore.makeUnsafe(1)
  const seats = Semaphore.makeUnsafe(mostBatches)
  return {
    shared: (run) =>
      admit(run, (entered) => Effect.andThen(door.withPermits(1)(Effect.void), seats.withPermits(1)(entered))),
    alone: (run) => admit(run, (entered) => door.withPermits(1)(seats.withPermits(mostBatches)(entered)))
  }
}

/** The quarantine of this process: all drains in it share it, because they die together. */
export const Quarantine = Context.Reference<Quarantine>("effect-sluice/Quarantine", { defaultValue: make })
