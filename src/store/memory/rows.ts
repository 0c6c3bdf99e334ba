/**
 * The tables of the store in memory: equal to those of `sql/`, with rows that are replaced, never changed. Times are
 * milliseconds by `Clock`.
 */
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { CallAttempt } from "../../CallAttempt.ts"
import type { CallFacts } from "../../CallFacts.ts"
import type { InsideUse } from "../../CallView.ts"
import type { DeathReason, ParkReason } from "../../ChunkStore.ts"
import type { Feed } from "../../EventLog.ts"
import type { Kind, Served } from "../../Kind.ts"
import type { CallStatus, ChunkKey, RecordedOutput, TraceContext } from "../../ServiceCall.ts"
import type { UsageEntry } from "../../Usage.ts"
import * as MemoryDatabase from "../MemoryDatabase.ts"

/** A call and its result. */
export interface CallRow {
  readonly callId: string
  readonly namespace: string
  readonly service: string
  readonly correlationId: string
  readonly status: CallStatus
  readonly context: { readonly [key: string]: Schema.Json }
  readonly input: Schema.Json
  readonly details: { readonly [key: string]: Schema.Json } | undefined
  readonly facts: CallFacts
  readonly trace: TraceContext | undefined
  /** Those of all its runs. */
  readonly attempts: ReadonlyArray<CallAttempt>
  /** Undefined while running, after a failure, and once pruned. */
  readonly outputs: ReadonlyArray<RecordedOutput> | undefined
  readonly error: string | undefined
  readonly orderingKey: string | undefined
  readonly priority: number
  readonly notBefore: number | undefined
  readonly runToken: string | undefined
  readonly runUntil: number | undefined
  readonly startedAt: number | undefined
  readonly finishedAt: number | undefined
  readonly recordedAt: number
  /** The id of the erasure that took its content. */
  readonly erasure: number | undefined
}

/** An outstanding chunk. */
export interface QueueRow {
  readonly seq: number
  readonly key: ChunkKey
  readonly namespace: string
  readonly schemaVersion: number
  readonly position: number
  readonly bytes: number
  /** The part of `bytes` that the chunks of a call share: a claim counts it once. */
  readonly sharedBytes: number
  readonly orderingKey: string | undefined
  readonly priority: number
  readonly dueAt: number
  /** The order in which ready chunks are claimed: the due time less a minute for each step of priority. */
  readonly rank: number
  readonly state: "ready" | "scheduled" | "waiting" | "parked"
  readonly parkedFor: ParkReason | undefined
  readonly attempts: number
  readonly crashes: number
  readonly loneCrashes: number
  readonly leaseToken: string | undefined
  readonly leaseUntil: number | undefined
  readonly leaseAlone: boolean
  readonly leasedBy: string | undefined
  /** Tokens of leases that were counted as crashes, each with whether its worker held nothing else. */
  readonly lostLeases?: ReadonlyMap<string, boolean> | undefined
  readonly recordedAt: number
}

/** A chunk that no worker has held since it entered the queue, with no attempts or crashes. */
export const untouched = (
  row: Omit<
    QueueRow,
    | "parkedFor"
    | "attempts"
    | "crashes"
    | "loneCrashes"
    | "leaseToken"
    | "leaseUntil"
    | "leaseAlone"
    | "leasedBy"
    | "lostLeases"
  >
): QueueRow => ({
  ...row,
  parkedFor: undefined,
  attempts: 0,
  crashes: 0,
  loneCrashes: 0,
  leaseToken: undefined,
  leaseUntil: undefined,
  leaseAlone: false,
  leasedBy: undefined
})

/** Each step of priority is a head start of a minute. */
export const rankOf = (dueAt: number, priority: number): number => dueAt - priority * 60_000

/** A line of the ledger. The table's lines are in commit order. */
export interface LedgerRow {
  readonly key: ChunkKey
  readonly namespace: string
  readonly schemaVersion: number
  readonly handler: string
  readonly handlerVersion: number
  readonly objects: ReadonlyArray<{ readonly type: string; readonly id: string }>
  readonly persistedAt: number
}

/** A buried chunk. */
export interface DeadRow {
  readonly key: ChunkKey
  readonly seq: number
  readonly namespace: string
  readonly schemaVersion: number
  readonly position: number
  readonly bytes: number
  readonly priority: number
  readonly orderingKey: string | undefined
  readonly reason: DeathReason
  readonly handler: string
  readonly message: string
  readonly attempts: number
  readonly crashes: number
  readonly recordedAt: number
  readonly diedAt: number
  readonly discarded: { readonly at: number; readonly reason: string } | undefined
}

