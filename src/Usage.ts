/**
 * What calls used, rolled up: calls, tokens and cost by day, namespace, service, schema and model. Only
 * calls with facts or attempts count: recording any other call writes no usage.
 */
import * as Schema from "effect/Schema"

/**
 * What one call adds to the usage, by model: a call whose attempts asked two models has two entries, of which one counts the
 * call.
 */
export interface UsageEntry {
  /** The schemas of the call's outputs, see `schemasOf`; empty for a run that failed. */
  readonly schemas: string
  /** Empty when unknown. */
  readonly provider: string
  /** The model that answered, else the one that was asked; empty when unknown. */
  readonly model: string
  /** How a run ended, or that a finished call was recorded: all 0 in the further entries of a call. */
  readonly calls: number
  /** Whether the run failed without an answer: 1 or 0. */
  readonly failed: number
  /** Whether the run's answer did not fit: 1 or 0. */
  readonly invalid: number
  /** Answers of this model that were paid for. */
  readonly attempts: number
  /** Input tokens, cached ones included. */
  readonly inputTokens: number
  /** Output tokens, reasoning included. */
  readonly outputTokens: number
  /** Of the input tokens, those that came from the provider's cache. */
  readonly cachedInputTokens: number
  /** Of the output tokens, those for reasoning. */
  readonly reasoningTokens: number
  /** Empty when the cost is unknown. */
  readonly currency: string
  /** The cost, in millionths of a unit of the currency. */
  readonly micros: number
}

/** What usage can be summed by. */
export const UsageBy = Schema.Literals(["model", "namespace", "schema", "day"])
/** What usage can be summed by. */
export type UsageBy = typeof UsageBy.Type

/** Usage of one model, namespace, schema or day. */
export const UsageRow = Schema.Struct({
  /**
   * The model with its provider, as `openai/gpt-5-mini`; the namespace; the schemas of the outputs; or the day (UTC) on
   * which the calls finished. Empty when unknown.
   */
  key: Schema.String,
  /** Runs that have ended, and finished calls that were recorded. A call that was run twice counts twice. */
  calls: Schema.Finite,
  /** Of these, runs that failed without an answer. */
  failed: Schema.Finite,
  /** Of these, runs whose answer did not fit. */
  invalid: Schema.Finite,
  /** Answers that were paid for. */
  attempts: Schema.Finite,
  inputTokens: Schema.Finite,
  outputTokens: Schema.Finite,
  cachedInputTokens: Schema.Finite,
  reasoningTokens: Schema.Finite,
  /** In millionths of a unit of each currency. */
  costs: Schema.Array(Schema.Struct({ currency: Schema.String, micros: Schema.Finite }))
})
/** Usage of one model, namespace, schema or day. */
export interface UsageRow extends Schema.Schema.Type<typeof UsageRow> {}
