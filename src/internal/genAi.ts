/**
 * Facts by the names of OpenTelemetry's conventions for generative AI: attributes of a span, and metrics.
 */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import * as Struct from "effect/Struct"
import type { CallAttempt } from "../CallAttempt.ts"
import type { CallFacts } from "../CallFacts.ts"
import * as Metrics from "../Metrics.ts"

/** The attributes of a call's span. */
export const attributesOf = (facts: CallFacts, correlationId: string | undefined): Record<string, unknown> => {
  const { cachedInputTokens, cost, finishReason, inputTokens, outputTokens, promptName, promptVersion, provider } =
    facts
  const all = {
    "gen_ai.provider.name": provider,
    "gen_ai.request.model": facts.requestModel,
    "gen_ai.response.model": facts.responseModel,
    "gen_ai.response.id": facts.responseId,
    "gen_ai.response.finish_reasons": finishReason === undefined ? undefined : [finishReason],
    "gen_ai.usage.input_tokens": inputTokens,
    "gen_ai.usage.output_tokens": outputTokens,
    "gen_ai.usage.cache_read.input_tokens": cachedInputTokens,
    "gen_ai.usage.reasoning.output_tokens": facts.reasoningTokens,
    "gen_ai.conversation.id": correlationId,
    // the conventions have no name for these
    "gen_ai.prompt.name": promptName,
    "sluice.prompt.version": promptVersion,
    "sluice.cost.micros": cost?.micros,
    "sluice.cost.currency": cost?.currency,
    "sluice.attempts": facts.attempts
  }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
}

/** Callers choose providers and models: only the first pairs get labels of their own. */
const mostModels = 50
const models = new Set<string>()

const namesOf = ({ provider = "", requestModel = "", responseModel = "" }: CallFacts) => {
  const model = requestModel === "" ? responseModel : requestModel
  const pair = JSON.stringify([provider, model])
  if (models.size < mostModels) models.add(pair)
  return models.has(pair)
    ? { "gen_ai.provider.name": provider, "gen_ai.request.model": model }
    : { "gen_ai.provider.name": Metrics.other, "gen_ai.request.model": Metrics.other }
}

const observe = (
  histogram: Metric.Histogram<number>,
  labels: Readonly<Record<string, string>>,
  value: number | undefined,
  context: Context.Context<never>
): void => {
  if (value !== undefined) Metrics.of(histogram, labels).updateUnsafe(value, context)
}

/**
 * Counts a call that has ended: each of its attempts is an operation; a call without attempts is one. What an attempt does
 * not say is taken from the call.
 */
export const count = (
  facts: CallFacts,
  attempts: ReadonlyArray<CallAttempt>,
  context: Context.Context<never>
): void => {
  const shared = Struct.pick(facts, ["provider", "requestModel"])
  for (const one of attempts.length === 0 ? [facts] : attempts.map((attempt) => ({ ...shared, ...attempt.facts }))) {
    const labels = namesOf(one)
    observe(Metrics.tokenUsage, { ...labels, "gen_ai.token.type": "input" }, one.inputTokens, context)
    observe(Metrics.tokenUsage, { ...labels, "gen_ai.token.type": "output" }, one.outputTokens, context)
    const { durationMillis } = one
    observe(
      Metrics.operationDuration,
      labels,
      durationMillis === undefined ? undefined : durationMillis / 1000,
      context
    )
  }
}
