/**
 * Facts of a recorded call: which model answered, what it used, what it cost. Facts outlive the payloads: pruning keeps
 * them. The names follow OpenTelemetry's conventions for generative AI.
 */
import * as Schema from "effect/Schema"

/** The most characters kept of a fact that is text; longer ones are cut. */
export const maxFactLength = 256

const count = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1e12 }))

/**
 * Facts of a call or of one attempt. Every field may be absent: absent means unknown, never zero. Counts are whole numbers
 * from 0 to 10^12.
 *
 * ```ts
 * const facts: CallFacts.CallFacts = {
 *   provider: "openai", requestModel: "gpt-5-mini", inputTokens: 812, outputTokens: 96,
 *   cost: { micros: 395, currency: "USD" }
 * }
 * ```
 */
export const CallFacts = Schema.Struct({
  /** Who was asked, as in `gen_ai.provider.name`: `openai`, `anthropic`, `aws.bedrock`. */
  provider: Schema.optionalKey(Schema.NonEmptyString),
  /** The model that was asked for. */
  requestModel: Schema.optionalKey(Schema.NonEmptyString),
  /** The model that answered; providers resolve aliases. */
  responseModel: Schema.optionalKey(Schema.NonEmptyString),
  /** Why the model ended its answer: `stop`, `length`, `tool-calls`, … */
  finishReason: Schema.optionalKey(Schema.NonEmptyString),
  /** The provider's id of the answer. */
  responseId: Schema.optionalKey(Schema.NonEmptyString),
  /** All input tokens, those read from the provider's cache included. */
  inputTokens: Schema.optionalKey(count),
  /** All output tokens, those of reasoning included. */
  outputTokens: Schema.optionalKey(count),
  /** Of the input tokens, those read from the provider's cache. */
  cachedInputTokens: Schema.optionalKey(count),
  /** Of the output tokens, those of reasoning. */
  reasoningTokens: Schema.optionalKey(count),
  /** What it cost: `micros` are millionths of a unit of an ISO 4217 currency. 0.000395 USD are 395 micros of `USD`. */
  cost: Schema.optionalKey(Schema.Struct({
    micros: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1e15 })),
    currency: Schema.String.check(Schema.isPattern(/^[A-Z]{3}$/))
  })),
  /** The prompt that was used, by the application's own name and version. */
  promptName: Schema.optionalKey(Schema.NonEmptyString),
  promptVersion: Schema.optionalKey(Schema.NonEmptyString),
  /** Milliseconds from the request to the first token of the answer. */
  timeToFirstTokenMillis: Schema.optionalKey(count),
  /** Milliseconds from the request to the end of the answer. */
  durationMillis: Schema.optionalKey(count),
  /** How many answers were asked for in the run that made the call. */
  attempts: Schema.optionalKey(count)
})
/** Facts of a call or of one attempt. */
export interface CallFacts extends Schema.Schema.Type<typeof CallFacts> {}
