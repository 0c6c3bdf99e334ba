/**
 * The port of the engine: everything a drain and a recorder ask of a database, and nothing else. Memory, PGlite and Postgres
 * implement it, and one contract suite is run against all three. What people and gauges ask is in `Inspector`.
 *
 * Laws every store keeps:
 *
 * - **Atomic.** `record` commits a call with its chunks or not at all; `persist` commits the handlers' writes, the
 *   ledger rows and the settlement or nothing.
 * - **The ledger decides.** One row for a chunk's key, ever. `persist` of a key that has one changes nothing.
 * - **Fenced.** Only the holder of the claim's token settles, renews or persists. Others change nothing.
 * - **Leased by the store's own clock.** A lease that ran out without a word counts as a crash, never as an attempt; and no
 *   longer once its holder speaks again, which was cut off then, or frozen. An outage of the database is nobody's crash.
 * - **In order.** Chunks of one ordering key are claimed only as an unbroken run from the oldest one outstanding. A key
 *   counts within its namespace.
 * - **Nobody is in the way** but an older one of the key: what is locked or held up keeps no claim from what is due behind
 *   it, and what waits behind nothing comes free by itself.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { LedgerEntry } from "./CallView.ts"
import type { ClaimedChunk, Persisted } from "./Chunk.ts"
import type { DomainObject } from "./DomainObject.ts"
import { escapeProse } from "./internal/escape.ts"
import type { Kind, Left, Served } from "./Kind.ts"
import type { CallSpec, ChunkKey, ServiceCall } from "./ServiceCall.ts"
import type { Settled, Settlement } from "./Settlement.ts"

export { type ClaimedChunk, type Payload, type Persisted } from "./Chunk.ts"
export { type Failure, type FailureKind, type Settled, Settlement } from "./Settlement.ts"

export { DeathReason, FailureRecord, LedgerEntry, ParkReason } from "./CallView.ts"

// ------------------------------------------------------------------------------------------------------- errors

/**
 * The database did not do what was asked. When `transient` (connection lost, deadlock, shutdown, too many connections),
 * nothing was charged to anybody and the same may succeed later: the drain and its worker try it again by themselves, whoever
 * else asked decides. When not, somebody must look (`cause`).
 */
