/**
 * Batches share the process, but a chunk that was there when a process died has it to itself: what dies with it then says
 * something about it. While it waits for its turn no others begin.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

/** More batches than ever run at once. */
const everybody = 1024

/** A room for batches. */
export interface Room {
  readonly shared: <A, E, R>(run: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly alone: <A, E, R>(run: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** A room of its own. */
export const make = (): Room => {
  const door = Semaphore.makeUnsafe(1)
  const seats = Semaphore.makeUnsafe(everybody)
  return {
    shared: (run) => Effect.andThen(door.withPermits(1)(Effect.void), seats.withPermits(1)(run)),
    alone: (run) => door.withPermits(1)(seats.withPermits(everybody)(run))
  }
}

/** The room of this process, for all drains in it: it is the process that dies. */
export const Room = Context.Reference<Room>("effect-sluice/Drain/Room", { defaultValue: make })
