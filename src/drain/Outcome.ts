/**
 * What becomes of a claimed chunk, and the word for it in each place where people meet it.
 */
import type * as Cause from "effect/Cause"
import type { ClaimedChunk, Persisted, Settlement } from "../ChunkStore.ts"

/** What became of one claimed chunk. A chunk without an outcome is given back when its claim ends. */
export type Outcome =
  | { readonly _tag: "Persisted"; readonly persisted: Persisted }
  | { readonly _tag: "Settled"; readonly settlement: Settlement; readonly cause: Cause.Cause<unknown> | undefined }
  /** Its lease ran out, and another worker has it. */
  | { readonly _tag: "Lost"; readonly chunk: ClaimedChunk }

/** The outcomes of a claim so far. */
export type Outcomes = ReadonlyMap<ClaimedChunk, Outcome>

/** The ends there are: the field of a drain's report, and the label of the metric. */
export const ends = {
  persisted: { report: "persisted", metric: "persisted" },
  nothingToCreate: { report: "nothingToCreate", metric: "nothing_to_create" },
  alreadyPersisted: { report: "alreadyPersisted", metric: "already_persisted" },
  retried: { report: "failed", metric: "retried" },
  parked: { report: "parked", metric: "parked" },
  dead: { report: "dead", metric: "dead" },
  released: { report: "released", metric: "released" },
  lost: { report: "released", metric: "lost" }
} as const

/** The name of an end. */
export type End = keyof typeof ends

const ofSettlement: { readonly [Tag in Settlement["_tag"]]: End } = {
  Retry: "retried",
  Park: "parked",
  Bury: "dead",
  Already: "alreadyPersisted",
  Release: "released"
}

/** Which end an outcome is. */
export const endOf = (outcome: Outcome | undefined): End => {
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
