/**
 * A language model that answers from a list, and the dialogue it is asked about.
 */
import { Output } from "effect-sluice"
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import * as Model from "effect/ai/Model"
import type * as Response from "effect/ai/Response"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

/** What the patient says. */
export class PatientReply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
  schema: Schema.Struct({
    text: Schema.String,
    pain: Schema.Int,
    since: Schema.optionalKey(Schema.DateTimeUtcFromString)
  }).annotate({ description: "What the patient says" })
}) {}

/** A test that the student orders. */
export class OrderTest extends Output.make("schemas.chatlab.examination.order-test", {
  schema: Schema.Struct({ test: Schema.Literals(["x-ray", "mri"]) })
}) {}

/** The service that answers for the patient. */
export const service = "services.chatlab.standardized_patient.generate-reply"
/** A call of it. */
export const callOf = (callId: string) => ({ callId, namespace: "chatlab", service })

/** One answer of the model: a text, tool calls, or an error. `hold` is waited for before the last piece of a stream. */
export interface Scripted {
  readonly text?: string
  readonly calls?: ReadonlyArray<{ readonly id: string; readonly name: string; readonly params: unknown }>
  readonly fail?: AiError.AiErrorReason
  readonly hold?: Effect.Effect<void>
  /** Parts as they are, whatever they are; also of a stream. */
  readonly parts?: ReadonlyArray<unknown>
  /** What the provider writes on the request's span. */
  readonly span?: Readonly<Record<string, unknown>>
}

const about = (n: number): Response.ResponseMetadataPartEncoded =>
  ({ type: "response-metadata", id: `resp_${n}`, modelId: "mock-1-2026-10-01" }) as Response.ResponseMetadataPartEncoded
const finish = (reason: Response.FinishReason): Response.FinishPartEncoded =>
  ({
    type: "finish",
    reason,
    usage: {
      inputTokens: { total: 100, uncached: 60, cacheRead: 40, cacheWrite: undefined },
      outputTokens: { total: 20, text: 15, reasoning: 5 }
    }
  }) as Response.FinishPartEncoded

const failing = (method: string, reason: AiError.AiErrorReason) => AiError.make({ module: "Mock", method, reason })

/** A model that gives these answers one after another, and remembers what it was asked. */
export const mockModel = (...script: ReadonlyArray<Scripted>) => {
  const asked: Array<LanguageModel.ProviderOptions> = []
  const next = (options: LanguageModel.ProviderOptions): Scripted => {
    asked.push(options)
    return script[asked.length - 1] ?? { fail: new AiError.UnknownError({ description: "asked too often" }) }
  }
  const layer = Model.make(
    "mock",
    "mock-1",
    Layer.effect(
      LanguageModel.LanguageModel,
      LanguageModel.make({
        generateText: (options) =>
          Effect.gen(function*() {
            const { calls, fail, hold, parts, span = {}, text } = next(options)
            for (const [name, value] of Object.entries(span)) options.span.attribute(name, value)
            // a provider may return anything
            if (parts !== undefined) return [...parts] as Array<Response.PartEncoded>
            if (hold !== undefined) yield* hold
            if (fail !== undefined) return yield* failing("generateText", fail)
            return [
              about(asked.length),
              ...(text === undefined ? [] : [{ type: "text" as const, text }]),
              ...(calls ?? []).map((call) => ({ type: "tool-call" as const, ...call })),
              finish(calls === undefined ? "stop" : "tool-calls")
            ]
          }),
        streamText: (options) =>
          Stream.suspend(() => {
            const { calls = [], fail, hold = Effect.void, parts } = next(options)
            if (parts !== undefined) return Stream.fromIterable(parts as ReadonlyArray<Response.StreamPartEncoded>)
            const pieces = calls.flatMap((call): Array<Response.StreamPartEncoded> => [
              { type: "tool-params-start", id: call.id, name: call.name },
              ...(JSON.stringify(call.params).match(/.{1,12}/gs) ?? []).map((delta) => ({
                type: "tool-params-delta" as const,
                id: call.id,
                delta
              })),
              { type: "tool-params-end", id: call.id },
              { type: "tool-call", ...call }
            ])
            const half = Math.ceil(pieces.length / 2)
            return Stream.fromIterable<Response.StreamPartEncoded>([about(asked.length), ...pieces.slice(0, half)])
              .pipe(
                Stream.concat(Stream.fromEffectDrain(hold)),
                Stream.concat(
                  fail === undefined
                    ? Stream.fromIterable([...pieces.slice(half), finish("tool-calls")])
                    : Stream.fail(failing("streamText", fail))
                ),
                Stream.rechunk(1)
              )
          })
      })
    )
  )
  return { layer, asked }
}