/** One failure of a chunk. */
export interface FailureRow {
  readonly id: number
  readonly key: ChunkKey
  readonly at: number
  readonly attempt: number
  readonly handler: string
  readonly kind: string
  readonly message: string
}

/** A worker, as last seen. */
export interface WorkerRow {
  readonly id: string
  readonly serves: ReadonlyArray<Served>
  readonly inside: ReadonlyArray<InsideUse>
  readonly startedAt: number
  readonly beatAt: number
}

/** A paused kind. */
export interface PauseRow extends Kind {
  readonly reason: string
  readonly pausedAt: number
}

/** The end of a call. The table's rows are in the order in which they were written. */
export interface CallEndRow {
  readonly callId: string
  /** Its number in the log: greater than those before it. */
  readonly place: number
  readonly persisted: number
  readonly dead: number
  readonly endedAt: number
}

/** A durable subscriber. */
export interface SubscriptionRow {
  readonly name: string
  readonly feed: Feed
  /** The number of the last line that it has passed. */
  readonly place: number
  readonly token: string | undefined
  readonly leaseUntil: number | undefined
  readonly leasedBy: string | undefined
  readonly attempts: number
  readonly suspects: number
  readonly lastError: string | undefined
  readonly dueAt: number
  readonly updatedAt: number
  readonly skipped: number
}

/** An erasure on record. */
export interface ErasureRow {
  readonly id: number
  readonly begunAt: number
  readonly finishedAt: number
  readonly by: string
  readonly because: string
  readonly subject: "call" | "correlation" | "context"
  readonly contextKey: string | undefined
  readonly calls: number
  readonly chunks: number
  readonly deadLetters: number
  readonly failures: number
}

/** What a call added to the usage. Memory sums it up when it is read. */
export interface UsageEntryRow extends UsageEntry {
  readonly namespace: string
  readonly at: number
}

/** Calls, by call id. */
export const calls = MemoryDatabase.table<CallRow>("sluice.service_call")
/** Usage, by numbers. */
export const usage = MemoryDatabase.table<UsageEntryRow>("sluice.usage_entry")
/** Outstanding chunks, by {@link seqKey}. */
export const queue = MemoryDatabase.table<QueueRow>("sluice.chunk_queue")
/** The ledger, by {@link chunkKey}. */
export const ledger = MemoryDatabase.table<LedgerRow>("sluice.persisted_chunk")
/** Dead letters, by {@link chunkKey}. */
export const dead = MemoryDatabase.table<DeadRow>("sluice.dead_letter")
/** Failures, by their id. */
export const failures = MemoryDatabase.table<FailureRow>("sluice.chunk_failure")
/** Workers, by id. */
export const workers = MemoryDatabase.table<WorkerRow>("sluice.worker")
/** Pauses, by {@link kindKey}. */
export const pauses = MemoryDatabase.table<PauseRow>("sluice.pause")
/** Durable subscribers, by name. */
export const subscriptions = MemoryDatabase.table<SubscriptionRow>("sluice.subscription")
/** The ids of open calls, by call id. */
export const openCalls = MemoryDatabase.table<string>("sluice.open_call")
/** Ends of calls, by call id. */
export const callEnds = MemoryDatabase.table<CallEndRow>("sluice.call_end")
/** Erasures, by their id. */
export const erasures = MemoryDatabase.table<ErasureRow>("sluice.erasure")

/** The key of a chunk in ledger and dead letters. */
export const chunkKey = (key: ChunkKey): string => JSON.stringify([key.callId, key.schemaIdentity, key.part])
/** The key of an outstanding chunk. */
export const seqKey = (seq: number | bigint): string => String(seq)
/** An ordering key with its namespace, as one text; undefined for a chunk without a key. */
export const keyOf = (
  { namespace, orderingKey }: { readonly namespace: string; readonly orderingKey: string | null | undefined }
): string | undefined => typeof orderingKey === "string" ? JSON.stringify([namespace, orderingKey]) : undefined
/** The key of a pause. */
export const kindKey = (kind: Kind): string => JSON.stringify([kind.namespace, kind.schemaIdentity])

/** A private copy of a JSON value. It goes through JSON text because a proxy cannot be cloned structurally. */
export const copy = <A>(value: A): A => value === undefined ? value : JSON.parse(JSON.stringify(value))

/** Reads and writes in one step, at the given time: milliseconds by `Clock`. */
export type Use = <A>(step: (access: MemoryDatabase.Access, now: number) => A) => Effect.Effect<A>
