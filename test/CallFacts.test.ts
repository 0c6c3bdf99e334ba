/**
 * What calls say of themselves, as traces and metrics tell it.
 */
import { it } from "@effect/vitest"
import { CallRecorder, Metrics } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Tracer from "effect/Tracer"
import { expect } from "vitest"
import { call } from "./contract/operators/dialogues.ts"
import { application } from "./support/clinic.ts"

const isolated = Effect.provideServiceEffect(Metric.MetricRegistry, Effect.sync((): Metric.MetricRegistry => new Map()))

it.effect("facts are on the recorder's span by OpenTelemetry's names, and each answer is counted", () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const attributes = (name: string) => Object.fromEntries(spans.find((span) => span.name === name)?.attributes ?? [])
  return Effect.gen(function*() {
    const recorder = yield* CallRecorder.CallRecorder
    const { outputs, ...spec } = call("a", { correlationId: "talk" })
    yield* recorder.run(spec, (run) =>
      Effect.gen(function*() {
        yield* run.facts({ provider: "openai", requestModel: "m" })
        yield* run.answered({ text: "{", facts: { inputTokens: 3, durationMillis: 1500 } })
        yield* run.refused("no JSON")
        yield* run.answered({
          text: "{}",
          facts: { inputTokens: 5, outputTokens: 2, finishReason: "stop", responseId: "r" }
        })
        return outputs
      }))
    yield* recorder.record(call("b", { facts: { provider: "anthropic", responseModel: "n", inputTokens: 7 } }))
    expect(attributes("CallRecorder.run")).toEqual({
      "gen_ai.provider.name": "openai",
      "gen_ai.request.model": "m",
      "gen_ai.response.id": "r",
      "gen_ai.response.finish_reasons": ["stop"],
      "gen_ai.usage.input_tokens": 5,
      "gen_ai.usage.output_tokens": 2,
      "gen_ai.conversation.id": "talk",
      "sluice.attempts": 2
    })
    const all = yield* Metric.snapshot
    const of = (id: string) =>
      all.flatMap((one) =>
        one.id === id && one.type === "Histogram"
          ? [[...Object.values(one.attributes ?? {}), one.state.count, one.state.sum].join(" ")]
          : []
      ).sort()
    expect(of(Metrics.tokenUsage.id)).toEqual(["anthropic n input 1 7", "openai m input 2 8", "openai m output 1 2"])
    expect(of(Metrics.operationDuration.id)).toEqual(["openai m 1 1.5"])
  }).pipe(Effect.provide(application()), isolated, Effect.withTracer(tracer))
})
