/** The report of a drain: the number of chunks for each outcome. */
import * as Schema from "effect/Schema"
import type { ClaimedChunk } from "../ChunkStore.ts"
import { outcomeNames } from "../internal/outcomeWords.ts"
import { nameOf, type Outcomes } from "./Outcome.ts"

/** The result of one or more cycles. Every field is a number of chunks. */
export const Report = Schema.Struct({
  claimed: Schema.Int,
  /** Committed, with at least one domain object. */
  persisted: Schema.Int,
  /** Committed, and the handler made no domain object. */
  nothingToCreate: Schema.Int,
  /** Already in the ledger: not persisted again. */
  alreadyPersisted: Schema.Int,
  /** A handler failed: the chunk was charged an attempt and will be retried. */
  retried: Schema.Int,
  /** Parked because there is no handler or the kind is paused; no attempt is charged. */
  parked: Schema.Int,
  /** Became dead letters. */
  dead: Schema.Int,
  /** Given back at no cost: behind an older chunk of its ordering key, or at a shutdown. */
  released: Schema.Int,
  /** The lease ran out, and another worker has them. */
  lost: Schema.Int
})
/** The result of one or more cycles. */
export interface Report extends Schema.Schema.Type<typeof Report> {}

/** The empty report. */
export const emptyReport: Report = {
  claimed: 0,
  persisted: 0,
  nothingToCreate: 0,
  alreadyPersisted: 0,
  retried: 0,
  parked: 0,
  dead: 0,
  released: 0,
  lost: 0
}

/** The sum of two reports. */
export const addReports = (a: Report, b: Report): Report => {
  const sum = { ...a, claimed: a.claimed + b.claimed }
  for (const name of outcomeNames) sum[name] += b[name]
  return sum
}

/** The report of one claim. */
export const reportOf = (claimed: ReadonlyArray<ClaimedChunk>, outcomes: Outcomes): Report => {
  const counts = { ...emptyReport, claimed: claimed.length }
  for (const chunk of claimed) counts[nameOf(outcomes.get(chunk))]++
  return counts
}
