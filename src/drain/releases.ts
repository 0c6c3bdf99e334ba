/**
 * Gives claimed chunks back. A caller waits only briefly for a database that does not answer: then the release is
 * retried in the background, until it succeeds or the drain's layer closes. Otherwise the chunks of a live worker would
 * count as held by a crashed one.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import { ChunkStore, type ChunkStoreError, type ClaimedChunk, Settlement } from "../ChunkStore.ts"

/** How long an ending claim waits for a release. */
const longestRelease = Duration.seconds(5)

const retrySchedule = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")])

/** The ways to give chunks back. */
export interface Releases {
  /** Now, and in the background if the database does not answer in time. */
  readonly soon: (token: string, chunks: ReadonlyArray<ClaimedChunk>) => Effect.Effect<void>
  /** In the background. */
  readonly later: (token: string, chunks: ReadonlyArray<ClaimedChunk>) => Effect.Effect<void>
  /** When a run that hangs has ended, which may be never. If their lease ran out before that, the crash stays counted. */
  readonly whenEnded: (
    ended: Effect.Effect<unknown>,
    token: string,
    chunks: ReadonlyArray<ClaimedChunk>
  ) => Effect.Effect<void>
  /** All chunks that a token holds, for a claim whose answer did not arrive. */
  readonly giveUp: (token: string) => Effect.Effect<void>
}

/** Makes the releases, for as long as the scope is open. */
export const make: Effect.Effect<Releases, never, ChunkStore | Scope> = Effect.gen(function*() {
  const store = yield* ChunkStore
  // in the layer's own context: the caller's transaction may be over when a retry runs
  const fork = yield* FiberSet.runtime(yield* FiberSet.make())()

  const inBackground = (release: Effect.Effect<unknown, ChunkStoreError>) =>
    Effect.sync(() => {
      fork(Effect.ignoreCause(Effect.retry(release, retrySchedule)))
    })
  const now = (release: Effect.Effect<unknown, ChunkStoreError>, otherwise = inBackground(release)) =>
    // `interruptible` innermost: an interrupted caller must still wait for the release
    Effect.interruptible(release).pipe(
      Effect.timeout(longestRelease),
      Effect.catchCause(() => otherwise),
      Effect.asVoid
    )
  // One loop for all tokens. Each claim during an outage leaves a token; with a loop for each, the number of queries
  // would grow with the length of the outage.
  const unheard = new Set<string>()
  const giveUpAll = Effect.gen(function*() {
    for (const token of unheard) {
      yield* Effect.ignoreCause(Effect.retry(store.giveUp(token), retrySchedule))
      unheard.delete(token)
    }
  })
  const giveUpLater = (token: string) =>
    Effect.sync(() => {
      unheard.add(token)
      if (unheard.size === 1) fork(giveUpAll)
    })
  // while other tokens wait, the database is unreachable
  const giveUp = (token: string) =>
    Effect.suspend(() => unheard.size > 0 ? giveUpLater(token) : now(store.giveUp(token), giveUpLater(token)))
  const release = (token: string, chunks: ReadonlyArray<ClaimedChunk>, hung = false) =>
    store.settle(token, chunks.map((chunk) => Settlement.Release({ chunk, hung })))

  return {
    soon: (token, chunks) => now(release(token, chunks)),
    later: (token, chunks) => inBackground(release(token, chunks)),
    whenEnded: (ended, token, chunks) => inBackground(Effect.andThen(ended, release(token, chunks, true))),
    giveUp
  }
})
