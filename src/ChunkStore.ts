/**
 * The port of the engine: every operation that drains and recorders need from a database. Memory, PGlite and Postgres
 * implement it, and one contract suite runs against all three. Queries for people and gauges are in `Inspector`.
 *
 * Laws every store keeps:
 *
 * - **Atomic.** `record` commits a call with its chunks or not at all; `persist` commits the handlers' writes, the
 *   ledger rows and the settlement or nothing.
 * - **The ledger decides.** A chunk's key has at most one row, permanently. `persist` of a key that has one changes
 *   nothing.
 * - **Fenced.** Only the holder of the claim's token settles, renews or persists. Calls with another token change
 *   nothing.
 * - **Leased by the store's own clock.** A lease that expires without a settlement counts as a crash, never as an
 *   attempt. The crash is taken back when the holder responds again: it was disconnected or frozen. An outage of the
 *   database is not counted as a crash.
 * - **In order.** Chunks of one ordering key are claimed only as an unbroken run from the oldest outstanding one. An
 *   ordering key is scoped to its namespace.
 * - **Only an older chunk of the same key blocks a chunk.** Locked or blocked chunks do not keep a claim from due
 *   chunks behind them, and a waiting chunk with nothing before it is released automatically.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { FoundCall } from "./CallAttempt.ts"
import type { CallFacts } from "./CallFacts.ts"
import type { InsideUse, LedgerEntry } from "./CallView.ts"
import type { ClaimedChunk, Persisted } from "./Chunk.ts"
import type { Insert, TableLocked } from "./Declaration.ts"
import type { DomainObject } from "./DomainObject.ts"
import type { ClaimLimits, Inside, InsideRequest, RecordInsideRequest } from "./Inside.ts"
import type {
  AlreadyPersisted,
  ChunksLocked,
  ChunkStoreError,
  LeaseLost,
  TransactionSpoiled
} from "./internal/storeErrors.ts"
import type { Kind, Left, Served } from "./Kind.ts"
import type { Added, Hold, Recording, RecordOutcome, RefusedByStore, ToRecord } from "./Recording.ts"
import type { CallSpec, ChunkKey, ServiceCall } from "./ServiceCall.ts"
import type { Settled, Settlement } from "./Settlement.ts"

export { DeathReason, FailureRecord, LedgerEntry, ParkReason } from "./CallView.ts"
export { type ClaimedChunk, type Payload, type Persisted } from "./Chunk.ts"
export type * from "./Inside.ts"
export type * from "./Recording.ts"
export { type Failure, type FailureKind, type Settled, Settlement } from "./Settlement.ts"

export {
  AlreadyPersisted,
  ChunksLocked,
  ChunkStoreError,
  LeaseLost,
  TransactionSpoiled
} from "./internal/storeErrors.ts"

/** How a run ended that has no outputs. */
export interface RunEnd extends Added {
  /** `invalid`: an answer had come and did not fit. `failed`: none had. */
  readonly status: "failed" | "invalid"
  /** What the run failed with. */
  readonly error: string
  /** The facts that are known of the call. */
  readonly facts?: CallFacts | undefined
}

/** The result of `begin`. */
export type Begun =
  | { readonly _tag: "Begun"; readonly token: string; readonly takenOver: boolean }
  | { readonly _tag: "Running"; readonly until: DateTime.Utc }
  /** The call as recorded; without input and outputs once these are pruned. */
  | { readonly _tag: "Succeeded"; readonly call: ServiceCall }
  /** The id belongs to another call, which is running or has succeeded. */
  | { readonly _tag: "Conflict" }
  | { readonly _tag: "Erased" }
  /** Not begun, because the caller is in a transaction: its rollback would also undo the run and its answer. */
  | { readonly _tag: "InTransaction" }
  | RefusedByStore

