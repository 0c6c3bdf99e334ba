/**
 * The ways in which the claim of a chunk ends, other than by persisting it.
 *
 * ```ts
 * yield* store.settle(token, [ChunkStore.Settlement.Release({ chunk })])
 * ```
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import type { DeathReason, ParkReason } from "./CallView.ts"
import type { ClaimedChunk } from "./Chunk.ts"

/**
 * The kind of a failure. `failed`: the handler failed with an error; `defect`: it threw; `timeout`: it ran for too
 * long; `spoiled`: it left its transaction unable to commit; `rejected`: its rejected answer was asked for again
 * (`RejectedAnswers`). The other kinds mean that no handler ran, and are the reason why the chunk was buried.
 */
export type FailureKind = "failed" | "defect" | "timeout" | "spoiled" | DeathReason

/** A failure of a chunk, for its history. */
export interface Failure {
  /** `namespace/short-name`, or `""` when no handler ran. */
  readonly handler: string
  /** How it failed. */
  readonly kind: FailureKind
  /** The error's message. What was recorded is left out of it. */
  readonly message: string
}

/** How a claimed chunk ends, other than persisted. */
export type Settlement = Data.TaggedEnum<{
  /** Charged one attempt, and retried after `delay`. */
  Retry: { readonly chunk: ClaimedChunk; readonly delay: Duration.Duration; readonly failure: Failure }
  /** Kept out of the active queue until it is unparked; costs no attempt. */
  Park: { readonly chunk: ClaimedChunk; readonly reason: ParkReason }
  /** Becomes a dead letter; `charge` is true when a handler ran and failed. */
  Bury: {
    readonly chunk: ClaimedChunk
    readonly reason: DeathReason
    readonly charge: boolean
    readonly failure: Failure
  }
  /** Already in the ledger: only the queue row is deleted. */
  Already: { readonly chunk: ClaimedChunk }
  /**
   * Given back immediately, at no cost. It also shows that the worker lives: if its lease ran out and another worker
   * has the chunk by now, the counted crash is taken back. Except when its handler `hung`, which counts like a crash.
   */
  Release: { readonly chunk: ClaimedChunk; readonly hung?: boolean }
}>
/** The constructors of settlements. */
export const Settlement = Data.taggedEnum<Settlement>()

/** A settlement that took effect, because the claim still held the chunk. */
export interface Settled {
  /** The settlement as it was given. */
  readonly settlement: Settlement
  /** Whether the chunks behind it in its ordering key may run now. */
  readonly freesKey: boolean
}

/**
 * Whether a settlement frees its ordering key: the chunk is persisted, or it is dead and dead chunks do not block their
 * key (`SLUICE_DEAD_BLOCKS_KEY`). Stores return the result of this function, so the rule is defined once.
 */
export const freesKey = (settlement: Settlement, deadBlocksKey: boolean): boolean =>
  settlement._tag === "Already" || (settlement._tag === "Bury" && !deadBlocksKey)
