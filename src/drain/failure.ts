/** The errors of a batch, and how a failure is charged to a chunk. */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import {
  type AlreadyPersisted,
  type ChunksLocked,
  type ChunkStoreError,
  type FailureKind,
  type LeaseLost,
  type Refusal,
  Settlement,
  type TransactionSpoiled
} from "../ChunkStore.ts"
import { describeCause } from "../internal/describe.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import type * as Settings from "../Settings.ts"
import type { Prepared } from "./prepare.ts"

/** A handler ran longer than its timeout. */
export class HandlerTimeout extends Data.TaggedError("HandlerTimeout")<{
  readonly after: Duration.Duration
  /** Whether it continued although it was interrupted. Its transaction was rolled back in the meantime. */
  readonly hangs: boolean
}> {
  override get message() {
    return `did not finish within ${Duration.format(this.after)}` +
      (this.hangs ? ", and could not be interrupted" : "")
  }
}

/** Handlers failed after a statement had been sent to the database: the transaction was rolled back. */
export class BatchFailed extends Data.TaggedError("BatchFailed")<{
  readonly failed: ReadonlyMap<Prepared, Cause.Cause<unknown>>
  /**
   * The failed ones that may have failed only because another run had broken the transaction, or had held them up. None
   * when the runs went one after another: the first failure ended the batch.
   */
  readonly maybeHarmed: ReadonlySet<Prepared>
  /**
   * The chunks that failed before they had sent anything to the database, so the batch went on without them. Alone they
   * would have failed the same way.
   */
  readonly failedUnsent: ReadonlyMap<Prepared, Cause.Cause<unknown>>
  /** Not run, in the order of the batch. */
  readonly notRun: ReadonlyArray<Prepared>
  /** Whether no run before the failed one succeeded in the transaction: alone it would have failed the same way. */
  readonly asIfAlone: boolean
}> {}

/**
 * The database failed a handler with a transient error. No chunk is charged at first, and the batch is retried; `split`
 * bounds how often.
 */
export class BatchSuffered extends Data.TaggedError("BatchSuffered")<{
  readonly error: ChunkStoreError
  /** Whether the connection survived: then it was a conflict, not an outage. */
  readonly survived: boolean
  /** The chunk in whose run it happened, if known. */
  readonly one: Prepared | undefined
}> {}

/** A run sent a statement that cannot share a transaction with other runs, or that its handler's options exclude. */
export class NotShared extends Data.TaggedError("NotShared")<{
  readonly one: Prepared
  readonly refusal: Refusal
}> {}

/** Why a batch did not commit. */
export type BatchError =
  | BatchFailed
  | BatchSuffered
  | NotShared
  | ChunkStoreError
  | LeaseLost
  | AlreadyPersisted
  | ChunksLocked
  | TransactionSpoiled

/** The first error of this class in a cause. */
export const errorIn = <A>(
  cause: Cause.Cause<unknown>,
  type: abstract new(...args: never) => A
): A | undefined => {
  for (const reason of cause.reasons) {
    if (reason._tag === "Fail" && reason.error instanceof type) return reason.error
  }
  return undefined
}

/** A failure to be charged to a chunk. */
export interface Charge {
  readonly one: Prepared
  readonly cause: Cause.Cause<unknown>
  readonly kind: FailureKind
}

/** The failure kind of a handler's cause. */
export const failureKind = (cause: Cause.Cause<unknown>): FailureKind =>
  Cause.hasDies(cause)
    ? "defect"
    : cause.reasons.some((reason) => reason._tag === "Fail" && reason.error instanceof HandlerTimeout)
    ? "timeout"
    : "failed"

/** Whether the handler's own `permanent` returns true. If it throws, it counts as false: it must not stop the drain. */
const saysPermanent = ({ handler }: Prepared, error: unknown): boolean => {
  try {
    return handler.options.permanent?.(error) === true
  } catch {
    return false
  }
}

/** By the tags: a bundled handler module has its own copies of the classes. */
const isRejection = (error: unknown): boolean =>
  Predicate.isTagged(error, "HandlerRejected") || Predicate.isTagged(error, "ContextMissing")

const isPermanent = (one: Prepared, cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) =>
    reason._tag === "Fail" &&
    (isRejection(reason.error) || saysPermanent(one, reason.error))
  )

/** The settlement of a charged chunk: it is retried after its backoff, or it is dead. */
export const toSettlement = Effect.fnUntraced(function*(
  { cause, kind, one }: Charge,
  settings: Settings.Values
): Effect.fn.Return<Settlement> {
  const { chunk, handler } = one
  const attempts = chunk.attempts + 1
  const base = { chunk, failure: { handler: handler.name, kind, message: describeCause(cause) } }
  if (isPermanent(one, cause)) return Settlement.Bury({ ...base, reason: "rejected", charge: true })
  if (attempts >= (handler.options.maxAttempts ?? settings.maxAttempts)) {
    return Settlement.Bury({ ...base, reason: "exhausted", charge: true })
  }
  const schedule = handler.options.retry ?? RetryPolicy.standard
  return Settlement.Retry({ ...base, delay: yield* RetryPolicy.delayAfter(schedule, attempts) })
})