/** A claim: chunks held under one token until `until`, unless renewed. */
export interface Claim {
  /** The token under which the chunks are held. Renewing, persisting and settling need it. */
  readonly token: string
  /** The chunks that are held. */
  readonly chunks: ReadonlyArray<ClaimedChunk>
  /** True when the store saw that nothing else was due: the next claim can wait for a hint or a poll. */
  readonly last?: boolean | undefined
  /** The paused kinds, set on a claim for one call; `*` means all. For other claims a beat reports them. */
  readonly paused?: ReadonlyArray<Kind> | undefined
  /** Whether its chunks should be persisted in one commit, even if they have several handlers. Stores leave it out. */
  readonly inOneCommit?: boolean | undefined
  /**
   * Whether it turned out that the claim holds nothing, because its call was recorded by others or is paused: then its
   * chunks have no outcome. Stores leave it out.
   */
  readonly isVoid?: (() => boolean) | undefined
}

/** The parameters of a claim. */
export interface ClaimRequest extends ClaimLimits {
  /** The token of the claim; the store makes one when absent. */
  readonly token?: string | undefined
  /** The name of the worker, for display. */
  readonly worker: string
  /** How long the chunks are held without a renewal. */
  readonly lease: Duration.Duration
  /** Only the chunks of this call. */
  readonly callId?: string | undefined
}

/**
 * How a handler's run shares its transaction: it is `alone`, it is one of a `batch` that run one after another, or it
 * runs `together` with the others of its batch. A run that is `apart` is alone, and whatever it sends may leave something
 * that its statements do not show, for example by a trigger.
 */
export type Rule = "alone" | "apart" | "batch" | "together"

/** A statement that the run's rule does not allow. It was not sent. */
export interface Refusal {
  /**
   * `control`: it would begin or end a transaction. `shared`: it may leave something in the transaction that other runs
   * would see, such as a setting. `together`: it breaks the promise of a handler whose runs go together.
   */
  readonly reason: "control" | "shared" | "together"
  /** The statement's text. */
  readonly statement: string
}

