/**
 * The port for reading: the queries of people, gauges and the doctor. Memory, PGlite and Postgres implement it, and the
 * contract suite runs against all of them.
 *
 * Laws every store keeps:
 *
 * - **Reads only.** No query changes a row or takes a lock that a worker could wait for.
 * - **One snapshot per query.** The result of a query is of one snapshot. Two queries may see different states.
 * - **Tolerates manual edits.** Rows that were edited manually are returned as far as they can be read; they do not
 *   fail a query.
 * - **Independent.** A query fails with `ChunkStoreError` when the database fails, or when the role may not read its
 *   tables. The other queries still work.
 * - **Cheap where queries are frequent.** `workers`, `queueGauges`, `subscriptionGauges`, `persistedLately`, `isKnown`,
 *   `nextDue` and all {@link Vitals} read heads of indexes and small tables, and their counts end at a limit. `call`
 *   and `stuck` read the rows they return, `usage` sums by day that are kept. `exactStatus` and `due` read the whole
 *   queue, and `status` up to {@link mostExact} chunks of each state: for people, not for a scrape. Of the ledger, `status`
 *   and `callsThatMade` read what no beat has counted yet, and `callsThatMade` the portions that may have the row.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type CallView, type InsideUse, type KindStatus, ParkReason } from "./CallView.ts"
import type { ChunkStoreError } from "./ChunkStore.ts"
import type { Declaration, TableUnfit } from "./Declaration.ts"
import type { DomainObject } from "./DomainObject.ts"
import type { Kind, Served } from "./Kind.ts"
import type { UsageBy, UsageRow } from "./Usage.ts"

export { CallView, ChunkState, ChunkView, InsideUse, KindStatus, WhyClaimed } from "./CallView.ts"

/** A chunk that is not processed immediately. */
export const StuckChunk = Schema.Struct({
  /**
   * `scheduled`: it failed, and waits for another attempt. `expired`: its worker went away and no other has taken it up.
   * `held`: a worker holds it, and it has been due for more than five minutes. `parked`: no handler, its table does not
   * fit, none for its version, or paused. `waiting`: behind an older one of its ordering key.
   */
  why: Schema.Literals(["scheduled", "expired", "held", "parked", "waiting"]),
  callId: Schema.String,
  namespace: Schema.String,
  schemaIdentity: Schema.String,
  part: Schema.String,
  attempts: Schema.Int,
  crashes: Schema.Int,
  orderingKey: Schema.NullOr(Schema.String),
  parkedFor: Schema.NullOr(ParkReason),
  /** Seconds until it may be claimed next, if it failed. */
  next: Schema.NullOr(Schema.Finite),
  /** How long it has been due, in seconds, if it has not failed. */
  due: Schema.NullOr(Schema.Finite),
  /** The worker that holds it, or held it last. */
  worker: Schema.NullOr(Schema.String),
  /** The call whose chunk blocks it. */
  behind: Schema.NullOr(Schema.String),
  /** Its last error. */
  error: Schema.NullOr(Schema.String)
})
/** A chunk that is not processed immediately. */
export interface StuckChunk extends Schema.Schema.Type<typeof StuckChunk> {}

/** Selects stuck chunks. */
export interface StuckRequest {
  /** The most chunks of each `why`. */
  readonly limit: number
  /** Only chunks of this namespace. */
  readonly namespace?: string | undefined
}

/** A call whose answer did not fit. */
export const InvalidCall = Schema.Struct({
  callId: Schema.String,
  namespace: Schema.String,
  service: Schema.String,
  /** Why the answer did not fit. */
  error: Schema.String,
  finishedAt: Schema.DateTimeUtcFromString,
  /** How many answers all of its runs were given. */
  attempts: Schema.Int,
  /** Whether the text of one is kept, to be decoded again. */
  kept: Schema.Boolean
})
/** A call whose answer did not fit. */
export interface InvalidCall extends Schema.Schema.Type<typeof InvalidCall> {}

/** Selects invalid calls. */
export interface InvalidRequest {
  /** The most calls. */
  readonly limit: number
  /** Only calls of this namespace. */
  readonly namespace?: string | undefined
}

/** Which usage to sum, and by what. */
export interface UsageRequest {
  /** What each row is for. */
  readonly by: UsageBy
  /** From the day (UTC) on that was so long ago; all without. */
  readonly since?: Duration.Input | undefined
}

