/**
 * Gives claimed chunks back. Nobody waits long for a database that does not answer: the release is then retried in the
 * background, until it succeeds or the drain's layer closes, so that the chunks of a living worker do not count as held by one
 * that died.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import { ChunkStore, type ChunkStoreError, type ClaimedChunk, Settlement } from "../ChunkStore.ts"

/** How long a claim that ends waits for a release. */
export const patience = Duration.seconds(5)

const again = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")])

/** The ways to give chunks back. */
export interface Releases {
  /** Now, and in the background where the database does not answer in time. */
  readonly soon: (token: string, chunks: ReadonlyArray<ClaimedChunk>) => Effect.Effect<void>
  /** In the background. */
  readonly later: (token: string, chunks: ReadonlyArray<ClaimedChunk>) => Effect.Effect<void>
  /** When a run that hangs has ended, which may be never. If their lease was over by then, the crash stays counted. */
  readonly whenEnded: (
    ended: Effect.Effect<unknown>,
    token: string,
    chunks: ReadonlyArray<ClaimedChunk>
  ) => Effect.Effect<void>
  /** Whatever a token holds, for a claim whose answer did not arrive. */
  readonly giveUp: (token: string) => Effect.Effect<void>
}

/** Makes them, for as long as the scope is open. */
export const make: Effect.Effect<Releases, never, ChunkStore | Scope> = Effect.gen(function*() {
  const store = yield* ChunkStore
  // in the layer's own context: the caller may be in a transaction, which is over by the time a retry runs
  const fork = yield* FiberSet.runtime(yield* FiberSet.make())()

  const inBackground = (release: Effect.Effect<unknown, ChunkStoreError>) =>
    Effect.sync(() => {
      fork(Effect.ignoreCause(Effect.retry(release, again)))
    })
  const now = (release: Effect.Effect<unknown, ChunkStoreError>, otherwise = inBackground(release)) =>
    // `interruptible` innermost: a caller that was interrupted already must still wait for the release
    Effect.interruptible(release).pipe(
      Effect.timeout(patience),
      Effect.catchCause(() => otherwise),
      Effect.asVoid
    )
  // One loop for all tokens. Each claim of an outage leaves one, and loops of their own would ask the database ever more often
  // the longer it is away.
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
  // while other tokens wait, the database is away
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
