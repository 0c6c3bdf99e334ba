/**
 * The port for reading: what people, gauges and the doctor ask of a store. Memory, PGlite and Postgres implement it, and the
 * contract suite is run against all of them.
 *
 * Laws every store keeps:
 *
 * - **Reads only.** No question changes a row or takes a lock that a worker could wait for.
 * - **Of one moment.** What one question answers was true at one moment. Two questions are two moments.
 * - **Tells what there is.** Rows that were edited manually are told as far as they can be told; they fail no question.
 * - **Each by itself.** A question fails with `ChunkStoreError` when the database does, or when the role may not read what it is
 *   about. That keeps nobody from the other questions.
 * - **Cheap where it is asked often.** `workers`, `queueGauges`, `subscriptionGauges`, `persistedLately`, `isKnown`, `nextDue`
 *   and all {@link Vitals} read heads of indexes and small tables; what they count ends at a limit. `call` and `stuck` read
 *   what they show. `status`, `due` and `callsThatMade` read whole tables: for people, not for a scrape.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type CallView, type KindStatus, ParkReason } from "./CallView.ts"
import type { ChunkStoreError } from "./ChunkStore.ts"
import type { DomainObject } from "./DomainObject.ts"
import type { Kind, Served } from "./Kind.ts"

export { CallView, ChunkState, ChunkView, KindStatus } from "./CallView.ts"

/** A chunk that does not go on at once. */
export const StuckChunk = Schema.Struct({
  /**
   * `scheduled`: it failed, and waits for another attempt. `expired`: its worker went away and no other has taken it up.
   * `held`: a worker holds it, and it has been due for more than five minutes. `parked`: no handler, none for its version, or paused. `waiting`:
   * behind an older one of its ordering key.
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
  /** When it may be claimed next, in seconds from now; of those that failed. */
  next: Schema.NullOr(Schema.Finite),
  /** How long it has been due, in seconds; of the others. */
  due: Schema.NullOr(Schema.Finite),
  /** Who holds it, or held it. */
  worker: Schema.NullOr(Schema.String),
  /** The call whose chunk must make way first. */
  behind: Schema.NullOr(Schema.String),
  /** What it failed with last. */
  error: Schema.NullOr(Schema.String)
})
/** A chunk that does not go on at once. */
export interface StuckChunk extends Schema.Schema.Type<typeof StuckChunk> {}

/** Which stuck chunks. */
export interface StuckRequest {
  /** At most so many of each sort. */
  readonly limit: number
  readonly namespace?: string | undefined
}

/** A worker that has not said that it leaves. */
export interface WorkerView {
  /** Host, process and a random part, with slashes between. */
  readonly id: string
  /** Whether it gave a sign of life in the last half minute. */
  readonly alive: boolean
  /** Seconds since its last sign of life. */
  readonly seen: number
  /** The kinds it has handlers for, and up to which version of each schema. */
  readonly serves: ReadonlyArray<Served>
}

/** Chunks by where they stand, each counted up to `Metrics.mostCounted`. */
export interface QueueGauges {
  readonly ready: number
  readonly scheduled: number
  readonly waiting: number
  readonly parked: number
  readonly dead: number
  /** How long, in seconds, the oldest chunk that could be claimed has waited. Undefined when nothing could be. */
  readonly oldest: number | undefined
}

/** How far behind a durable subscription is. */
export interface SubscriptionGauges {
  readonly name: string
  /** Failures in a row of the entry it stands before. */
  readonly attempts: number
  /** Entries it has not read, counted up to `Metrics.mostCounted`. */
  readonly unread: number
  /** How old the oldest of them is, in seconds. */
  readonly age: number
}

/** Chunks that failed and wait for another attempt. */
export interface Scheduled {
  readonly count: number
  /** How long ago, in seconds, the oldest of them failed first. */
  readonly seconds: number | undefined
  /** The call that failed last, and with what. */
  readonly callId: string | undefined
  readonly message: string | undefined
}

/** A kind of which chunks are parked. */
export interface ParkedKind extends Kind {
  /** Why they are. */
  readonly reason: ParkReason
}

/** Chunks behind a dead letter of their ordering key. */
export interface HeldUp {
  readonly count: number
  /** One of the calls whose dead letter holds them up. */
  readonly callId: string | undefined
}

/** Chunks that wait although nothing stands before them. */
export interface Stranded {
  readonly count: number
  /** The call of the oldest of them. */
  readonly callId: string | undefined
  /** Whether all ordering keys were looked at. */
  readonly complete: boolean
}

