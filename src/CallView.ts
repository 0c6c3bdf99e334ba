/**
 * The views of recorded calls: the state of each chunk, its history, and counts per state. A store returns them, and
 * the command prints them with `--json`.
 */
import * as Schema from "effect/Schema"
import { CallAttempt } from "./CallAttempt.ts"
import { CallFacts } from "./CallFacts.ts"
import { CallStatus, ChunkKey } from "./ServiceCall.ts"

/** Why a chunk was buried. */
export const DeathReason = Schema.Literals(["exhausted", "rejected", "undecodable", "unknown-version", "crashing"])
/** Why a chunk was buried. */
export type DeathReason = typeof DeathReason.Type

/**
 * Why a chunk is parked: no worker so far had a handler for it that could run, its handler reads no version as new as
 * the recorded one, or its kind is paused.
 */
export const ParkReason = Schema.Literals(["no-handler", "newer-version", "paused"])
/** Why a chunk is parked. */
export type ParkReason = typeof ParkReason.Type

/** A line of the ledger. */
export const LedgerEntry = Schema.Struct({
  key: ChunkKey,
  namespace: Schema.String,
  schemaVersion: Schema.Int,
  handler: Schema.String,
  handlerVersion: Schema.Int,
  objects: Schema.Array(Schema.Struct({ type: Schema.String, id: Schema.String })),
  persistedAt: Schema.DateTimeUtcFromString
})
/** A line of the ledger. */
export interface LedgerEntry extends Schema.Schema.Type<typeof LedgerEntry> {}

/** The state of a chunk. */
export const ChunkState = Schema.Literals([
  "ready",
  "in-flight",
  "scheduled",
  "waiting",
  "parked",
  "dead",
  "discarded",
  "persisted",
  "nothing-to-create"
])
/** The state of a chunk. */
export type ChunkState = typeof ChunkState.Type

/** One recorded failure of a chunk. */
export const FailureRecord = Schema.Struct({
  at: Schema.DateTimeUtcFromString,
  attempt: Schema.Int,
  handler: Schema.String,
  kind: Schema.String,
  message: Schema.String
})
/** One recorded failure of a chunk. */
export interface FailureRecord extends Schema.Schema.Type<typeof FailureRecord> {}

/** A chunk with its state and its history. */
export const ChunkView = Schema.Struct({
  key: ChunkKey,
  namespace: Schema.String,
  schemaVersion: Schema.Int,
  state: ChunkState,
  attempts: Schema.Int,
  crashes: Schema.Int,
  /** When it may be claimed next; set while ready or scheduled. */
  dueAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** When the worker's lease ends; set while in flight. */
  leasedUntil: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** The worker that holds it; set while in flight. */
  leasedBy: Schema.NullOr(Schema.String),
  /** Why it is parked; set while parked. */
  parkedFor: Schema.NullOr(ParkReason),
  orderingKey: Schema.NullOr(Schema.String),
  /** The call that blocks it: the one with the oldest earlier chunk of its ordering key, outstanding or dead. */
  behind: Schema.NullOr(Schema.String),
  failures: Schema.Array(FailureRecord),
  /** Why and when it was buried; set while dead or discarded. */
  death: Schema.NullOr(Schema.Struct({
    reason: DeathReason,
    message: Schema.String,
    at: Schema.DateTimeUtcFromString
  })),
  ledger: Schema.NullOr(LedgerEntry)
})
/** A chunk with its state and its history. */
export interface ChunkView extends Schema.Schema.Type<typeof ChunkView> {}

