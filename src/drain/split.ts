/**
 * Plans what follows from a batch that failed and was rolled back: which chunks are charged an attempt, which are given
 * back, and in which batches the others are tried next. A pure function from a batch and its error to a plan.
 *
 * A chunk is charged only when no other chunk can be the cause: it failed alone, or it had sent nothing to the
 * database, or no run before it had. Otherwise it is retried, apart from those that may have harmed it.
 */
import * as Cause from "effect/Cause"
import type { ClaimedChunk, FailureKind } from "../ChunkStore.ts"
import { type BatchError, type BatchFailed, type Charge, failureKind } from "./failure.ts"
import { orderingKeyOf } from "./orderingKey.ts"
import type { Prepared } from "./prepare.ts"

/** Chunks of one handler that are tried in one transaction; if it is `isWhole`, of several. */
export interface Batch {
  readonly members: ReadonlyArray<Prepared>
  /** All that a call has, to be persisted in one commit. What follows after a failure is divided by handler. */
  readonly isWhole?: boolean
  /** Part of a batch that the database has failed repeatedly: it is retried less often. */
  readonly isPart: boolean
  /** How often the database has failed it while it answered the probe. */
  readonly blamed: number
}

/** A batch that has not failed yet. */
export const batchOf = (members: ReadonlyArray<Prepared>, isPart = false): Batch => ({ members, isPart, blamed: 0 })

/** The plan after a failure. */
export interface Plan {
  readonly charge: ReadonlyArray<Charge>
  /** To be given back at no cost. */
  readonly giveBack: ReadonlyArray<Prepared>
  /** To be given back once a transaction outside the drain no longer locks them. */
  readonly giveBackLater: ReadonlyArray<Prepared>
  /** The batches to try next, in this order. */
  readonly next: ReadonlyArray<Batch>
}

const nothing: Plan = { charge: [], giveBack: [], giveBackLater: [], next: [] }

const batches = (...parts: ReadonlyArray<ReadonlyArray<Prepared>>): ReadonlyArray<Batch> =>
  parts.filter(({ length }) => length > 0).map((members) => batchOf(members))

const halves = (members: ReadonlyArray<Prepared>, isPart: boolean): ReadonlyArray<Batch> => {
  const middle = Math.ceil(members.length / 2)
  return [members.slice(0, middle), members.slice(middle)].map((half) => batchOf(half, isPart))
}

const chargeFor = (one: Prepared, cause: Cause.Cause<unknown>, kind = failureKind(cause)): Charge => ({
  one,
  cause,
  kind
})

/** Whether a chunk must wait for another one of its ordering key. */
const follows = (chunk: ClaimedChunk, other: ClaimedChunk): boolean =>
  chunk.orderingKey !== undefined && orderingKeyOf(chunk) === orderingKeyOf(other) && chunk.seq > other.seq

const withoutAny = (members: ReadonlyArray<Prepared>, others: ReadonlyArray<Prepared>) => {
  const out = new Set(others)
  return members.filter((one) => !out.has(one))
}

/**
 * The plan after runs of handlers failed. First the chunks that did not fail, together; then those that are the cause
 * of their own failure, each alone; then those that others may have harmed, in halves if there are several; then the
 * chunks behind them in their ordering keys.
 *
 * Of runs one after another, only one has failed: those before it are one batch and those that were not run are
 * another. The first has run once in vain and the second not at all, so no chunk but the failed one runs in vain twice
 * because of one failure.
 */
const afterFailure = (members: ReadonlyArray<Prepared>, error: BatchFailed): Plan => {
  const { asIfAlone, failed, failedUnsent, notRun, maybeHarmed } = error
  const charge = [...failedUnsent].map(([one, cause]) => chargeFor(one, cause))
  const failing = [...failed.keys()]
  const remaining = withoutAny(members, [...failedUnsent.keys()])
  if (asIfAlone || remaining.length === 1) {
    return {
      ...nothing,
      charge: [...charge, ...[...failed].map(([one, cause]) => chargeFor(one, cause))],
      next: batches(withoutAny(remaining, failing))
    }
  }
  const behind = notRun.filter((one) => failing.some((other) => follows(one.chunk, other.chunk)))
  const doubtful = failing.filter((one) => maybeHarmed.has(one))
  return {
    ...nothing,
    charge,
    next: [
      ...batches(withoutAny(remaining, [...failing, ...notRun])),
      ...batches(withoutAny(notRun, behind)),
      ...batches(...failing.filter((one) => !maybeHarmed.has(one)).map((one) => [one])),
      ...(doubtful.length > 1 ? halves(doubtful, false) : batches(doubtful)),
      ...batches(behind)
    ]
  }
}