/** The most chunks of a state that `status` counts; if there are more, it may estimate how many. */
export const mostExact = 20_000

/** A worker that has not left. */
export interface WorkerView {
  /** Host, process and a random part, with slashes between. */
  readonly id: string
  /** Whether it sent a heartbeat in the last half minute. */
  readonly alive: boolean
  /** Seconds since its last heartbeat. */
  readonly seen: number
  /** The kinds it has handlers for, and up to which version of each schema. */
  readonly serves: ReadonlyArray<Served>
  /** How it has persisted the answers of its declared handlers, since it started. */
  readonly inside: ReadonlyArray<InsideUse>
}

/** Chunks per state, each counted up to `Metrics.mostCounted`. */
export interface QueueGauges {
  /** Chunks that can be claimed now. */
  readonly ready: number
  /** Chunks that wait for their next attempt, or for their time. */
  readonly scheduled: number
  /** Chunks behind others of their ordering key. */
  readonly waiting: number
  /** Chunks without a handler, or paused. */
  readonly parked: number
  /** Dead letters that wait for a person. */
  readonly dead: number
  /** How long, in seconds, the oldest claimable chunk has waited. Undefined when there is none. */
  readonly oldest: number | undefined
}

/** How far behind a durable subscription is. */
export interface SubscriptionGauges {
  /** The name of the subscription. */
  readonly name: string
  /** Consecutive failures of the entry that is next. */
  readonly attempts: number
  /** Entries it has not read, counted up to `Metrics.mostCounted`. */
  readonly unread: number
  /** How old the oldest of them is, in seconds. */
  readonly age: number
}

/** Chunks that may be claimed later: at their next attempt, or at the `notBefore` of their call. */
export interface Later {
  /** How many there are. */
  readonly chunks: number
  /** When the first may be claimed. Undefined when there is none. */
  readonly next: DateTime.Utc | undefined
}

/** Chunks that failed and wait for another attempt. */
export interface Scheduled {
  /** How many there are. */
  readonly count: number
  /** How long ago, in seconds, the first failure of the oldest of them was. */
  readonly seconds: number | undefined
  /** The call that failed last, and its error. */
  readonly callId: string | undefined
  /** The error of that call's last failure. */
  readonly message: string | undefined
}

/** A kind of which chunks are parked. */
export interface ParkedKind extends Kind {
  /** Why they are. */
  readonly reason: ParkReason
}

/** Chunks behind a dead letter of their ordering key. */
export interface HeldUp {
  /** How many there are. */
  readonly count: number
  /** A call whose dead letter blocks them. */
  readonly callId: string | undefined
}

/** Waiting chunks that have nothing before them. */
export interface Stranded {
  /** How many were found. */
  readonly count: number
  /** The call of the oldest of them. */
  readonly callId: string | undefined
  /** Whether all ordering keys were checked. */
  readonly complete: boolean
}

/**
 * Whether the transaction ids in the event log belong to the store's cluster: they keep their values when tables are
 * moved.
 */
export type LogStanding =
  | { readonly _tag: "Ours" }
  /** They belong to another cluster; the next `take` of a subscription rebases them. */
  | {
    readonly _tag: "Foreign"
    /** Some are above this cluster's current transaction id. */
    readonly above: boolean
  }
  /** A person has to act first; subscriptions read nothing until then. */
  | {
    readonly _tag: "Refused"
    readonly reason: string
    /** Logical replication still delivers rows here. */
    readonly incoming: boolean
  }

/** The checks of the doctor. They read index heads only: each examines the first thousand rows, and counts end there. */
export interface Vitals {
  /** How long, in whole seconds, the oldest claimable chunk has waited. Undefined when there is none. */
  readonly oldestDue: Effect.Effect<number | undefined, ChunkStoreError>
  /** Chunks that failed and will be tried again. */
  readonly scheduled: Effect.Effect<Scheduled, ChunkStoreError>
  /** How many leases ended more than five minutes ago without another worker claiming the chunk. */
  readonly staleLeases: Effect.Effect<number, ChunkStoreError>
  /** Kinds of which chunks are parked; once for each reason. */
  readonly parkedKinds: Effect.Effect<ReadonlyArray<ParkedKind>, ChunkStoreError>
  /** Kinds of which chunks could be claimed, and that no living worker serves. */
  readonly unservedKinds: Effect.Effect<ReadonlyArray<Kind>, ChunkStoreError>
  /** The number of dead letters that wait for a person. */
  readonly deadLetters: Effect.Effect<number, ChunkStoreError>
  /** 0 where dead letters do not block their key (`SLUICE_DEAD_BLOCKS_KEY`). */
  readonly heldUp: Effect.Effect<HeldUp, ChunkStoreError>
  /** Checks at most `mostKeys` ordering keys; all without it. */
  readonly stranded: (mostKeys?: number) => Effect.Effect<Stranded, ChunkStoreError>
  /** Whether subscriptions can read the event log. */
  readonly eventLog: Effect.Effect<LogStanding, ChunkStoreError>
}