/** Watches the statements that one run of a handler sends. */
export interface Watch {
  /** Makes an effect part of the run. */
  readonly of: <A, E, R>(run: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Whether the run has sent a statement, or may have. */
  readonly sent: boolean
  /** Whether a statement of the run is still under way, sent by a fiber that the run does not wait for. */
  readonly busy?: boolean | undefined
  /** Set when a statement of the run was refused; then the result of the run must not be used. */
  readonly refusal: Refusal | undefined
  /** Ends the run. Code of the run that continues because it cannot be interrupted no longer reaches the database. */
  readonly end: () => void
}

/** The transaction that handlers run in. */
export interface Transaction {
  /** Begins to watch the statements of one run. */
  readonly watch: (rule: Rule) => Watch
  /** Whether it can still commit. Fails when its connection is gone. */
  readonly isSound: Effect.Effect<boolean, ChunkStoreError>
  /** Carries out the declaration of a handler. */
  readonly insert: Insert
  /**
   * Runs an effect after the commit, and not after a rollback. An interruption after the commit does not prevent it. Outside
   * a caller's transaction, Postgres stores run it before all that handlers have registered.
   */
  readonly afterCommit: (effect: Effect.Effect<void>) => Effect.Effect<void>
  /** Ends statements that still run in it and cannot be interrupted, as far as the store is able to. */
  readonly abandon: Effect.Effect<void>
  /**
   * Whether the database carries out none of its statements. Asked after {@link abandon} when one has no answer: then its
   * connection is silent, and no handler is at fault.
   */
  readonly isSilent: Effect.Effect<boolean, ChunkStoreError>
  /** After this duration no further run should begin in it. */
  readonly longest: Duration.Duration
}

/** The most chunks of a kind that one beat unparks, in a store that unparks in portions to keep locks short. */
export const mostUnparked = 10_000

export { aliveFor, rememberedFor } from "./internal/liveness.ts"

/** The result of a worker's beat. */
export interface Beat {
  /**
   * How many parked chunks were released because this worker serves them. At {@link mostUnparked} or more there may be
   * others.
   */
  readonly unparked: number
  /**
   * What other live workers serve and this one does not: kinds, and newer versions of kinds that it serves as well. A
   * handler of `core` is none for a kind that another worker has a handler of its own namespace for.
   */
  readonly elsewhere: ReadonlyArray<Left>
  /** The paused kinds. `schemaIdentity` `"*"` means the whole namespace, `namespace` `"*"` everything. */
  readonly paused: ReadonlyArray<Kind>
}

/** The port. See the module's laws. */
export class ChunkStore extends Context.Service<ChunkStore, {
  // --- phase 1
  /**
   * Records finished calls and their chunks in one commit, in the caller's transaction when there is one. The calls
   * were validated. A call that is already recorded with the same content is `unchanged`; with other content it is a
   * `conflict` and the recorded call stays; one that was erased is `erased`. A call that was begun but has not succeeded is
   * completed. A call that the database refuses does not affect the others: they are recorded. (Exception: if `record` has
   * a single call and runs in a caller's transaction, its refusal is a {@link ChunkStoreError} of that transaction.)
   *
   * The content is namespace, service, context, input, ordering key and outputs; an input of null equals an absent one,
   * and so does a part of `""`. Times, priority, correlation id, facts, details and trace do not count; nor do input and
   * outputs once pruned.
   *
   * Attempts and usage are added when the call is `recorded`, never for one that was; usage as rows of its own, so that two
   * recordings never wait for each other because of it.
   */
  readonly record: (calls: ReadonlyArray<Recording>) => Effect.Effect<ReadonlyArray<RecordOutcome>, ChunkStoreError>
  /**
   * Records one call like `record`, with its chunks held by a claim from the start: no other claim takes them, and no
   * worker is woken. Returns the `seq` of each chunk in the order of the outputs. After a lost answer it can be
   * sent again: while the token holds all chunks of the call, it returns the same numbers. Otherwise undefined, and nothing
   * is written, when a call of this id is recorded already, whatever its content, or when its ordering key has something
   * outstanding. A call that the database refuses is a {@link ChunkStoreError}.
   */
  readonly recordHeld: (
    call: Recording,
    hold: Hold
  ) => Effect.Effect<ReadonlyArray<bigint> | undefined, ChunkStoreError>
  /**
   * Records one call like `record`, and persists all its outputs by a declared handler like `persistInside`, in one
   * commit; nothing is in the queue. Returns the objects of each output, in their order. Undefined, and nothing is
   * written, if the store cannot do that for this declaration, is within a caller's transaction, or has the kind paused,
   * or if the call is recorded already. A store may always return undefined. When it fails, nothing was changed, unless
   * its answer was lost.
   *
   * All outputs are of one kind, encoded by the handler's present schema. The call has no ordering key, is due, and has the
   * context that the declaration requires.
   */
  readonly recordInside: (
    call: Recording,
    request: RecordInsideRequest
  ) => Effect.Effect<ReadonlyArray<ReadonlyArray<DomainObject>> | undefined, ChunkStoreError | TableLocked>
  /**
   * Records the answer of an `invalid` call like `record`, for an answer that was kept and decoded later. False, and
   * nothing is written, when the call is no longer invalid: it runs again, has succeeded or failed, or was erased. A call
   * that the database refuses is a {@link ChunkStoreError}.
   */
  readonly recordDecoded: (call: Recording) => Effect.Effect<boolean, ChunkStoreError>
  /** Whether the verb would run within a transaction of the caller's. */
  readonly isNested: Effect.Effect<boolean>
  /**
   * Whether a call is new: nothing of it is recorded, and no transaction of the caller's surrounds. And the paused kinds,
   * for a caller that would run its handlers before it records it.
   */
  readonly isNew: (
    callId: string
  ) => Effect.Effect<{ readonly isNew: boolean; readonly paused: ReadonlyArray<Kind> }, ChunkStoreError>
  /**
   * Marks a call as running for the length of the lease, in its own commit, unless it runs elsewhere, has succeeded
   * or was erased.
   * A call that failed or is invalid, or whose run died, may be begun with other content: it has no answer yet. What its
   * earlier runs left, attempts and usage, stays.
   */
  readonly begin: (call: CallSpec, lease: Duration.Duration) => Effect.Effect<Begun, ChunkStoreError>
  /** Extends the lease of a running call, or of a repair (`DeadLetters`). False when this token no longer holds it. */
  readonly renewRun: (
    callId: string,
    token: string,
    lease: Duration.Duration
  ) => Effect.Effect<boolean, ChunkStoreError>
  /**
   * Ends a running call as failed or invalid, with the run's facts, attempts and usage; with `end` undefined the call is as
   * if it had not begun. If this token no longer holds the call, its status, error and facts stay as they are, and only the
   * run's attempts are added, with their usage, because they were paid for. They are not added a second time. Those of an
   * erased call have neither text nor error.
   */
  readonly abandon: (callId: string, token: string, end: RunEnd | undefined) => Effect.Effect<void, ChunkStoreError>
  /** A call as it is recorded, with its status and its attempts. */
  readonly find: (callId: string) => Effect.Effect<Option.Option<FoundCall>, ChunkStoreError>

