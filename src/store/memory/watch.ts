/**
 * Observes the use of a database in memory by handlers' runs. A transaction there contains only rows: a run cannot leave
 * anything else in it, so any run may share a transaction with others.
 */
import * as Effect from "effect/Effect"
import type { Watch } from "../../ChunkStore.ts"
import { Observer } from "../MemoryDatabase.ts"

/** One run of a handler. */
export class Run implements Watch {
  readonly refusal = undefined
  #sent = false
  #ended = false

  get sent(): boolean {
    return this.#sent
  }

  of<A, E, R>(run: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.flatMap(Observer, (outer) =>
      Effect.provideService(run, Observer, () => {
        outer?.()
        if (this.#ended) throw new Error("the handler's run is over, and its transaction with it")
        this.#sent = true
      }))
  }

  end(): void {
    this.#ended = true
  }
}
