/**
 * Reads call facts from a response, or from the span of a request.
 */
import type * as Response from "effect/ai/Response"
import type * as Tracer from "effect/Tracer"
import type { CallFacts } from "../CallFacts.ts"

/** A part of a response, with any tools. */
// `AllParts` has no other form for tools that are not known
export type Part = Response.AllParts<any>

/** Facts without those that are not known. */
export const known = (facts: { readonly [K in keyof CallFacts]: CallFacts[K] | undefined }): CallFacts =>
  // what is left has the fields' own types
  Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined && value !== "")) as CallFacts

/** The facts in a response. */
export const factsOfParts = (parts: ReadonlyArray<Part>): CallFacts => {
  const about = parts.findLast((part) => part.type === "response-metadata")
  const finish = parts.findLast((part) => part.type === "finish")
  return known({
    responseId: about?.id,
    responseModel: about?.modelId,
    finishReason: finish?.reason,
    inputTokens: finish?.usage.inputTokens.total,
    cachedInputTokens: finish?.usage.inputTokens.cacheRead,
    outputTokens: finish?.usage.outputTokens.total,
    reasoningTokens: finish?.usage.outputTokens.reasoning
  })
}

/** The facts that a provider has written on a request's span, under OpenTelemetry's names. `now` is the clock's time. */
export const factsOfSpan = ({ attributes, status }: Tracer.Span, now: bigint): CallFacts => {
  const text = (...names: ReadonlyArray<string>) =>
    names.map((name) => attributes.get(name)).find((value) => typeof value === "string")
  const count = (name: string) => {
    const value = attributes.get(name)
    return typeof value === "number" ? value : undefined
  }
  const reasons = attributes.get("gen_ai.response.finish_reasons")
  return known({
    // `system` is the name that the convention had before
    provider: text("gen_ai.provider.name", "gen_ai.system"),
    requestModel: text("gen_ai.request.model"),
    responseModel: text("gen_ai.response.model"),
    responseId: text("gen_ai.response.id"),
    finishReason: Array.isArray(reasons) && typeof reasons[0] === "string" ? reasons[0] : undefined,
    inputTokens: count("gen_ai.usage.input_tokens"),
    outputTokens: count("gen_ai.usage.output_tokens"),
    // a tracer that is switched off gives no times
    durationMillis: status.startTime === 0n ? undefined : Math.max(0, Math.round(Number(now - status.startTime) / 1e6))
  })
}

/**
 * An answer as text, unchanged where possible: the parameters of its tool call, or all its tool calls as JSON, or else its
 * text. Undefined for an empty answer.
 */
export const textOfParts = (parts: ReadonlyArray<Part>): string | undefined => {
  const calls = parts.filter((part) => part.type === "tool-call").filter(({ providerExecuted }) => !providerExecuted)
  if (calls.length > 1) return JSON.stringify(calls.map(({ id, name, params }) => ({ id, name, params })))
  const streamed = parts.map((part) => part.type === "tool-params-delta" ? part.delta : "").join("")
  if (streamed !== "") return streamed
  if (calls[0] !== undefined) return JSON.stringify(calls[0].params)
  const written = parts.map((part) => part.type === "text" ? part.text : part.type === "text-delta" ? part.delta : "")
  return written.join("") || undefined
}