  // --- phase 2
  /**
   * Claims due chunks, oldest first, adjusted by priority. A chunk that was held when a worker died is claimed alone.
   * Takes over expired leases and counts them as crashes.
   */
  readonly claim: (request: ClaimRequest) => Effect.Effect<Claim, ChunkStoreError>
  /**
   * Persists due chunks of a declared handler inside the store, in one commit and without a claim: takes the first ones,
   * makes the rows of the declaration, writes the ledger, and removes the chunks from the queue. Undefined if the store
   * cannot do that for this declaration, or is within a caller's transaction. A store may never do it: the chunks are then
   * claimed, and the rows are the same.
   *
   * It takes only chunks that a claim would take now, in its order, and of these only those that need no program: encoded by
   * the present schema (the fingerprint), never failed or held by a worker that died, without an ordering key, with the
   * context that the declaration requires. It does not change the others. When it fails, nothing was changed, and the error
   * does not show which chunk is at fault: claim the chunks to find out. After `TableLocked` no chunk is at fault, and a
   * claim would wait for the table as well.
   *
   * Its statement can be interrupted, even if the caller is uninterruptible. Between its commit and its result it cannot, so
   * that the caller announces what is committed.
   */
  readonly persistInside: (
    request: InsideRequest
  ) => Effect.Effect<Inside | undefined, ChunkStoreError | TableLocked>
  /** Gives back all chunks that a token holds, at no cost: for a claim whose answer did not arrive. */
  readonly giveUp: (token: string) => Effect.Effect<void, ChunkStoreError>
  /**
   * Extends the lease of the chunks that are still held, and returns those. A chunk that is being persisted at this
   * moment counts as held, without waiting for its row lock.
   */
  readonly renew: (
    token: string,
    chunks: ReadonlyArray<ClaimedChunk>,
    lease: Duration.Duration,
    /** The worker runs nothing else from now on: if it dies, the chunk counts as the cause. */
    alone?: boolean
  ) => Effect.Effect<ReadonlyArray<ClaimedChunk>, ChunkStoreError>
  /**
   * Runs `work` in one transaction with the ledger rows and the settlement of the chunks it returns. Rolls everything
   * back when `work` fails, when this claim does not hold some of the chunks, or when some are in the ledger. The
   * effect succeeds after the commit. Work may leave out chunks that it could not persist: those stay claimed.
   *
   * Work must send a statement at least every `idle`. A store whose transactions hold locks ends a transaction that is
   * idle much longer: its worker is frozen or unreachable, and others wait for its locks.
   *
   * Changes that handlers make to the transaction or the session, other than to rows, do not affect ledger and
   * settlement, and are undone at the end. Every wait has a limit. If handlers end the transaction themselves, or
   * in Postgres take chunks of the batch from the queue, it fails with {@link TransactionSpoiled}.
   *
   * With `toRecord`, the chunks belong to that call, and it is recorded in the transaction: persisted chunks have a row in
   * the ledger and none in the queue, and the others are held. Fails with `LeaseLost` if `recordHeld` would return
   * undefined, or if another transaction is recording the call; if that is known before, without running work.
   */
  readonly persist: <E, R>(
    token: string,
    work: (transaction: Transaction) => Effect.Effect<ReadonlyArray<Persisted>, E, R>,
    idle?: Duration.Duration,
    toRecord?: ToRecord
  ) => Effect.Effect<void, E | LeaseLost | AlreadyPersisted | ChunksLocked | TransactionSpoiled | ChunkStoreError, R>
  /**
   * Checks whether the database would accept the end of a claim now: does everything that `persist` and `settle` do,
   * for no chunk. A batch that fails while this succeeds is itself the cause.
   */
  readonly probe: Effect.Effect<void, ChunkStoreError>
  /**
   * Whether a handler's error is a transient error of the database: a lost connection, a deadlock, a conflict, a
   * shutdown, too many connections. If it broke the handlers' transaction, no chunk is charged. A statement of a
   * handler that exceeds a time limit is the handler's failure.
   */
  readonly isTransient: (error: unknown) => boolean
  /**
   * Describes a service, among those that a handler's layer was built with, whose writes are not in the store's
   * transactions: for example another client of the database. Undefined if there is none. A store that cannot tell leaves
   * this out.
   */
  readonly outsideOf?: ((services: Context.Context<never>) => string | undefined) | undefined
  /**
   * Ends the claim of chunks in ways other than persisted. Returns the settlements of those that were still held, each
   * with whether it frees its ordering key; the drain relies on this answer alone. After the end of the lease no
   * attempt is charged: the worker was frozen, the handler was not slow.
   */
  readonly settle: (
    token: string,
    settlements: ReadonlyArray<Settlement>
  ) => Effect.Effect<ReadonlyArray<Settled>, ChunkStoreError>
  /**
   * Persists one chunk outside the drain: runs `work` in a transaction (the caller's when there is one) together with
   * the ledger row, unless the ledger has the key. A second caller waits for the first. `created` is true when this
   * call ran `work`. No claim takes the chunk meanwhile; afterwards it is neither outstanding nor a dead letter.
   */
  readonly once: <E, R>(
    entry: { readonly key: ChunkKey; readonly namespace: string; readonly handler: string },
    work: Effect.Effect<ReadonlyArray<DomainObject>, E, R>
  ) => Effect.Effect<{ readonly created: boolean; readonly entry: LedgerEntry }, E | ChunkStoreError, R>
  /** Runs an effect after the surrounding transaction's commit, or immediately when there is none. */
  readonly afterCommit: (effect: Effect.Effect<void>) => Effect.Effect<void>
  /**
   * A worker's heartbeat, and its upkeep: tells the store what it serves and how it has persisted answers of declared
   * handlers, unparks what it serves in versions that it reads, releases what waits behind nothing, forgets workers not seen
   * for long.
   */
  readonly beat: (
    worker: string,
    serves: ReadonlyArray<Served>,
    inside?: ReadonlyArray<InsideUse>
  ) => Effect.Effect<Beat, ChunkStoreError>
  /** The worker is leaving. */
  readonly leave: (worker: string) => Effect.Effect<void, ChunkStoreError>

  /**
   * Releases all waiting chunks that have nothing before them; a beat does the same for some at a time. Returns how
   * many. Such chunks arise when a setting was switched or rows were edited manually.
   */
  readonly releaseWaiting: Effect.Effect<number, ChunkStoreError>
  /** The ledger rows of these keys. */
  readonly ledger: (keys: ReadonlyArray<ChunkKey>) => Effect.Effect<ReadonlyArray<LedgerEntry>, ChunkStoreError>
}>()("effect-sluice/ChunkStore") {}
