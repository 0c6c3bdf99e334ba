/**
 * What a drain did, in numbers of chunks: a count for each outcome.
 */
import * as Schema from "effect/Schema"
import type { ClaimedChunk } from "../ChunkStore.ts"
import { outcomeNames } from "../internal/outcomeWords.ts"
import { nameOf, type Outcomes } from "./Outcome.ts"

/** What a cycle, or several, came to. All are numbers of chunks. */
export const Report = Schema.Struct({
  claimed: Schema.Int,
  /** Committed, with at least one domain object. */
  persisted: Schema.Int,
  /** Committed, and the handler made no domain object. */
  nothingToCreate: Schema.Int,
  /** Found in the ledger: nothing was done again. */
  alreadyPersisted: Schema.Int,
  /** A handler failed: the chunk was charged an attempt and will be tried again. */
  retried: Schema.Int,
  /** No handler, or paused: waits, at no cost. */
  parked: Schema.Int,
  /** Went to the dead letters. */
  dead: Schema.Int,
  /** Given back at no cost: behind an older chunk of its ordering key, or at a shutdown. */
  released: Schema.Int,
  /** Another worker's by now: the lease ran out. */
  lost: Schema.Int
})
/** What a cycle, or several, came to. */
export interface Report extends Schema.Schema.Type<typeof Report> {}

/** The report of nothing done. */
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

/** Two reports as one. */
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