const retryWhole = (batch: Batch): Plan => ({ ...nothing, next: [{ ...batch, blamed: batch.blamed + 1 }] })

/** One of the chunks is the cause, and it is unknown which: halves are tried, until one is alone. */
const apart = (
  members: ReadonlyArray<Prepared>,
  isPart: boolean,
  cause: Cause.Cause<unknown>,
  kind?: FailureKind
): Plan => {
  const [only] = members
  return only !== undefined && members.length === 1
    ? { ...nothing, charge: [chargeFor(only, cause, kind)] }
    : { ...nothing, next: halves(members, isPart) }
}

/** The same, when the run in which it happened is known. That chunk is charged only when it is alone: it may be chance. */
const around = (members: ReadonlyArray<Prepared>, one: Prepared, cause: Cause.Cause<unknown>): Plan => {
  if (members.length === 1) return { ...nothing, charge: [chargeFor(one, cause)] }
  const at = members.indexOf(one)
  const behind = members.slice(at + 1).filter(({ chunk }) => follows(chunk, one.chunk))
  return {
    ...nothing,
    next: [members.slice(0, at), withoutAny(members.slice(at + 1), behind), [one], behind].flatMap(asParts)
  }
}

const asParts = (members: ReadonlyArray<Prepared>): ReadonlyArray<Batch> =>
  members.length === 0 ? [] : [batchOf(members, true)]

/**
 * How often the database may fail a batch, a chunk alone, and a chunk alone in whose run it happened, before the chunks
 * count as the cause.
 */
const mostBlame = { batch: 1, alone: 4, aloneInItsRun: 3 }

/** The plan after a batch failed and `attempt` stopped retrying it. */
export const split = (batch: Batch, error: BatchError): Plan => {
  const { blamed, isPart, members } = batch
  if (members.length === 0) return nothing
  switch (error._tag) {
    case "BatchFailed":
      return afterFailure(members, error)
    case "BatchSuffered":
      if (!error.survived && blamed < (members.length === 1 ? mostBlame.aloneInItsRun : mostBlame.batch)) {
        return retryWhole(batch)
      }
      return error.one === undefined
        ? apart(members, true, Cause.fail(error.error))
        : around(members, error.one, Cause.fail(error.error))
    // the handler's runs share transactions in another way from now on: see `isolation.ts`
    case "NotShared":
      return { ...nothing, next: [batchOf(members, isPart)] }
    // all are given back, and claimed again in order
    case "LeaseLost":
      return { ...nothing, giveBack: members }
    case "ChunksLocked": {
      const locked = new Set(error.locked)
      const giveBackLater = members.filter(({ chunk }) => locked.has(chunk.seq))
      const giveBack = withoutAny(members, giveBackLater).filter(({ chunk }) =>
        giveBackLater.some((one) => follows(chunk, one.chunk))
      )
      return {
        ...nothing,
        giveBack,
        giveBackLater,
        next: batches(withoutAny(members, [...giveBack, ...giveBackLater]))
      }
    }
    // Either two queue rows of one chunk, edited manually, or a handler that persists another chunk of its batch.
    // Apart, each meets only its own ledger row.
    case "AlreadyPersisted":
      return apart(members, isPart, Cause.fail(error), "spoiled")
    case "TransactionSpoiled":
      return apart(members, isPart || error.transient === true, Cause.fail(error), "spoiled")
    // `attempt` has probed the database: it answers
    case "ChunkStoreError":
      return blamed < (members.length === 1 ? mostBlame.alone : mostBlame.batch)
        ? retryWhole(batch)
        : apart(members, true, Cause.fail(error))
  }
}
