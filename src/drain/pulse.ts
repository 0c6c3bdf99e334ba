/**
 * Tracks the drain's health. A drain is silent when it has made no progress for a long time: an orchestrator should
 * restart the process. An unreachable database does not make it silent: cycles and beats still end, with an error.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { ChunkStoreError } from "../ChunkStore.ts"

/** Whether a drain makes progress, and its last error. */
export interface Health {
  /** Why it counts as silent, else `undefined`. */
  readonly silent: string | undefined
  /** The database's last error in a claim, a claim's run, or a beat; cleared when the same step succeeds. */
  readonly trouble: ChunkStoreError | undefined
}

/** The pulse of a drain. */
export interface Pulse {
  /** Records progress. */
  readonly progress: () => void
  /** Runs a part of a cycle, during which progress is expected. `proves`: whether its success clears an earlier error. */
  readonly watch: <A, E, R>(
    kind: "claim" | "run",
    part: Effect.Effect<A, E, R>,
    proves?: (result: A) => boolean
  ) => Effect.Effect<A, E, R>
  /** Records the end of a beat, with its error if it failed. */
  readonly beat: (error: ChunkStoreError | undefined) => void
  readonly health: Effect.Effect<Health>
}

/** After this many leases without progress it counts as silent. */
const leases = 3

/** The pulse of a drain. `longestRun` is the longest time that a run of its slowest handler may take. */
export const make = Effect.fnUntraced(function*(options: {
  readonly lease: Duration.Duration
  /** Zero: it beats only at its cycles, and these may be far apart. */
  readonly beatInterval: Duration.Duration
  readonly longestRun: Duration.Duration
}): Effect.fn.Return<Pulse> {
  const clock = yield* Clock.Clock
  const now = () => clock.monotonicTimeNanosUnsafe()
  const lease = Duration.toMillis(options.lease)
  const silentAfter = leases * lease + Duration.toMillis(options.longestRun)
  const interval = Duration.toMillis(options.beatInterval)
  // a lease may be shorter than the time from one beat to the next
  const beatSilentAfter = interval + leases * lease
  const troubles = new Map<string, ChunkStoreError>()
  let moved = now()
  let beaten: bigint | undefined
  let running = 0

  const since = (time: bigint) => Number(now() - time) / 1e6
  const silence = (): string | undefined => {
    if (running > 0 && since(moved) > silentAfter) return `no cycle has come further for ${seconds(since(moved))}`
    return interval > 0 && beaten !== undefined && since(beaten) > beatSilentAfter
      ? `no beat has ended for ${seconds(since(beaten))}`
      : undefined
  }

  return {
    progress: () => {
      moved = now()
    },
    watch: (kind, part, proves = () => true) =>
      Effect.suspend(() => {
        running++
        moved = now()
        return Effect.onExit(part, (exit) =>
          Effect.sync(() => {
            running--
            moved = now()
            if (Exit.isSuccess(exit)) {
              if (proves(exit.value)) troubles.delete(kind)
              return
            }
            const error = Cause.squash(exit.cause)
            if (error instanceof ChunkStoreError) troubles.set(kind, error)
          }))
      }),
    beat: (error) => {
      beaten = now()
      if (error === undefined) troubles.delete("beat")
      else troubles.set("beat", error)
    },
    health: Effect.sync(() => ({ silent: silence(), trouble: [...troubles.values()].at(-1) }))
  }
})

const seconds = (millis: number): string => Duration.format(Duration.seconds(Math.round(millis / 1000)))
