/**
 * What the port's verbs that record are given, and what they return.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { CallAttempt } from "./CallAttempt.ts"
import type { LeaseLost } from "./internal/storeErrors.ts"
import type { ServiceCall } from "./ServiceCall.ts"
import type { UsageEntry } from "./Usage.ts"

/**
 * The database refuses this one call although the database itself works: its encoding lacks a character, or a
 * constraint or a trigger outside Sluice refuses it. Nothing of the call was written.
 */
export interface RefusedByStore {
  /** Tells a refusal from the other outcomes. */
  readonly _tag: "Refused"
  /** The database's message. */
  readonly reason: string
}

/** The outcome of one call given to `record`. */
export type RecordOutcome = "recorded" | "unchanged" | "conflict" | "erased" | RefusedByStore

/** What a run adds to its call at its end, in the commit that records the end. */
export interface Added {
  /** The answers that the run was given: rows beside those of earlier runs. */
  readonly attempts?: ReadonlyArray<CallAttempt> | undefined
  /** What is added to the usage. The recorder derives it; stores only sum it up. */
  readonly usage?: ReadonlyArray<UsageEntry> | undefined
}

/** A finished call to be recorded. */
export interface Recording extends ServiceCall, Added {}

/** A claim that holds the chunks of a call from its recording on. */
export interface Hold {
  /** The token of the claim. */
  readonly token: string
  /** The name of the worker, for display. */
  readonly worker: string
  /** How long the chunks are held without a renewal. */
  readonly lease: Duration.Duration
}

/** A call that `persist` records at the end of its handlers' transaction. */
export interface ToRecord {
  /**
   * The call. Its handlers may run if it is new, or its chunks are held by the claim, and no kind of its outputs is paused.
   */
  readonly call: Recording
  /** Called if it is neither, or a kind of its outputs is paused, before `persist` fails with `LeaseLost`. */
  readonly notNew: () => void
  /** Called after work that persisted something. Undefined if the call was recorded meanwhile, and is held by the claim. */
  readonly atEnd: Effect.Effect<Unrecorded | undefined, LeaseLost>
}

/** A call whose handlers have run before it is recorded. */
export interface Unrecorded {
  /** The call, as it is to be recorded. */
  readonly call: Recording
  /** Holds the chunks that were not persisted. */
  readonly hold: Hold
  /** Called with the `seq` of each chunk, in the order of the outputs, before the commit. */
  readonly recorded: (seqs: ReadonlyArray<bigint>) => void
}
