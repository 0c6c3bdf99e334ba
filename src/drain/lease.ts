/** Renews the lease of a claim every third of its length while the claim runs. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { ChunkStore, type ClaimedChunk } from "../ChunkStore.ts"

/** A claim's hold on its chunks. */
export interface Lease {
  /** Renews it until it is interrupted. */
  readonly keep: Effect.Effect<never>
  /** Requests a renewal now, if one is due: after a long transaction, whose rows could not be renewed. */
  readonly refresh: Effect.Effect<void>
}

/**
 * The lease of the chunks that are `held` under a token. A failed renewal is only logged: the next may succeed, and a
 * commit without the lease fails. A chunk counts as lost when two renewals in a row did not find it: the first may have
 * run between the commit of its batch and the recording of its outcome.
 */
export const make = Effect.fnUntraced(function*(
  token: string,
  lease: Duration.Duration,
  held: () => ReadonlyArray<ClaimedChunk>
): Effect.fn.Return<Lease, never, ChunkStore> {
  const store = yield* ChunkStore
  const clock = yield* Clock.Clock
  const third = Duration.times(lease, 1 / 3)
  let renewed = clock.monotonicTimeNanosUnsafe()
  let missed: ReadonlySet<ClaimedChunk> = new Set()
  let warned = false

  const warnOnce = (message: string) => {
    if (warned) return Effect.logDebug(message)
    warned = true
    return Effect.logWarning(message)
  }

  const renew = Effect.suspend(() => {
    const asked = held()
    return Effect.matchEffect(store.renew(token, asked, lease), {
      onFailure: (error) => warnOnce(`the lease of ${asked.length} chunks was not renewed: ${error.message}`),
      onSuccess: (kept) => {
        renewed = clock.monotonicTimeNanosUnsafe()
        const found = new Set(kept)
        const outstanding = new Set(held())
        const missing = asked.filter((chunk) => !found.has(chunk) && outstanding.has(chunk))
        const lost = missing.filter((chunk) => missed.has(chunk))
        missed = new Set(missing)
        return lost.length === 0 ? Effect.void : warnOnce(
          `${lost.length} of ${asked.length} chunks no longer belong to this claim: its lease ran out. This claim will not ` +
            `change them; raise SLUICE_LEASE if this process often pauses for that long`
        )
      }
    })
  })

  const requested = yield* Latch.make(false)
  /** Waits for the next renewal. Timers that are late by more than a lease show that the process was stopped. */
  const wait = Effect.suspend(() => {
    const begun = clock.monotonicTimeNanosUnsafe()
    return Effect.flatMap(Effect.raceFirst(Effect.sleep(third), requested.await), () => {
      const passed = Duration.nanos(clock.monotonicTimeNanosUnsafe() - begun)
      return Duration.isLessThan(passed, Duration.sum(third, lease)) ? Effect.void : warnOnce(
        `this process stood still for ${Duration.format(Duration.seconds(Math.round(Duration.toSeconds(passed))))}, ` +
          `longer than its lease: another worker may have taken its ${held().length} chunks. What that one persisted, this ` +
          `one does not persist again`
      )
    })
  })
  return {
    keep: Effect.forever(Effect.andThen(wait, Effect.andThen(requested.close, renew))),
    refresh: Effect.suspend(() =>
      Number(clock.monotonicTimeNanosUnsafe() - renewed) / 1e6 < Duration.toMillis(third) ? Effect.void : requested.open
    )
  }
})
