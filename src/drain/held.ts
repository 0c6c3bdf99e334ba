/**
 * The chunks of one claim, and what became of each. A chunk that has no outcome is held: its lease is renewed while the claim
 * runs, and it is given back when the claim's scope closes. All steps of a claim share this one record, so that a claim that
 * is interrupted gives back exactly the chunks whose end was not committed.
 */
import * as Effect from "effect/Effect"
import type { Claim, ClaimedChunk } from "../ChunkStore.ts"
import { type Outcome, type Outcomes } from "./Outcome.ts"
import type { Pulse } from "./pulse.ts"
import type { Releases } from "./releases.ts"

/** The chunks of one claim. */
export interface Held {
  readonly claim: Claim
  /** What became of them so far. */
  readonly outcomes: Outcomes
  /** The chunks without an outcome. */
  readonly chunks: () => ReadonlyArray<ClaimedChunk>
  /** Notes an outcome, once it is committed. */
  readonly end: (chunk: ClaimedChunk, outcome: Outcome) => void
  /**
   * The handler's run of these chunks goes on although it was interrupted. They are given back when it has ended, and not
   * before; when their lease is over first, it counts as a crash.
   */
  readonly hang: (chunks: ReadonlyArray<ClaimedChunk>, ended: Effect.Effect<unknown>) => Effect.Effect<void>
  /** Gives the chunks without an outcome back, but for those whose handler hangs. */
  readonly release: Effect.Effect<void>
}

/** The chunks of a claim just made. */
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
