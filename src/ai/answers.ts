/**
 * Listens to what a model answers. `effect/ai` hands every response to the current span transformer before anything is
 * decoded, so an answer that does not fit is heard as well, with its usage. The transformer is set for the effect that
 * asks, whatever it does in between.
 */
import * as Model from "effect/ai/Model"
import type * as Response from "effect/ai/Response"
import * as Telemetry from "effect/ai/Telemetry"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import type { Run } from "../CallAttempt.ts"
import type { CallFacts } from "../CallFacts.ts"

/** A part of a response, of whatever tools. */
// `AllParts` has no other form for tools that are not known
export type Part = Response.AllParts<any>

/** What a response says of itself, and the call's facts know. */
export const factsOf = (parts: ReadonlyArray<Part>): CallFacts => {
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

/** Facts without those that are not known. */
const known = (facts: { readonly [K in keyof CallFacts]: CallFacts[K] | undefined }): CallFacts =>
  // what is left has the fields' own types
  Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined && value !== "")) as CallFacts

/**
 * An answer as text: the parameters of its one tool call, or all its tool calls as JSON; of a stream that was cut off, what
 * had come of them; else what was written.
 */
export const textOf = (parts: ReadonlyArray<Part>): string | undefined => {
  const calls = parts.filter((part) => part.type === "tool-call").filter(({ providerExecuted }) => !providerExecuted)
  if (calls.length === 1) return JSON.stringify(calls[0]?.params)
  if (calls.length > 1) return JSON.stringify(calls.map(({ id, name, params }) => ({ id, name, params })))
  const begun = parts.map((part) => part.type === "tool-params-delta" ? part.delta : "").join("")
  const written = parts.map((part) => part.type === "text" ? part.text : part.type === "text-delta" ? part.delta : "")
  return begun || written.join("") || undefined
}

/** Whether anything came that is paid for. */
const isAnswer = (parts: ReadonlyArray<Part>): boolean =>
  parts.some(({ type }) => type !== "response-metadata" && type !== "error")

const attributeOf = (attributes: ReadonlyMap<string, unknown>, ...names: ReadonlyArray<string>): string | undefined =>
  names.map((name) => attributes.get(name)).find((value) => typeof value === "string")

/** An answer that was heard. */
export interface Answer {
  readonly text?: string
  readonly facts: CallFacts
}

/** Listens for one run of a call. */
export interface Listener {
  /**
   * Listens while an effect asks. What was answered is an attempt of the run, each by itself, however the effect ends.
   * `more` is asked at the end for what is known of the answers besides.
   */
  readonly whileAsking: <A, E, R>(ask: Effect.Effect<A, E, R>, more?: () => CallFacts) => Effect.Effect<A, E, R>
  /** The last answer to the latest ask, if there was one. */
  readonly last: () => Answer | undefined
}

/** Begins to listen, and says of the run who is asked, as far as the model's layer says so. */
export const listen = Effect.fnUntraced(function*(run: Run) {
  const ambient = Option.getOrUndefined(yield* Effect.serviceOption(Telemetry.CurrentSpanTransformer))
  const clock = yield* Clock.Clock
  const request = known({
    provider: Option.getOrUndefined(yield* Effect.serviceOption(Model.ProviderName)),
    requestModel: Option.getOrUndefined(yield* Effect.serviceOption(Model.ModelName))
  })
  if (Object.keys(request).length > 0) yield* run.facts(request)
  let last: Answer | undefined
  const answerOf = (parts: ReadonlyArray<Part>, { attributes, status }: Tracer.Span): Answer => {
    const text = textOf(parts)
    // a tracer that is switched off gives no times
    const elapsed = status.startTime === 0n ? undefined : clock.currentTimeNanosUnsafe() - status.startTime
    return {
      ...(text === undefined ? {} : { text }),
      facts: {
        ...request,
        // what the provider says itself, where the layer says nothing
        ...known({
          provider: attributeOf(attributes, "gen_ai.provider.name", "gen_ai.system"),
          requestModel: attributeOf(attributes, "gen_ai.request.model"),
          durationMillis: elapsed === undefined ? undefined : Math.max(0, Math.round(Number(elapsed) / 1e6))
        }),
        ...factsOf(parts)
      }
    }
  }
  const listener: Listener = {
    last: () => last,
    whileAsking: (ask, more = () => ({})) =>
      Effect.suspend(() => {
        const answers: Array<Answer> = []
        last = undefined
        return ask.pipe(
          Effect.provideService(Telemetry.CurrentSpanTransformer, (options) => {
            if (isAnswer(options.response)) answers.push(answerOf(options.response, options.span))
            ambient?.(options)
          }),
          Effect.onExit(() => {
            last = answers.at(-1)
            return Effect.forEach(
              answers,
              (answer) => run.answered({ ...answer, facts: { ...answer.facts, ...more() } }),
              { discard: true }
            )
          })
        )
      })
  }
  return listener
})
