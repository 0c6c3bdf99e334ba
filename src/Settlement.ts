/**
 * How the claim of a chunk ends, other than by persisting it.
 *
 * ```ts
 * yield* store.settle(token, [Settlement.Release({ chunk })])
 * ```
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import type { DeathReason, ParkReason } from "./CallView.ts"
import type { ClaimedChunk } from "./Chunk.ts"

/**
 * What kind of failure it was. `failed`: the handler failed with an error; `defect`: it threw; `timeout`: it ran for too long;
 * `spoiled`: it left its transaction unable to commit. Otherwise no handler ran, and it is why the chunk was buried.
 */
export type FailureKind = "failed" | "defect" | "timeout" | "spoiled" | DeathReason

/** What went wrong with a chunk, for its history. */
export interface Failure {
  /** `namespace/short-name`, or `""` when no handler ran. */
  readonly handler: string
  readonly kind: FailureKind
  readonly message: string
}

/** How a claimed chunk ends, other than persisted. */
export type Settlement = Data.TaggedEnum<{
  /** Charged one attempt, tried again after `delay`. */
  Retry: { readonly chunk: ClaimedChunk; readonly delay: Duration.Duration; readonly failure: Failure }
  /** Out of the hot queue until it is unparked; costs nothing. */
  Park: { readonly chunk: ClaimedChunk; readonly reason: ParkReason }
  /** To the dead letters; `charge` when a handler ran and failed. */
  Bury: {
    readonly chunk: ClaimedChunk
    readonly reason: DeathReason
    readonly charge: boolean
    readonly failure: Failure
  }
  /** In the ledger already: only the queue row goes. */
  Already: { readonly chunk: ClaimedChunk }
  /**
   * Given back at once, at no cost. It also says that the worker lives: where its lease ran out and another worker has the
   * chunk by now, the crash that was counted is taken back. Not when its handler `hung`, which is as bad as a crash.
   */
  Release: { readonly chunk: ClaimedChunk; readonly hung?: boolean }
}>
/** The constructors of settlements. */
export const Settlement = Data.taggedEnum<Settlement>()

/** A settlement that took effect, because the claim still held the chunk. */
export interface Settled {
  readonly settlement: Settlement
  /** Whether the chunks behind it of its ordering key may run now. */
  readonly freesKey: boolean
}

/**
 * Whether a settlement frees its ordering key: the chunk is persisted, or it is dead and the dead do not block their key
 * (`SLUICE_DEAD_BLOCKS_KEY`). The one place that says so: stores answer with it.
 */
export const freesKey = (settlement: Settlement, deadBlocksKey: boolean): boolean =>
  settlement._tag === "Already" || (settlement._tag === "Bury" && !deadBlocksKey)
