/**
 * Drains under test: the usual questions to one, and drains over a store that behaves differently.
 */
import { ChunkStore, Drain } from "effect-sluice"
import { ChunkStoreError } from "effect-sluice/ChunkStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as inspect from "./inspect.ts"

type Store = ChunkStore.ChunkStore["Service"]

export const cycle = Drain.Drain.use((drain) => drain.cycle)
export const untilEmpty = Drain.Drain.use((drain) => drain.untilEmpty)
export const persistNow = (callId: string) => Drain.Drain.use((drain) => drain.persistNow(callId))

/** The first chunk of a call. */
export const chunkOf = (callId: string) =>
  Effect.map(inspect.call(callId), (view) => Option.getOrThrow(view).chunks[0]!)

/** A store with some verbs changed. */
export const storeWith = (change: (store: Store) => Partial<Store>) =>
  Layer.effect(
    ChunkStore.ChunkStore,
    Effect.map(ChunkStore.ChunkStore, (store) => ChunkStore.ChunkStore.of({ ...store, ...change(store) }))
  ).pipe(
    Layer.fresh
  )

/** A drain of its own, over a store with some verbs changed. */
export const drainWith = (change: (store: Store) => Partial<Store> = () => ({})) =>
  Layer.fresh(Drain.layer).pipe(Layer.provide(storeWith(change)))

/** What a drain did in transactions: how many it began, and how many chunks each that came to its end had. */
export interface Seen {
  transactions: number
  readonly sizes: Array<number>
}

/** Counts the transactions handlers run in. */
export const counting = (seen: Seen) => (store: Store): Partial<Store> => ({
  persist: (token, work) => {
    seen.transactions++
    return store.persist(
      token,
      (transaction) => Effect.tap(work(transaction), (lines) => Effect.sync(() => seen.sizes.push(lines.length)))
    )
  }
})

/** A database that is away. */
export const away = (operation: string) =>
  new ChunkStoreError({ operation, transient: true, reason: "the server is restarting" })
