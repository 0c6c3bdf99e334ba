/**
 * What people and programs are shown of recorded calls: where each chunk stands, what became of it, and how many stand
 * where. Read from a store, and printed by the command with `--json`.
 */
import * as Schema from "effect/Schema"
import { CallStatus, ChunkKey } from "./ServiceCall.ts"

/** Why a chunk was buried. */
export const DeathReason = Schema.Literals(["exhausted", "rejected", "undecodable", "unknown-version", "crashing"])
/** Why a chunk was buried. */
export type DeathReason = typeof DeathReason.Type

/**
 * Why a chunk is parked: no worker that looked had a handler for it, its handler reads no version as new as the recorded one,
 * or its kind is paused.
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

/** Where a chunk stands. */
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
/** Where a chunk stands. */
export type ChunkState = typeof ChunkState.Type

/** One failure of a chunk, as remembered. */
export const FailureRecord = Schema.Struct({
  at: Schema.DateTimeUtcFromString,
  attempt: Schema.Int,
  handler: Schema.String,
  kind: Schema.String,
  message: Schema.String
})
/** One failure of a chunk, as remembered. */
export interface FailureRecord extends Schema.Schema.Type<typeof FailureRecord> {}

/** A chunk, and all that became of it. */
export const ChunkView = Schema.Struct({
  key: ChunkKey,
  namespace: Schema.String,
  schemaVersion: Schema.Int,
  state: ChunkState,
  attempts: Schema.Int,
  crashes: Schema.Int,
  /** When it may be claimed next, while ready or scheduled. */
  dueAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** Until when a worker holds it, while in flight. */
  leasedUntil: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** The worker that holds it, while in flight. */
  leasedBy: Schema.NullOr(Schema.String),
  /** Why it waits, while parked. */
  parkedFor: Schema.NullOr(ParkReason),
  orderingKey: Schema.NullOr(Schema.String),
  /** The call whose chunk must make way first: the oldest one before it of its ordering key, outstanding or dead. */
  behind: Schema.NullOr(Schema.String),
  failures: Schema.Array(FailureRecord),
  /** Why and when it was buried, while dead or discarded. */
  death: Schema.NullOr(Schema.Struct({
    reason: DeathReason,
    message: Schema.String,
    at: Schema.DateTimeUtcFromString
  })),
  ledger: Schema.NullOr(LedgerEntry)
})
/** A chunk, and all that became of it. */
export interface ChunkView extends Schema.Schema.Type<typeof ChunkView> {}

/** A recorded call, and what became of its chunks. */
export const CallView = Schema.Struct({
  callId: Schema.String,
  namespace: Schema.String,
  service: Schema.String,
  correlationId: Schema.String,
  status: CallStatus,
  error: Schema.NullOr(Schema.String),
  recordedAt: Schema.DateTimeUtcFromString,
  finishedAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** What the handlers are told of the call. */
  context: Schema.Record(Schema.String, Schema.Json),
  /** The trace of the request that made it. */
  trace: Schema.NullOr(Schema.Struct({ traceId: Schema.String, spanId: Schema.String })),
  /** Absent once pruned. */
  outputs: Schema.NullOr(Schema.Array(Schema.Json)),
  chunks: Schema.Array(ChunkView)
})
/** A recorded call, and what became of its chunks. */
export interface CallView extends Schema.Schema.Type<typeof CallView> {}

/** How many chunks of one kind stand where. */
export const KindStatus = Schema.Struct({
  namespace: Schema.String,
  schemaIdentity: Schema.String,
  ready: Schema.Int,
  /** Of the ready and the scheduled, those that may be claimed now. */
  due: Schema.Int,
  inFlight: Schema.Int,
  /** Failed before, and waiting for their next attempt. */
  scheduled: Schema.Int,
  /** Behind an older chunk of their ordering key. */
  waiting: Schema.Int,
  parked: Schema.Int,
  dead: Schema.Int,
  persisted: Schema.Int,
  /** The newest version of the schema at which an outstanding chunk is recorded. */
  newestVersion: Schema.NullOr(Schema.Int),
  /** When the oldest outstanding chunk was recorded. */
  oldest: Schema.NullOr(Schema.DateTimeUtcFromString)
})
/** How many chunks of one kind stand where. */
export interface KindStatus extends Schema.Schema.Type<typeof KindStatus> {}