export class ChunkStoreError extends Schema.TaggedError<ChunkStoreError>()("ChunkStoreError", {
  /** The verb that failed: of `ChunkStore` by itself, as `claim`; of other services after their name, as `eventLog.take`. */
  operation: Schema.String,
  transient: Schema.Boolean,
  /** SQLSTATE where there is one. */
  code: Schema.optionalKey(Schema.String),
  reason: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message() {
    return `${this.operation}: ${escapeProse(this.reason)}${this.code === undefined ? "" : ` (${this.code})`}` +
      (this.transient ? "; it may succeed when tried again" : "")
  }
}

/** Some of the chunks are no longer this claim's: its lease ran out and another worker has them. Nothing was changed. */
export class LeaseLost extends Schema.TaggedError<LeaseLost>()("LeaseLost", {
  claimed: Schema.Int,
  held: Schema.Int
}) {
  override get message() {
    return `${this.claimed - this.held} of ${this.claimed} chunks are no longer this claim's: its lease ran out. ` +
      `Nothing was changed; raise SLUICE_LEASE if handlers are this slow`
  }
}

/** Some of the chunks were in the ledger already. Nothing was changed; settle those as `Already` and go on. */
export class AlreadyPersisted extends Schema.TaggedError<AlreadyPersisted>()("AlreadyPersisted", {
  claimed: Schema.Int,
  /** Of the claimed, those the ledger did not have. */
  kept: Schema.Int
}) {
  override get message() {
    return `${this.claimed - this.kept} of ${this.claimed} chunks were persisted before. Nothing was changed`
  }
}

/**
 * Somebody outside the drain has locked some of the chunks, as `once` does while its effect runs. All was rolled back. The
 * others need not wait for these.
 */
export class ChunksLocked extends Schema.TaggedError<ChunksLocked>()("ChunksLocked", {
  /** The `seq` of each locked chunk. None: whoever it was has let go meanwhile. */
  locked: Schema.Array(Schema.BigInt)
}) {
  override get message() {
    return `${this.locked.length} chunks are locked by another transaction. Nothing was changed`
  }
}

/**
 * The handlers left their transaction unable to commit: one swallowed a database error, or a deferred constraint does
 * not hold. All was rolled back. It is some chunk's fault; which one's is found by trying them apart.
 */
export class TransactionSpoiled extends Schema.TaggedError<TransactionSpoiled>()("TransactionSpoiled", {
  code: Schema.optionalKey(Schema.String),
  /** A conflict or a time limit: it may pass, and the same is tried again before anybody is sought. */
  transient: Schema.optionalKey(Schema.Boolean),
  reason: Schema.String
}) {
  override get message() {
    return `the transaction could not commit: ${this.reason}${this.code === undefined ? "" : ` (${this.code})`}. ` +
      `A handler must let database errors pass`
  }
}

// ------------------------------------------------------------------------------------------------------- words

/**
 * The database does not take this one call, though nothing is wrong with the database: its encoding has no such character, a
 * constraint or a trigger of somebody's refuses it. Nothing was written of it.
 */
export interface RefusedByStore {
  readonly _tag: "Refused"
  /** In the database's words. */
  readonly reason: string
}

/** What became of one call given to `record`. */
export type RecordOutcome = "recorded" | "unchanged" | "conflict" | RefusedByStore

/** What `begin` found. */
export type Begun =
  | { readonly _tag: "Begun"; readonly token: string; readonly takenOver: boolean }
  | { readonly _tag: "Running"; readonly until: DateTime.Utc }
  /** As it was recorded; without input and outputs once these are pruned. */
  | { readonly _tag: "Succeeded"; readonly call: ServiceCall }
  /** The id is another call's, which runs or has succeeded. */
  | { readonly _tag: "Conflict" }
  /** Not begun: a transaction surrounds it, whose rollback would take the run and its answer along. */
  | { readonly _tag: "InTransaction" }
  | RefusedByStore

/** A claim: chunks held under one token until `until`, unless renewed. */
export interface Claim {
  readonly token: string
  readonly chunks: ReadonlyArray<ClaimedChunk>
  /** Whether the store saw that nothing else was due: who wants more waits until there is more. */
  readonly last?: boolean | undefined
  /** Kinds that nobody may drain now, as of a claim for one call; `*` stands for all. Of other claims a beat says so. */
  readonly paused?: ReadonlyArray<Kind> | undefined
}

/** What to claim. */
export interface ClaimRequest {
  /** What it is held under; the store makes one when absent. */
  readonly token?: string | undefined
  /** Who asks, for people. */
  readonly worker: string
  /** At most so many chunks. */
  readonly limit: number
  /** At most so many bytes of recorded JSON, but always at least one chunk. */
  readonly maxBytes: number
  readonly lease: Duration.Duration
  /** Only chunks of this namespace. */
  readonly namespace?: string | undefined
  /** Only the chunks of this call. */
  readonly callId?: string | undefined
  /** What to leave alone, because other workers serve it; a kind of `core` stands for all namespaces. */
  readonly except?: ReadonlyArray<Left> | undefined
  /** What is not left alone for all that, because this worker has handlers of its own namespace that read it. */
  readonly own?: ReadonlyArray<Served> | undefined
  /**
   * Whether the answer may be that there is nothing where that was not looked into thoroughly, because it would take long:
   * whoever asks will ask again soon.
   */
  readonly hasty?: boolean | undefined
}

/**
 * How a handler's run uses the transaction it is in: it is `alone` there, it is one of a `batch` that go one after
 * another, or it runs `together` with the others of its batch.
 */
export type Rule = "alone" | "batch" | "together"

/** A statement that a run may not send, by its rule. It was not sent. */
export interface Refusal {
  /**
   * `control`: it would begin or end a transaction. `shared`: it may leave something in the transaction that other runs
   * would see, such as a setting. `together`: it breaks what a handler promises whose runs go together.
   */
  readonly reason: "control" | "shared" | "together"
  readonly statement: string
}

/** One run of a handler, and what it asks of the database. */
export interface Watch {
  /** Makes an effect part of the run. */
  readonly of: <A, E, R>(run: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Whether the run has asked for anything, or may have. */
  readonly sent: boolean
  /** Set when the run was not let through; then what it came to means nothing. */
  readonly refusal: Refusal | undefined
  /** Ends the run. What still goes on in it, because it cannot be interrupted, reaches the database no more. */
  readonly end: () => void
}

/** The transaction handlers run in. */
export interface Transaction {
  readonly watch: (rule: Rule) => Watch
  /** Whether it can still commit. Fails when its connection is gone. */
  readonly isSound: Effect.Effect<boolean, ChunkStoreError>
  /** Ends what still runs in it and cannot be interrupted, as far as that is in the store's power. */
  readonly abandon: Effect.Effect<void>
  /** No further run should begin in it after so long. */
  readonly longest: Duration.Duration
}

/** A store that unparks in portions, so as not to hold locks for long, takes at most so many chunks of a kind at a beat. */
export const mostUnparked = 10_000

export { aliveFor, rememberedFor } from "./internal/liveness.ts"

/** What a worker's beat tells it. */
export interface Beat {
  /** Chunks taken out of the car park because this worker serves them. With {@link mostUnparked} or more there may be others. */
  readonly unparked: number
  /**
   * What other live workers serve and this one does not: kinds, and newer versions of kinds that it serves as well. A handler
   * of `core` is none for a kind that another worker has a handler of its own namespace for.
   */
  readonly elsewhere: ReadonlyArray<Left>
  /** Kinds nobody may drain now. `schemaIdentity` `"*"` means the whole namespace, `namespace` `"*"` everything. */
  readonly paused: ReadonlyArray<Kind>
}

// ------------------------------------------------------------------------------------------------------- the port

/** The port. See the module's laws. */
export class ChunkStore extends Context.Service<ChunkStore, {
  // --- phase 1
  /**
   * Records finished calls and their chunks, one commit for all, in the caller's transaction when there is one. The
   * calls were validated. A call that is there already with the same content is `unchanged`; with other content it is a
   * `conflict` and stays as it was. A call begun but not succeeded is completed. A call that the database refuses harms
   * no other: the others are recorded. (The only call of a `record` that is part of a caller's transaction is not told apart
   * from that transaction: its refusal is a {@link ChunkStoreError}.)
   *
   * The content is namespace, service, context, input, ordering key and outputs; an input of null is none, and a part of
   * `""` is none. Times, priority, correlation id, details and trace do not count; nor do input and outputs once pruned.
   */
  readonly record: (calls: ReadonlyArray<ServiceCall>) => Effect.Effect<ReadonlyArray<RecordOutcome>, ChunkStoreError>
  /**
   * Marks a call as running for as long as the lease, in a commit of its own, unless it runs elsewhere or has succeeded.
   * One that failed, or whose run died, may be begun with other content: it has no answer yet.
   */
  readonly begin: (call: CallSpec, lease: Duration.Duration) => Effect.Effect<Begun, ChunkStoreError>
  /** Extends a running call's lease. False when it is no longer this token's. */
  readonly renewRun: (
    callId: string,
    token: string,
    lease: Duration.Duration
  ) => Effect.Effect<boolean, ChunkStoreError>
  /** Ends a running call as failed; `error` undefined gives it back as if it had not begun. Fenced by the token. */
  readonly abandon: (callId: string, token: string, error: string | undefined) => Effect.Effect<void, ChunkStoreError>

  // --- phase 2
  /**
   * Claims due chunks, oldest first, priority counted in. A chunk that was held when a worker died is claimed alone.
   * Expired leases are taken over and counted as crashes.
   */
  readonly claim: (request: ClaimRequest) => Effect.Effect<Claim, ChunkStoreError>
  /** Gives back whatever a token holds, at no cost: for whoever did not hear the answer to its claim. */
  readonly giveUp: (token: string) => Effect.Effect<void, ChunkStoreError>
  /**
   * Extends the lease of the chunks that are still held, and gives back those. What is being persisted at this moment is
   * held, and not waited for.
   */
  readonly renew: (
    token: string,
    chunks: ReadonlyArray<ClaimedChunk>,
    lease: Duration.Duration,
    /** The worker has nothing else under way from now on: when it dies, the chunk is to blame. */
    alone?: boolean
  ) => Effect.Effect<ReadonlyArray<ClaimedChunk>, ChunkStoreError>
  /**
   * Runs `work` in one transaction with the ledger rows and the settlement of the chunks it returns. When `work` fails,
   * or some of the chunks are not this claim's, or are in the ledger, all is rolled back. The effect succeeds after the
   * commit. Work may leave out chunks it was not able to persist: those stay claimed.
   *
   * Work asks the database for something again within `idle`: a store whose transactions hold locks ends one that
   * is idle much longer, for its worker is frozen or unreachable, and others wait for what it holds.
   *
   * What the handlers change in the transaction or the session, beside rows, does not reach ledger and settlement, and is
   * undone at the end. Nothing is waited for without a limit. A transaction that handlers have ended themselves is
   * {@link TransactionSpoiled}.
   */
  readonly persist: <E, R>(
    token: string,
    work: (transaction: Transaction) => Effect.Effect<ReadonlyArray<Persisted>, E, R>,
    idle?: Duration.Duration
  ) => Effect.Effect<void, E | LeaseLost | AlreadyPersisted | ChunksLocked | TransactionSpoiled | ChunkStoreError, R>
  /**
   * Whether the database would take the end of a claim at this moment: does all that `persist` and `settle` do, for no
   * chunk. Who fails while this succeeds has only itself to blame.
   */
  readonly probe: Effect.Effect<void, ChunkStoreError>
  /**
   * Whether an error a handler failed with is of the kind that is the database's and passing: a lost connection, a deadlock,
   * a conflict, a shutdown, too many connections. Then, if the handlers' transaction suffered from it, nobody is to blame.
   * A time limit that a handler's statement ran into is the handler's failure.
   */
  readonly isTransient: (error: unknown) => boolean
  /**
   * Ends the claim of chunks in ways other than persisted. Answers with those that were still held and so were settled, and
   * says of each whether it frees its ordering key: the drain asks nobody else.
   * After the lease's end an attempt is not charged any more: then the worker was frozen, not the handler slow.
   */
  readonly settle: (
    token: string,
    settlements: ReadonlyArray<Settlement>
  ) => Effect.Effect<ReadonlyArray<Settled>, ChunkStoreError>
  /**
   * Persists one chunk outside the drain: runs `work` in a transaction (the caller's when there is one) together with the
   * ledger row, unless the ledger has the key. A second caller waits for the first. `created` says which it was. No claim
   * takes the chunk meanwhile; afterwards it is neither outstanding nor a dead letter.
   */
  readonly once: <E, R>(
    entry: { readonly key: ChunkKey; readonly namespace: string; readonly handler: string },
    work: Effect.Effect<ReadonlyArray<DomainObject>, E, R>
  ) => Effect.Effect<{ readonly created: boolean; readonly entry: LedgerEntry }, E | ChunkStoreError, R>
  /** Runs an effect after the surrounding transaction's commit, or at once when there is none. */
  readonly afterCommit: (effect: Effect.Effect<void>) => Effect.Effect<void>
  /**
   * A worker's sign of life, and its upkeep: tells the store what it serves, unparks what it serves in versions that it reads,
   * releases what waits behind nothing, forgets workers not seen for long.
   */
  readonly beat: (worker: string, serves: ReadonlyArray<Served>) => Effect.Effect<Beat, ChunkStoreError>
  /** The worker is leaving. */
  readonly leave: (worker: string) => Effect.Effect<void, ChunkStoreError>

  /**
   * Releases all that waits behind nothing, as beats do with some of it at a time. Gives back how many chunks. How a chunk comes
   * to wait behind nothing is a setting that was switched, or rows that were edited manually.
   */
  readonly releaseWaiting: Effect.Effect<number, ChunkStoreError>
  /** The ledger rows of these keys. */
  readonly ledger: (keys: ReadonlyArray<ChunkKey>) => Effect.Effect<ReadonlyArray<LedgerEntry>, ChunkStoreError>
}>()("effect-sluice/ChunkStore") {}
