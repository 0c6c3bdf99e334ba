/**
 * The errors of a store's operations, as `ChunkStore` exports them.
 */
import * as Schema from "effect/Schema"
import { escapeProse } from "./escape.ts"

/**
 * A database operation failed. When `transient` (connection lost, deadlock, shutdown, too many connections), no chunk
 * was charged and the same operation may succeed later: the drain and its worker retry automatically, other callers
 * decide themselves. Otherwise a person must look at `cause`.
 */
export class ChunkStoreError extends Schema.TaggedError<ChunkStoreError>()("ChunkStoreError", {
  /**
   * The operation that failed: for `ChunkStore` its name alone, like `claim`; for other services with their name, like
   * `eventLog.take`.
   */
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

/**
 * Whether the cause of an error may soon be over, so that recording a paid answer is tried again. That holds for transient
 * errors, and also if the role may not log in (28), the database does not exist (3D), or a pooler has no connection, which
 * some report as an internal error (XX).
 */
export const mayBeOver = ({ code = "", transient }: ChunkStoreError): boolean => transient || /^(28|3D|XX)/.test(code)

/**
 * This claim no longer holds some of the chunks: its lease ran out and another worker has claimed them. Nothing was
 * changed.
 */
export class LeaseLost extends Schema.TaggedError<LeaseLost>()("LeaseLost", {
  claimed: Schema.Int,
  held: Schema.Int
}) {
  override get message() {
    return `${this.claimed - this.held} of ${this.claimed} chunks no longer belong to this claim: its lease ran out. ` +
      `Nothing was changed; raise SLUICE_LEASE if handlers are this slow`
  }
}

/**
 * Some of the chunks were already in the ledger. Nothing was changed; settle those as `Already` and continue with the
 * others.
 */
export class AlreadyPersisted extends Schema.TaggedError<AlreadyPersisted>()("AlreadyPersisted", {
  claimed: Schema.Int,
  /** How many of the claimed chunks were not in the ledger. */
  kept: Schema.Int
}) {
  override get message() {
    return `${this.claimed - this.kept} of ${this.claimed} chunks were persisted before. Nothing was changed`
  }
}

/**
 * A transaction outside the drain has locked some of the chunks, for example `once` while its effect runs. Everything
 * was rolled back. The other chunks need not wait for the locked ones.
 */
export class ChunksLocked extends Schema.TaggedError<ChunksLocked>()("ChunksLocked", {
  /** The `seq` of each locked chunk. Empty when the other transaction has released its locks by now. */
  locked: Schema.Array(Schema.BigInt)
}) {
  override get message() {
    return `${this.locked.length} chunks are locked by another transaction. Nothing was changed`
  }
}

/**
 * The handlers left their transaction unable to commit: a handler swallowed a database error, or a deferred constraint
 * does not hold. Everything was rolled back. One of the chunks is the cause; running them in smaller batches finds
 * which.
 */
export class TransactionSpoiled extends Schema.TaggedError<TransactionSpoiled>()("TransactionSpoiled", {
  code: Schema.optionalKey(Schema.String),
  /** A conflict or a time limit: it may pass, so the same batch is retried before it is split. */
  transient: Schema.optionalKey(Schema.Boolean),
  reason: Schema.String
}) {
  override get message() {
    const code = this.code === undefined ? "" : ` (${this.code})`
    const advice = this.code === "25P02"
      ? ". A handler must not swallow database errors"
      : this.code?.startsWith("23") === true
      ? ". A deferred constraint does not take the rows"
      : ""
    return `the transaction could not commit: ${this.reason}${code}${advice}`
  }
}