/** How the numbers of the event log stand to the cluster the store is on: they come along when tables are moved. */
export type LogStanding =
  | { readonly _tag: "Ours" }
  /** They are another cluster's; the next look of a subscription rebases them. */
  | {
    readonly _tag: "Foreign"
    /** Some are above what this cluster has come to. */
    readonly above: boolean
  }
  /** A person has to do something first, and subscriptions read nothing until then. */
  | {
    readonly _tag: "Refused"
    readonly reason: string
    /** Logical replication still brings them here. */
    readonly incoming: boolean
  }

/**
 * What a doctor examines of the work. Index heads only: what is looked for is looked for among the first thousand, and counts
 * end there.
 */
export interface Vitals {
  /** How long, in whole seconds, the oldest chunk that could be claimed has waited. Undefined when nothing could be. */
  readonly oldestDue: Effect.Effect<number | undefined, ChunkStoreError>
  readonly scheduled: Effect.Effect<Scheduled, ChunkStoreError>
  /** How many leases ended more than five minutes ago and were taken over by nobody. */
  readonly staleLeases: Effect.Effect<number, ChunkStoreError>
  /** Kinds of which chunks are parked; once for each reason. */
  readonly parkedKinds: Effect.Effect<ReadonlyArray<ParkedKind>, ChunkStoreError>
  /** Kinds of which chunks could be claimed, and that no living worker serves. */
  readonly unservedKinds: Effect.Effect<ReadonlyArray<Kind>, ChunkStoreError>
  /** Dead letters that wait for a person. */
  readonly deadLetters: Effect.Effect<number, ChunkStoreError>
  /** None where dead letters do not hold up their key (`SLUICE_DEAD_BLOCKS_KEY`). */
  readonly heldUp: Effect.Effect<HeldUp, ChunkStoreError>
  /** Looks at so many ordering keys at most; at all without. */
  readonly stranded: (mostKeys?: number) => Effect.Effect<Stranded, ChunkStoreError>
  readonly eventLog: Effect.Effect<LogStanding, ChunkStoreError>
}

/**
 * The port. See the module's laws.
 *
 * ```ts
 * const view = yield* Inspector.use((inspector) => inspector.call("call-17"))
 * ```
 */
export class Inspector extends Context.Service<Inspector, {
  /** A call, and what became of each of its chunks, in the order of its outputs. */
  readonly call: (callId: string) => Effect.Effect<Option.Option<CallView>, ChunkStoreError>
  /** The ids of the calls of which a handler made one of these rows. */
  readonly callsThatMade: (
    objects: ReadonlyArray<DomainObject>
  ) => Effect.Effect<ReadonlyArray<string>, ChunkStoreError>
  /** Counts by kind, in the order of namespace and schema. */
  readonly status: Effect.Effect<ReadonlyArray<KindStatus>, ChunkStoreError>
  /** How many chunks were persisted in the last minute, counted up to 100,000. */
  readonly persistedLately: Effect.Effect<number, ChunkStoreError>
  /** About how many chunks a drain until empty has before it, of a namespace or of all. Those that workers hold count. */
  readonly due: (namespace?: string) => Effect.Effect<number, ChunkStoreError>
  /** When the next outstanding chunk may be claimed, if any is outstanding: now, at the end of a lease, or later. */
  readonly nextDue: Effect.Effect<Option.Option<DateTime.Utc>, ChunkStoreError>
  /** The first chunks of each sort that do not go on at once. */
  readonly stuck: (request: StuckRequest) => Effect.Effect<ReadonlyArray<StuckChunk>, ChunkStoreError>
  /** The workers seen in the last minutes, the latest first; of those named, where some are. */
  readonly workers: (ids?: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<WorkerView>, ChunkStoreError>
  /** Whether anything of a kind is outstanding or dead, or some worker serves it. `*` stands for any. */
  readonly isKnown: (kind: Kind) => Effect.Effect<boolean, ChunkStoreError>
  readonly queueGauges: Effect.Effect<QueueGauges, ChunkStoreError>
  /** Of the hundred subscriptions with the oldest unread entry. */
  readonly subscriptionGauges: Effect.Effect<ReadonlyArray<SubscriptionGauges>, ChunkStoreError>
  readonly vitals: Vitals
}>()("effect-sluice/Inspector") {}
