/** The outcomes of claimed chunks, and their names. */
import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import type { ClaimedChunk, Persisted, Settlement } from "../ChunkStore.ts"
import type { OutcomeName } from "../internal/outcomeWords.ts"

/** The outcome of one claimed chunk. A chunk without an outcome is given back when its claim ends. */
export type Outcome = Data.TaggedEnum<{
  /** Its handler's writes and its ledger row are committed. */
  Persisted: { readonly persisted: Persisted }
  /** It was settled in another way; `cause` is set where a handler failed. */
  Settled: { readonly settlement: Settlement; readonly cause: Cause.Cause<unknown> | undefined }
  /** Its lease ran out, and another worker has it. */
  Lost: {}
}>
/** The constructors of outcomes. */
export const Outcome = Data.taggedEnum<Outcome>()

/** The outcomes of a claim so far. */
export type Outcomes = ReadonlyMap<ClaimedChunk, Outcome>

const ofSettlement: { readonly [Tag in Settlement["_tag"]]: OutcomeName } = {
  Retry: "retried",
  Park: "parked",
  Bury: "dead",
  Already: "alreadyPersisted",
  Release: "released"
}

/** The name of an outcome. */
export const nameOf = (outcome: Outcome | undefined): OutcomeName => {
  switch (outcome?._tag) {
    case undefined:
      return "released"
    case "Lost":
      return "lost"
    case "Persisted":
      return outcome.persisted.objects.length > 0 ? "persisted" : "nothingToCreate"
    case "Settled":
      return ofSettlement[outcome.settlement._tag]
  }
}
