/**
 * Gives claimed chunks back. Nobody waits long for a database that is away: the rest is done beside, until it succeeds or
 * the drain's layer closes, so that chunks of a worker that lives do not count as held by one that died.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import { ChunkStore, type ClaimedChunk, type StoreError } from "../ChunkStore.ts"

/** How long whoever ends waits for a release. */
export const patience = Duration.seconds(5)

const again = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")])

/** The ways to give chunks back. */
export interface Releases {
  /** At once, if the database answers. */
  readonly soon: (token: string, chunks: ReadonlyArray<ClaimedChunk>) => Effect.Effect<void>
  /** Without waiting for it. */
  readonly later: (token: string, chunks: ReadonlyArray<ClaimedChunk>) => Effect.Effect<void>
  /** When an effect has ended, which may be never. */
  readonly after: (
    ended: Effect.Effect<unknown>,
    token: string,
    chunks: ReadonlyArray<ClaimedChunk>
  ) => Effect.Effect<void>
  /** Whatever a token holds, for a claim whose answer was not heard. */
  readonly giveUp: (token: string) => Effect.Effect<void>
}

/** Makes them, for as long as the scope is open. */
export const make: Effect.Effect<Releases, never, ChunkStore | Scope> = Effect.gen(function*() {
  const store = yield* ChunkStore
  // In the layer's own context: whoever asks may be in a transaction, which is over by then.
  const fork = yield* FiberSet.runtime(yield* FiberSet.make())()

  const beside = (release: Effect.Effect<unknown, StoreError>) =>
    Effect.sync(() => {
      fork(Effect.ignoreCause(Effect.retry(release, again)))
    })
  const atOnce = (release: Effect.Effect<unknown, StoreError>, otherwise = beside(release)) =>
    // not the other way round: whoever was told to stop would be interrupted here at once, and wait for nothing
    Effect.interruptible(release).pipe(
      Effect.timeout(patience),
      Effect.catchCause(() => otherwise),
      Effect.asVoid
    )
  // One loop for all of them: each claim of an outage leaves a token, and loops of their own would ask the database ever more
  // often the longer it is away.
  const unheard = new Set<string>()
  const giveUpAll = Effect.gen(function*() {
    for (const token of unheard) {
      yield* Effect.ignoreCause(Effect.retry(store.giveUp(token), again))
      unheard.delete(token)
    }
  })
  const giveUpLater = (token: string) =>
    Effect.sync(() => {
      unheard.add(token)
      if (unheard.size === 1) fork(giveUpAll)
    })
  const giveUp = (token: string) =>
    // while others wait, the database is away
    Effect.suspend(() => unheard.size > 0 ? giveUpLater(token) : atOnce(store.giveUp(token), giveUpLater(token)))
  const release = (token: string, chunks: ReadonlyArray<ClaimedChunk>) =>
    store.settle(token, chunks.map((chunk) => ({ _tag: "Release", chunk })))

  return {
    soon: (token, chunks) => atOnce(release(token, chunks)),
    later: (token, chunks) => beside(release(token, chunks)),
    after: (ended, token, chunks) => beside(Effect.andThen(ended, release(token, chunks))),
    giveUp
  }
})
