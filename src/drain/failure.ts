/**
 * How a batch fails, and what a failure costs a chunk.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type {
  AlreadyPersisted,
  ChunksLocked,
  Failure,
  LeaseLost,
  Refusal,
  Settlement,
  StoreError,
  TransactionSpoiled
} from "../ChunkStore.ts"
import { ContextMissing, Rejected } from "../Handler.ts"
import { describeCause } from "../internal/describe.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import type * as Settings from "../Settings.ts"
import type { Prepared } from "./prepare.ts"

/** A handler ran longer than its timeout. */
export class HandlerTimeout extends Data.TaggedError("HandlerTimeout")<{
  readonly after: Duration.Duration
  /** Whether it went on although it was interrupted. Its transaction was rolled back without it. */
  readonly hangs: boolean
}> {
  override get message() {
    return `did not finish within ${Duration.format(this.after)}` +
      (this.hangs ? ", and could not be interrupted" : "")
  }
}

/** Handlers failed after something had been sent to the database: the transaction is rolled back. */
export class BatchFailed extends Data.TaggedError("BatchFailed")<{
  readonly failed: ReadonlyMap<Prepared, Cause.Cause<unknown>>
  /** Of those, the ones that failed by themselves, while the transaction was sound. The others may be victims. */
  readonly certain: ReadonlySet<Prepared>
  /** Failed before anything was sent: for these nothing was different from being alone. */
  readonly left: ReadonlyMap<Prepared, Cause.Cause<unknown>>
  /** Not run, in the order of the batch. */
  readonly notRun: ReadonlyArray<Prepared>
  /** Whether the failed one met the transaction as it would have alone: nobody before it had sent anything. */
  readonly asIfAlone: boolean
}> {}

/** The database failed a handler with an error that passes: nobody is charged, and it is tried again. */
export class BatchSuffered extends Data.TaggedError("BatchSuffered")<{
  readonly error: StoreError
  /** Whether the connection has survived it: a conflict, and no outage. */
  readonly survived: boolean
  /** Who met it, where that is known. */
  readonly one: Prepared | undefined
}> {}

/** A run cannot share its transaction with others, or break what its handler promises. All was rolled back. */
export class NotShared extends Data.TaggedError("NotShared")<{
  readonly one: Prepared
  readonly refusal: Refusal
}> {}

/** Why a batch did not commit. */
export type BatchError =
  | BatchFailed
  | BatchSuffered
  | NotShared
  | StoreError
  | LeaseLost
  | AlreadyPersisted
  | ChunksLocked
  | TransactionSpoiled

/** A failure that is to be charged. */
export interface Charge {
  readonly one: Prepared
  readonly cause: Cause.Cause<unknown>
  readonly kind: Failure["kind"]
}

/** The kind of failure that a handler's cause is. */
export const kindOf = (cause: Cause.Cause<unknown>): Failure["kind"] =>
  Cause.hasDies(cause)
    ? "defect"
    : cause.reasons.some((reason) => reason._tag === "Fail" && reason.error instanceof HandlerTimeout)
    ? "timeout"
    : "failed"

/** The application's own answer. One that throws is none, and must not stop the drain. */
const saysPermanent = ({ handler }: Prepared, error: unknown): boolean => {
  try {
    return handler.options.permanent?.(error) === true
  } catch {
    return false
  }
}

const isPermanent = (one: Prepared, cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) =>
    reason._tag === "Fail" &&
    (reason.error instanceof Rejected || reason.error instanceof ContextMissing || saysPermanent(one, reason.error))
  )

/** How a chunk ends that is charged: it is tried again, or buried. */
export const toSettlement = Effect.fnUntraced(function*(
  { cause, kind, one }: Charge,
  settings: Settings.Values
): Effect.fn.Return<Settlement> {
  const { chunk, handler } = one
  const attempts = chunk.attempts + 1
  const base = { chunk, failure: { handler: handler.name, kind, message: describeCause(cause) } }
  if (isPermanent(one, cause)) return { _tag: "Bury", ...base, reason: "rejected", charge: true }
  if (attempts >= (handler.options.maxAttempts ?? settings.maxAttempts)) {
    return { _tag: "Bury", ...base, reason: "exhausted", charge: true }
  }
  const schedule = handler.options.retry ?? RetryPolicy.standard
  return { _tag: "Retry", ...base, delay: yield* RetryPolicy.delayAfter(schedule, attempts) }
})