/**
 * The port. See the module's laws.
 *
 * ```ts
 * const view = yield* Inspector.Inspector.use((inspector) => inspector.call("call-17"))
 * ```
 */
export class Inspector extends Context.Service<Inspector, {
  /** A call with the state of each of its chunks, in the order of its outputs. */
  readonly call: (callId: string) => Effect.Effect<Option.Option<CallView>, ChunkStoreError>
  /** The ids of the calls from which a handler created one of these rows. */
  readonly callsThatMade: (
    objects: ReadonlyArray<DomainObject>
  ) => Effect.Effect<ReadonlyArray<string>, ChunkStoreError>
  /**
   * Counts by kind, in the order of namespace and schema. Exact while each state has at most {@link mostExact} chunks. If a
   * state has more, a store may estimate its chunks from a sample: `about` says so. A kind that has very few among them may
   * be missing then.
   */
  readonly status: Effect.Effect<ReadonlyArray<KindStatus>, ChunkStoreError>
  /** The same without estimates: reads the whole queue. */
  readonly exactStatus: Effect.Effect<ReadonlyArray<KindStatus>, ChunkStoreError>
  /** How many chunks were persisted in the last minute, counted up to 100,000. */
  readonly persistedLately: Effect.Effect<number, ChunkStoreError>
  /**
   * The approximate number of chunks that a drain until empty will process, for a namespace or for all. Chunks held by
   * workers count.
   */
  readonly due: (namespace?: string) => Effect.Effect<number, ChunkStoreError>
  /** How many chunks wait until a later time, for a namespace or for all, and the first of these times. */
  readonly later: (namespace?: string) => Effect.Effect<Later, ChunkStoreError>
  /** When the next outstanding chunk may be claimed, if there is one: now, at the end of a lease, or later. */
  readonly nextDue: Effect.Effect<Option.Option<DateTime.Utc>, ChunkStoreError>
  /** The first stuck chunks of each `why`. */
  readonly stuck: (request: StuckRequest) => Effect.Effect<ReadonlyArray<StuckChunk>, ChunkStoreError>
  /** The workers seen in the last minutes, the latest first; only those with these ids, if given. */
  readonly workers: (ids?: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<WorkerView>, ChunkStoreError>
  /** Whether a chunk of a kind is outstanding or dead, or a worker serves the kind. `*` stands for any. */
  readonly isKnown: (kind: Kind) => Effect.Effect<boolean, ChunkStoreError>
  /**
   * What a declaration becomes for its tables as they are, in the store's own words: on Postgres the statement that writes
   * the rows of each. Writes nothing. Fails with `TableUnfit` where a table does not fit, or this role may not write it.
   */
  readonly declaration: (declaration: Declaration) => Effect.Effect<string, TableUnfit | ChunkStoreError>
  /** Calls whose answer did not fit, the latest first; without erased ones. */
  readonly invalid: (request: InvalidRequest) => Effect.Effect<ReadonlyArray<InvalidCall>, ChunkStoreError>
  /**
   * What calls used, summed by model, namespace, schema or day: by day in the order of days, else those with the most tokens
   * first. Calls without facts and attempts do not count.
   */
  readonly usage: (request: UsageRequest) => Effect.Effect<ReadonlyArray<UsageRow>, ChunkStoreError>
  /** The queue in numbers, for gauges. */
  readonly queueGauges: Effect.Effect<QueueGauges, ChunkStoreError>
  /** Of the hundred subscriptions with the oldest unread entry. */
  readonly subscriptionGauges: Effect.Effect<ReadonlyArray<SubscriptionGauges>, ChunkStoreError>
  /** What the doctor examines. */
  readonly vitals: Vitals
}>()("effect-sluice/Inspector") {}