/** A recorded call with the state of its chunks. */
export const CallView = Schema.Struct({
  callId: Schema.String,
  namespace: Schema.String,
  service: Schema.String,
  correlationId: Schema.String,
  status: CallStatus,
  error: Schema.NullOr(Schema.String),
  recordedAt: Schema.DateTimeUtcFromString,
  finishedAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** The call's context, as handlers get it. */
  context: Schema.Record(Schema.String, Schema.Json),
  /** The trace of the request that made the call. */
  trace: Schema.NullOr(Schema.Struct({ traceId: Schema.String, spanId: Schema.String })),
  /**
   * The id of the erasure that deleted its content, if it was erased: `Erasure.list` returns it. Then its chunks are those
   * that were persisted before.
   */
  erasure: Schema.NullOr(Schema.Int),
  /** The facts of the call; `{}` when it has none. They outlive pruned payloads. */
  facts: CallFacts,
  /** Each answer that its runs were given, the oldest first. */
  attempts: Schema.Array(CallAttempt),
  /** Null once pruned. */
  outputs: Schema.NullOr(Schema.Array(Schema.Json)),
  chunks: Schema.Array(ChunkView)
})
/** A recorded call with the state of its chunks. */
export interface CallView extends Schema.Schema.Type<typeof CallView> {}

/** How many chunks of one kind are in each state. */
export const KindStatus = Schema.Struct({
  namespace: Schema.String,
  schemaIdentity: Schema.String,
  ready: Schema.Int,
  /** How many of the ready and scheduled chunks may be claimed now. */
  due: Schema.Int,
  inFlight: Schema.Int,
  /** Failed before, and waiting for their next attempt. */
  scheduled: Schema.Int,
  /** Waiting behind an older chunk of their ordering key. */
  waiting: Schema.Int,
  parked: Schema.Int,
  dead: Schema.Int,
  persisted: Schema.Int,
  /** The newest version of the schema at which an outstanding chunk is recorded. */
  newestVersion: Schema.NullOr(Schema.Int),
  /** When the oldest outstanding chunk was recorded. */
  oldest: Schema.NullOr(Schema.DateTimeUtcFromString),
  /**
   * Whether some of the numbers of its outstanding chunks are estimates, because there are many of a state: see
   * `Inspector.status`. `dead` and `persisted` are always exact. `inFlight` is never estimated, but is at most 20,000.
   */
  about: Schema.Boolean
})
/** How many chunks of one kind are in each state. */
export interface KindStatus extends Schema.Schema.Type<typeof KindStatus> {}

/**
 * Why a worker claimed an answer of a declared handler, though the store persists most of them by itself. The first that
 * applies:
 *
 * - `off`: `SLUICE_DECLARED_INSIDE` is false
 * - `inline`: `persistNow` persisted it, or `recordNow` in another way than with one statement
 * - `unable`: the store does not persist answers of this declaration by itself
 * - `retry`: it had failed before, or a worker died with it
 * - `key`: it has an ordering key
 * - `version`, `fingerprint`: it was recorded at another version, or not encoded by the handler's present schema
 * - `refused`: the database refused the batch that it was in
 * - `other`: it was claimed along with others, lacks a value of the context, is large, or is not among the first four
 *   outputs of its call
 */
export const WhyClaimed = Schema.Literals([
  "off",
  "inline",
  "unable",
  "retry",
  "key",
  "version",
  "fingerprint",
  "refused",
  "other"
])
/** Why a worker claimed an answer of a declared handler. */
export type WhyClaimed = typeof WhyClaimed.Type

/** How a worker has persisted the answers of one of its declared handlers, since it started. */
export const InsideUse = Schema.Struct({
  /** `namespace/short-name`. */
  handler: Schema.String,
  /** How many the store persisted by itself. */
  inside: Schema.Int,
  /** How many were claimed and persisted, by reason (`WhyClaimed`), without zeros. */
  claimed: Schema.Record(Schema.String, Schema.Int),
  /** Why the store fails to persist any of them by itself, although claims persist them; null if it does not fail. */
  refusal: Schema.NullOr(Schema.String),
  /** Why its tables do not fit the declaration: its answers are parked. Null while they fit, or were not used yet. */
  unfit: Schema.NullOr(Schema.String)
})
/** How a worker has persisted the answers of one of its declared handlers. */
export interface InsideUse extends Schema.Schema.Type<typeof InsideUse> {}
