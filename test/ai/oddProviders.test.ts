/**
 * Providers that answer oddly: what was paid for is kept whatever they send, and nothing is asked for without a limit.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, Inspector, RejectedAnswers, Settings } from "effect-sluice"
import * as Answer from "effect-sluice/ai"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import * as Telemetry from "effect/ai/Telemetry"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { expect } from "vitest"
import { callOf, mockModel, OrderTest, PatientReply, service } from "./mockModel.ts"

const recorder = CallRecorder.layer.pipe(Layer.provideMerge(MemoryStore.layer), Layer.provideMerge(Settings.layer()))
const prompt = "Where does it hurt?"
const ouch = { text: "Ouch", pain: 3 }
const fits = JSON.stringify(ouch)
const mri = { test: "mri" }
const found = (callId: string) =>
  Effect.flatMap(CallRecorder.CallRecorder, ({ find }) => Effect.map(find(callId), Option.getOrThrow))

const toolCall = (id: string, name: string, params: unknown) => ({ type: "tool-call", id, name, params })
const streamedCall = (id: string, name: string, params: unknown) => [
  { type: "tool-params-start", id, name },
  { type: "tool-params-delta", id, delta: JSON.stringify(params) },
  { type: "tool-params-end", id },
  toolCall(id, name, params)
]
const usage = (total: unknown) => ({ inputTokens: { total }, outputTokens: {} })

layer(recorder)("of a provider", (it) => {
  it.effect("whose answer is refused before it is heard, the attempt keeps the facts of the span", () =>
    Effect.gen(function*() {
      const span = { "gen_ai.response.id": "resp_9", "gen_ai.usage.input_tokens": 100 }
      const finish = { type: "finish", reason: "stop", usage: usage(0.5) }
      const model = mockModel({ span, parts: [{ type: "text", text: fits }, finish] })
      const error = yield* Effect.flip(
        Answer.generateObject(PatientReply, { call: callOf("half a token"), prompt, repair: 3 }).pipe(
          Effect.provide(model.layer)
        )
      )
      expect(error).toMatchObject({ _tag: "AiError", reason: { _tag: "InvalidOutputError" } })
      // the model cannot mend what its provider has sent
      expect(model.asked).toHaveLength(1)
      expect(yield* found("half a token")).toMatchObject({
        status: "failed",
        attempts: [{ text: null, facts: { responseId: "resp_9", inputTokens: 100, requestModel: "mock-1" } }]
      })
      const { inputTokens } = (yield* Inspector.Inspector.use((one) => one.usage({ by: "model" })))[0]!
      expect(inputTokens).toBe(100)
    }))

  it.effect("usage that cannot be true is dropped, and the answer is kept", () =>
    Effect.gen(function*() {
      for (const [n, total] of [-5, 1e15, undefined].entries()) {
        const parts = [{ type: "text", text: fits }, { type: "finish", reason: "stop", usage: usage(total) }]
        const call = callOf(`usage ${n}`)
        const ask = Answer.generateObject(PatientReply, { call, prompt })
        expect((yield* Effect.provide(ask, mockModel({ parts }).layer)).value).toEqual(ouch)
        const { facts } = (yield* found(call.callId)).call
        expect(facts).toEqual({ provider: "mock", requestModel: "mock-1", finishReason: "stop", attempts: 1 })
      }
    }))

  it.effect("each tool call is a part of its own, whatever its id is, and one that the provider ran itself is none", () =>
    Effect.gen(function*() {
      const ids = ["1", "1", "", "3", "x".repeat(200), "half \ud800", "1#2"]
      const search = { ...toolCall("s", "web-search", { query: "knee" }), providerExecuted: true }
      const model = mockModel({ parts: [search, ...ids.map((id) => toolCall(id, "order-test", mri))] })
      const { value } = yield* Answer.generateToolCalls([OrderTest], { call: callOf("ids"), prompt, repair: 1 }).pipe(
        Effect.provide(model.layer)
      )
      expect(value.map(({ part }) => part)).toEqual(["1", "1#2", "#2", "3", "#4", "#5", "1#2#2"])
      expect(model.asked).toHaveLength(1)
    }))

  it.effect("a stream gives the pieces of one tool call, also between those of others", () =>
    Effect.gen(function*() {
      const [start, delta, ...rest] = streamedCall("a", "patient-reply", ouch)
      const other = streamedCall("b", "patient-reply", { text: "Never mind", pain: 0 })
      const parts = [
        ...streamedCall("x", "amputate", { leg: "left" }),
        start,
        ...other.slice(0, 2),
        delta,
        ...rest,
        ...other.slice(2),
        { type: "finish", reason: "tool-calls", usage: usage(1) }
      ]
      const pieces = yield* Answer.streamObject(PatientReply, { call: callOf("pieces"), prompt }).pipe(
        Stream.runCollect,
        Effect.provide(mockModel({ parts }).layer)
      )
      expect(pieces).toMatchObject([{ _tag: "Delta", json: fits }, { _tag: "Recorded", value: ouch }])
    }))

  it.effect("characters of an answer that cannot be stored are replaced: it is paid for", () =>
    Effect.gen(function*() {
      const text = JSON.stringify({ text: "Ouch \u0000 \ud83d", pain: 3 })
      const stored = { text: "Ouch \\0 \ufffd", pain: 3 }
      const object = Answer.generateObject(PatientReply, { call: callOf("NUL"), prompt })
      expect((yield* Effect.provide(object, mockModel({ text }).layer)).value).toEqual(stored)
      const calls = [{ id: "a", name: "patient-reply", params: JSON.parse(text) as unknown }]
      const tools = Answer.generateToolCalls([PatientReply], { call: callOf("NUL of a tool"), prompt })
      expect((yield* Effect.provide(tools, mockModel({ calls }).layer)).value).toMatchObject([{ value: stored }])
    }))

  it.effect("an answer that is a call of its own within another call counts once", () =>
    Effect.gen(function*() {
      const model = mockModel({ text: fits }, { text: "{" }, { text: "Ouch" })
      const inner = (callId: string) => Answer.generateObject(PatientReply, { call: callOf(callId), prompt })
      const outer = Effect.gen(function*() {
        yield* inner("inner")
        yield* Effect.flip(inner("inner, unfit"))
        return yield* LanguageModel.generateText({ prompt })
      })
      const seen: Array<number> = []
      yield* Answer.record(outer, {
        call: callOf("outer"),
        outputs: () => PatientReply.encode(ouch).pipe(Effect.map((one) => [one]))
      }).pipe(
        Effect.provide(model.layer),
        Effect.provideService(Telemetry.CurrentSpanTransformer, ({ response }) => seen.push(response.length))
      )
      for (const [callId, text] of [["inner", fits], ["inner, unfit", "{"], ["outer", "Ouch"]] as const) {
        expect((yield* found(callId)).attempts.map((attempt) => attempt.text)).toEqual([text])
      }
      // the application hears all of them, each once
      expect(seen).toHaveLength(3)
    }))

  it.effect("that fails while an answer is repaired, the answers until then are kept", () =>
    Effect.gen(function*() {
      const model = mockModel({ text: "{" }, { fail: new AiError.RateLimitError({}) })
      const ask = Answer.generateObject(PatientReply, { call: callOf("limit"), prompt, repair: 2 })
      expect(yield* Effect.flip(Effect.provide(ask, model.layer))).toMatchObject({ reason: { _tag: "RateLimitError" } })
      expect(yield* found("limit")).toMatchObject({ status: "invalid", attempts: [{ outcome: "invalid", text: "{" }] })
    }))
})

layer(recorder)("nothing is asked", (it) => {
  it.effect("if the limit of repairs is not a whole number of 0 or more", () =>
    Effect.gen(function*() {
      const model = mockModel()
      for (const repair of [NaN, Infinity, -1, 0.5, "2" as unknown as number]) {
        const options = { call: callOf("no limit"), prompt, repair }
        for (
          const ask of [Answer.generateObject(PatientReply, options), Answer.generateToolCalls([OrderTest], options)]
        ) {
          const error = yield* Effect.flip(Effect.provide(ask as Effect.Effect<unknown, unknown>, model.layer))
          expect(error).toMatchObject({ _tag: "CallRefused", path: "repair" })
        }
        const key = { callId: "no limit", schemaIdentity: OrderTest.identity, part: "" }
        const repaired = RejectedAnswers.repair(key, { most: repair }, () => Effect.die("it was asked"))
        expect(yield* Effect.flip(repaired)).toMatchObject({ _tag: "CallRefused", path: "most" })
      }
      expect(model.asked).toHaveLength(0)
    }))

  it.effect("without a key that names the request", () =>
    Effect.gen(function*() {
      const model = mockModel()
      for (const key of ["", undefined, 7, { id: 7 }]) {
        // what a program without types may give
        const call = { key: key as string, namespace: "chatlab", service }
        const ask = Answer.generateObject(PatientReply, { call, prompt })
        expect(yield* Effect.flip(Effect.provide(ask, model.layer))).toMatchObject({ _tag: "CallRefused", path: "key" })
      }
      expect(model.asked).toHaveLength(0)
    }))
})
