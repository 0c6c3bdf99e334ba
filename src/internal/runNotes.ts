/**
 * Collects what a running service reports, and determines at its end the outcome of each of its attempts.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { type CallAttempt, maxTextLength, type Run } from "../CallAttempt.ts"
import type { CallFacts } from "../CallFacts.ts"
import { longestReason } from "./describe.ts"
import { shorten } from "./quote.ts"
import { soundFacts } from "./soundFacts.ts"
import { storableText } from "./storableText.ts"

/** The most characters kept of all answers of a run: they are stored by one statement. */
const mostText = 16 * maxTextLength

/** An attempt of a run that has not ended. */
interface Draft {
  readonly text: string | null
  readonly length: number
  readonly facts: CallFacts
  readonly at: DateTime.Utc
  refused: string | undefined
}

/** What a run reported, with the outcome. */
export interface Said {
  /** The facts of the last attempt, and over these the run's own. */
  readonly facts: CallFacts
  readonly attempts: ReadonlyArray<CallAttempt>
  /** Whether it reported nothing. */
  readonly isSilent: boolean
  /** Names of facts that were dropped because they cannot be stored. */
  readonly dropped: ReadonlyArray<string>
}

/** What is noted of one run. */
export interface RunNotes {
  readonly run: Run
  /** What it reported, when its outputs are recorded. */
  readonly succeeded: () => Said
  /** What it reported, when it failed with this error. An answer that was not refused before is what did not fit. */
  readonly failed: (error: string) => Said
  /**
   * What it reported, when its outputs cannot be recorded. They are an attempt's text if it has given none: they are paid for.
   */
  readonly unstorable: (error: string, outputs: unknown) => Effect.Effect<Said>
  /** What it reported, when it was interrupted. */
  readonly interrupted: () => Said
  /** What it reported, when its answer came too late. */
  readonly late: () => Said
}

const asText = (text: unknown): string | undefined => typeof text === "string" ? text : undefined

/** A value as JSON text, if it has one. */
const jsonOf = (value: unknown): string | undefined => {
  try {
    return JSON.stringify(value)
  } catch {
    return undefined
  }
}

/** Notes of a run that begins, with the facts of its call. */
export const make = (given: CallFacts | undefined): RunNotes => {
  const drafts: Array<Draft> = []
  const dropped = new Set<string>()
  let own: CallFacts = given ?? {}
  let isSilent = true
  let room = mostText
  const sound = (facts: unknown): CallFacts => {
    const found = soundFacts(facts)
    for (const name of found.dropped) dropped.add(name)
    return found.facts
  }
  const conclude = (last: (draft: Draft) => Pick<CallAttempt, "outcome" | "error">): Said => {
    const attempts = drafts.map(({ refused, ...draft }, index): CallAttempt => ({
      ...draft,
      ...(refused !== undefined
        ? { outcome: "invalid", error: refused }
        : index === drafts.length - 1
        ? last(drafts[index]!)
        : { outcome: "succeeded", error: null })
    }))
    const facts = { ...attempts.at(-1)?.facts, ...own }
    return {
      facts: attempts.length === 0 || facts.attempts !== undefined ? facts : { ...facts, attempts: attempts.length },
      attempts,
      isSilent,
      dropped: [...dropped]
    }
  }
  const answered = (text: string | undefined, facts: unknown, at: DateTime.Utc) => {
    // cutting may leave half of a surrogate pair, which storableText replaces
    const most = Math.max(0, Math.min(maxTextLength, room))
    // made storable it may be longer
    const kept = text === undefined ? null : storableText(storableText(text.slice(0, most)).slice(0, most))
    isSilent = false
    room -= kept?.length ?? 0
    drafts.push({ text: kept, length: text?.length ?? 0, facts: sound(facts), at, refused: undefined })
  }
  const failed = (error: string) =>
    conclude(({ text }) => ({ outcome: text === null ? "failed" : "invalid", error: storableText(error) }))
  return {
    run: {
      facts: (facts) =>
        Effect.sync(() => {
          isSilent = false
          own = { ...own, ...sound(facts) }
        }),
      answered: (answer) => Effect.map(DateTime.now, (at) => answered(asText(answer.text), answer.facts, at)),
      refused: (reason) =>
        Effect.sync(() => {
          const last = drafts.at(-1)
          if (last !== undefined) last.refused = storableText(shorten(String(reason), longestReason))
        })
    },
    succeeded: () => conclude(() => ({ outcome: "succeeded", error: null })),
    failed,
    unstorable: (error, outputs) =>
      Effect.map(DateTime.now, (at) => {
        if (!drafts.some(({ text }) => text !== null)) answered(jsonOf(outputs), undefined, at)
        return failed(error)
      }),
    interrupted: () => conclude(() => ({ outcome: "failed", error: "it was interrupted" })),
    late: () => conclude(() => ({ outcome: "failed", error: "it came too late" }))
  }
}
