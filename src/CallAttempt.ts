/**
 * An attempt is one answer that a running service received and that is paid for, whether it was valid or not. A call keeps
 * the attempts of all its runs.
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { CallFacts } from "./CallFacts.ts"
import type { CallStatus, ServiceCall } from "./ServiceCall.ts"

/** The most characters kept of an answer's text. What is longer is cut, and `CallAttempt.length` says how long it was. */
export const maxTextLength = 1024 * 1024

/**
 * What became of an attempt. `succeeded`: the service went on with the answer. `invalid`: the answer did not fit. `failed`:
 * no text had come, the run was interrupted, or the answer came too late, after another was recorded or the call was erased.
 */
export const AttemptOutcome = Schema.Literals(["succeeded", "invalid", "failed"])
/** What became of an attempt. */
export type AttemptOutcome = typeof AttemptOutcome.Type

/** One attempt. */
export const CallAttempt = Schema.Struct({
  outcome: AttemptOutcome,
  /**
   * The answer, unchanged but for NUL and lone surrogates, which Postgres cannot store and which are replaced. Null if there
   * was no text, and after it was pruned with the payloads.
   */
  text: Schema.NullOr(Schema.String),
  /** How many characters the answer had. `text` is shorter if it was cut at {@link maxTextLength} or the run's limit. */
  length: Schema.Int,
  facts: CallFacts,
  /** Why it is invalid, or what the run failed with. */
  error: Schema.NullOr(Schema.String),
  /** When the answer had arrived. */
  at: Schema.DateTimeUtcFromString
})
/** One attempt. */
export interface CallAttempt extends Schema.Schema.Type<typeof CallAttempt> {}

/** A call as it is recorded, whatever its status. */
export interface FoundCall {
  /** Without outputs unless it has succeeded; without input, outputs and details once these are pruned. */
  readonly call: ServiceCall
  /** Whether it runs, has succeeded, or how it ended otherwise. */
  readonly status: CallStatus
  /** The error of a call that failed or is invalid. */
  readonly error: string | undefined
  /** The attempts of all its runs, the oldest first. Those of a run are there once it has ended. */
  readonly attempts: ReadonlyArray<CallAttempt>
}

/**
 * How a running service reports its facts and answers. All of it is recorded when the run ends, successful or not. A process
 * that dies before that loses it.
 *
 * ```ts
 * recorder.run(call, Effect.fnUntraced(function*(run) {
 *   yield* run.facts({ provider: "openai", requestModel: "gpt-5-mini" })
 *   const { text, usage } = yield* ask(prompt)
 *   yield* run.answered({ text, facts: { inputTokens: usage.input, outputTokens: usage.output } })
 *   return [yield* decodeAndEncode(text)] // if this fails, the text is kept, and the call is `invalid`
 * }))
 * ```
 */
export interface Run {
  /** Adds facts to the call; a later value of a field replaces an earlier one. */
  readonly facts: (facts: CallFacts) => Effect.Effect<void>
  /** An answer has arrived and is paid for: a new attempt, with its raw text and its own facts. */
  readonly answered: (
    answer: { readonly text?: string | undefined; readonly facts?: CallFacts | undefined }
  ) => Effect.Effect<void>
  /** The last answer does not fit, with the reason: its attempt becomes `invalid`. Another ask may follow. */
  readonly refused: (reason: string) => Effect.Effect<void>
}
