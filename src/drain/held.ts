/**
 * Records the chunks of one claim and their outcomes. A chunk without an outcome is held: its lease is renewed while
 * the claim runs, and it is given back when the claim's scope closes. All steps of a claim share this record, so an
 * interrupted claim gives back exactly the chunks whose outcome was not committed.
 */
import * as Effect from "effect/Effect"
import type { Claim, ClaimedChunk } from "../ChunkStore.ts"
import { type Outcome, type Outcomes } from "./Outcome.ts"
import type { Pulse } from "./pulse.ts"
import type { Releases } from "./releases.ts"

/** The chunks of one claim. */
export interface Held {
  readonly claim: Claim
  /** The outcomes so far. */
  readonly outcomes: Outcomes
  /** The chunks without an outcome. */
  readonly chunks: () => ReadonlyArray<ClaimedChunk>
  /** Records an outcome, once it is committed. */
  readonly end: (chunk: ClaimedChunk, outcome: Outcome) => void
  /**
   * Records that the handler's run of these chunks continues although it was interrupted. They are given back when it
   * has ended; if their lease runs out first, that counts as a crash.
   */
  readonly hang: (chunks: ReadonlyArray<ClaimedChunk>, ended: Effect.Effect<unknown>) => Effect.Effect<void>
  /** Gives back the chunks without an outcome, except those whose handler hangs. */
  readonly release: Effect.Effect<void>
}

/** The record of a new claim. */
export const make = (claim: Claim, releases: Releases, pulse: Pulse): Held => {
  const outcomes = new Map<ClaimedChunk, Outcome>()
  const hanging = new Set<ClaimedChunk>()
  const chunks = () => claim.chunks.filter((chunk) => !outcomes.has(chunk))
  return {
    claim,
    outcomes,
    chunks,
    end: (chunk, outcome) => {
      outcomes.set(chunk, outcome)
      pulse.progress()
    },
    hang: (members, ended) => {
      const stuck = members.filter((chunk) => !outcomes.has(chunk))
      for (const chunk of stuck) hanging.add(chunk)
      return releases.whenEnded(ended, claim.token, stuck)
    },
    release: Effect.suspend(() => {
      const rest = chunks().filter((chunk) => !hanging.has(chunk))
      return rest.length === 0 ? Effect.void : releases.soon(claim.token, rest)
    })
  }
}
