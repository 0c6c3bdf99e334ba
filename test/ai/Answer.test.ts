/**
 * Answers of a model that is scripted, recorded in memory and on Postgres: what is asked, what is kept, and what is asked
 * only once.
 */
import { layer } from "@effect/vitest"
import {
  CallRecorder,
  DomainEvents,
  DomainObject,
  Drain,
  Handler,
  HandlerRegistry,
  OutputGroup,
  Settings
} from "effect-sluice"
import * as Answer from "effect-sluice/ai"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as PgStore from "effect-sluice/store/PgStore"
import * as AiError from "effect/ai/AiError"
import * as Chat from "effect/ai/Chat"
import * as LanguageModel from "effect/ai/LanguageModel"
import * as Telemetry from "effect/ai/Telemetry"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import { expect } from "vitest"
import { persistNow, untilEmpty } from "../support/drain.ts"
import * as inspect from "../support/inspect.ts"
import * as Postgres from "../support/Postgres.ts"
import { callOf, mockModel, OrderTest, PatientReply, type Scripted, service } from "./mockModel.ts"

const Chatlab = OutputGroup.make("chatlab", PatientReply, OrderTest)
const handled = (output: { readonly call: Handler.HandlerCall }) =>
  Effect.succeed([DomainObject.make("chatlab.Answer", `${output.call.callId}/${output.call.part}`)])
const services = Layer.mergeAll(CallRecorder.layer, Drain.layer).pipe(
  Layer.provide(HandlerRegistry.layer(Chatlab)),
  Layer.provide(Chatlab.toLayer({ "patient-reply": handled, "order-test": handled })),
  Layer.provide(DomainEvents.layer)
)
const settings = Settings.layer()
const stores = {
  memory: services.pipe(Layer.provideMerge(MemoryStore.layer), Layer.provide(settings)),
  Postgres: services.pipe(
    Layer.provideMerge(PgStore.layer),
    Layer.provide(settings),
    Layer.provide(Layer.unwrap(Effect.sync(() => Postgres.layer())))
  )
}

const fits = JSON.stringify({ text: "My knee", pain: 7, since: "2026-10-01T00:00:00Z" })
const unfit = JSON.stringify({ text: "My knee", pain: "seven" })
const ouch = { text: "Ouch, it hurts on the inside", pain: 3 }
const asTool = { calls: [{ id: "call_a", name: "patient-reply", params: ouch }] }
const prompt = "Where does it hurt?"
/** What is known of every answer of the scripted model. */
const known = {
  provider: "mock",
  requestModel: "mock-1",
  responseModel: "mock-1-2026-10-01",
  inputTokens: 100,
  cachedInputTokens: 40,
  outputTokens: 20,
  reasoningTokens: 5
}
const fresh = () => callOf(randomUUID())
const found = (callId: string) =>
  Effect.flatMap(CallRecorder.CallRecorder, (recorder) => Effect.map(recorder.find(callId), Option.getOrThrow))
const textsOf = (asked: ReturnType<typeof mockModel>["asked"], index: number) =>
  asked[index]?.prompt.content.map(({ content, role }) => [
    role,
    typeof content === "string" ? content : content.map((part) => part.type === "text" ? part.text : "").join("")
  ])

for (const [name, store] of Object.entries(stores)) {
  layer(store, { excludeTestServices: true, timeout: 60_000 })(`on ${name}`, (it) => {
    it.effect("an object is returned and recorded with its facts, and the same call again asks no model", () =>
      Effect.gen(function*() {
        const model = mockModel({ text: fits })
        const call = fresh()
        const ask = Answer.generateObject(PatientReply, { call, prompt }).pipe(Effect.provide(model.layer))
        const first = yield* ask
        expect(first).toMatchObject({
          ran: true,
          value: { text: "My knee", pain: 7, since: DateTime.makeUnsafe("2026-10-01T00:00:00Z") }
        })
        expect(yield* ask).toMatchObject({ ran: false, value: first.value, call: { outputs: first.call.outputs } })
        expect(model.asked).toHaveLength(1)

        const { attempts, call: recorded, status } = yield* found(call.callId)
        expect(status).toBe("succeeded")
        expect(recorded.input ?? null).toBeNull()
        const facts = { ...known, finishReason: "stop", responseId: "resp_1", durationMillis: expect.any(Number) }
        expect(recorded.facts).toEqual({ ...facts, attempts: 1 })
        expect(attempts).toMatchObject([{ outcome: "succeeded", text: fits, facts }])
        // and it is persisted like any other
        const objects = yield* persistNow(call.callId)
        expect(objects).toMatchObject([{ id: `${call.callId}/` }])
      }))

    it.effect("a call id is derived from a key, the same each time and another for another service", () =>
      Effect.gen(function*() {
        const model = mockModel({ text: fits }, { text: fits })
        const key = `${randomUUID()} of a request, longer than a call id may be, which has sixty-four characters`
        const call = { key, namespace: "chatlab", service }
        const ask = (call: Answer.CallOptions) =>
          Answer.generateObject(PatientReply, { call, prompt }).pipe(Effect.provide(model.layer))
        const first = yield* ask(call)
        expect(first.call.callId).toBe(yield* Answer.callIdOf(call))
        expect(first.call.callId).toMatch(/^[0-9a-f]{64}$/)
        expect((yield* ask(call)).ran).toBe(false)
        expect((yield* ask({ ...call, service: "services.chatlab.examination.order-tests" })).ran).toBe(true)
      }))

    it.effect("the prompt is recorded on request, whole or as a function returns it", () =>
      Effect.gen(function*() {
        const model = mockModel({ text: fits }, { text: fits })
        const ask = (options: Pick<Answer.AskOptions, "input">, prompt: string, call = fresh()) =>
          Answer.generateObject(PatientReply, { call, prompt, ...options }).pipe(Effect.provide(model.layer))
        const whole = yield* ask({ input: "prompt" }, "Call 0123 456789")
        expect((yield* found(whole.call.callId)).call.input).toMatchObject({
          content: [{ role: "user", content: "Call 0123 456789" }]
        })
        const messages = ({ content }: { readonly content: ReadonlyArray<unknown> }) => ({ messages: content.length })
        const redacted = yield* ask({ input: messages }, "Call 0123 456789")
        expect((yield* found(redacted.call.callId)).call.input).toEqual({ messages: 1 })
        // an input is content: another one under the same id is no redelivery
        const other = yield* Effect.flip(ask({ input: "prompt" }, "Where?", callOf(whole.call.callId)))
        expect(other).toMatchObject({ _tag: "CallConflict" })
        expect(model.asked).toHaveLength(2)
      }))

    it.effect("an answer that does not fit is kept with its cost, and is repaired only on request", () =>
      Effect.gen(function*() {
        const model = mockModel({ text: unfit }, { text: fits })
        const call = fresh()
        const ask = Answer.generateObject(PatientReply, { call, prompt }).pipe(Effect.provide(model.layer))
        expect(yield* Effect.flip(ask)).toMatchObject({ _tag: "AiError", reason: { _tag: "StructuredOutputError" } })
        expect(model.asked).toHaveLength(1)
        const invalid = { outcome: "invalid", text: unfit, error: expect.stringContaining("pain"), facts: known }
        expect(yield* found(call.callId)).toMatchObject({ status: "invalid", attempts: [invalid] })
        // a redelivered request asks again, and what the first one cost is not lost
        expect((yield* ask).ran).toBe(true)
        expect(yield* found(call.callId)).toMatchObject({
          status: "succeeded",
          attempts: [invalid, { outcome: "succeeded", text: fits, facts: known }]
        })
      }))

    it.effect("the application says what an answer costs; where it cannot, the cost is unknown and the answer kept", () =>
      Effect.gen(function*() {
        const asked = (cost: Answer.Cost, ...script: ReadonlyArray<Scripted>) => {
          const call = fresh()
          return Answer.generateObject(PatientReply, { call, prompt, cost, repair: 1 }).pipe(
            Effect.provide(mockModel(...script).layer),
            Effect.andThen(found(call.callId))
          )
        }
        const cost: Answer.Cost = ({ inputTokens = 0 }) => ({ micros: inputTokens / 8, currency: "USD" })
        expect((yield* asked(cost, { text: unfit }, { text: fits })).attempts).toMatchObject([
          { outcome: "invalid", facts: { cost: { micros: 13, currency: "USD" } } },
          { outcome: "succeeded", facts: { cost: { micros: 13, currency: "USD" } } }
        ])
        const broken = (): never => {
          throw new Error("there is no price")
        }
        const { attempts: [attempt] } = yield* asked(broken, { text: fits })
        expect(attempt).toMatchObject({ outcome: "succeeded", facts: known })
        expect(attempt?.facts.cost).toBeUndefined()
      }))

    it.effect("a provider that fails leaves no attempt, and the call names the provider and the model", () =>
      Effect.gen(function*() {
        const model = mockModel({ fail: new AiError.RateLimitError({}) })
        const call = fresh()
        // repair is for answers, not for errors
        const error = yield* Effect.flip(
          Answer.generateObject(PatientReply, { call, prompt, repair: 3 }).pipe(Effect.provide(model.layer))
        )
        expect(error).toMatchObject({ _tag: "AiError", reason: { _tag: "RateLimitError" } })
        expect(model.asked).toHaveLength(1)
        expect(yield* found(call.callId)).toMatchObject({
          status: "failed",
          attempts: [],
          call: { facts: { provider: "mock", requestModel: "mock-1" } }
        })
      }))

    it.effect("repair asks again with the answer and the reason, at most as often as it says", () =>
      Effect.gen(function*() {
        const model = mockModel({ text: unfit }, { text: "none" }, { text: fits })
        const call = fresh()
        const { value } = yield* Answer.generateObject(PatientReply, { call, prompt, repair: 2 }).pipe(
          Effect.provide(model.layer)
        )
        expect(value.pain).toBe(7)
        expect(textsOf(model.asked, 1)).toEqual([
          ["user", prompt],
          ["assistant", unfit],
          ["user", expect.stringMatching(/cannot be used: Expected number/)]
        ])
        expect(textsOf(model.asked, 2)?.slice(3)).toMatchObject([["assistant", "none"], ["user", expect.anything()]])
        const { attempts, call: recorded } = yield* found(call.callId)
        expect(recorded.facts).toMatchObject({ attempts: 3, responseId: "resp_3" })
        expect(attempts.map(({ facts, outcome }) => [outcome, facts.responseId])).toEqual([
          ["invalid", "resp_1"],
          ["invalid", "resp_2"],
          ["succeeded", "resp_3"]
        ])

        const never = mockModel({ text: unfit }, { text: unfit }, { text: fits })
        const error = yield* Effect.flip(
          Answer.generateObject(PatientReply, { call: fresh(), prompt, repair: 1 }).pipe(Effect.provide(never.layer))
        )
        expect(error._tag).toBe("AiError")
        expect(never.asked).toHaveLength(2)
      }))

    it.effect("an answer that the application's check rejects is repaired with its message, or fails with it", () =>
      Effect.gen(function*() {
        const pain = (pain: number) => ({ text: JSON.stringify({ text: "My knee", pain }) })
        const check = ({ pain }: { readonly pain: number }) =>
          pain <= 10 ? Effect.void : Effect.fail(new Handler.HandlerRejected({ reason: "pain goes from 0 to 10" }))
        const ask = (model: ReturnType<typeof mockModel>, call = fresh()) =>
          Answer.generateObject(PatientReply, { call, prompt, check, repair: 1 }).pipe(Effect.provide(model.layer))
        const mended = mockModel(pain(70), pain(7))
        expect((yield* ask(mended)).value.pain).toBe(7)
        expect(textsOf(mended.asked, 1)?.[2]?.[1]).toContain("pain goes from 0 to 10")
        const call = fresh()
        expect(yield* Effect.flip(ask(mockModel(pain(70), pain(80)), call))).toMatchObject({ _tag: "HandlerRejected" })
        expect(yield* found(call.callId)).toMatchObject({
          status: "invalid",
          attempts: [{ outcome: "invalid", error: "pain goes from 0 to 10" }, { outcome: "invalid" }]
        })
        // a bundled program may have the class twice
        class HandlerRejected extends Data.TaggedError("HandlerRejected")<{ readonly reason: string }> {}
        const twice = mockModel(pain(70), pain(70))
        const other = Effect.fail(new HandlerRejected({ reason: "of the bundle" }) as Handler.HandlerRejected)
        yield* Effect.flip(
          Answer.generateObject(PatientReply, { call: fresh(), prompt, check: () => other, repair: 1 }).pipe(
            Effect.provide(twice.layer)
          )
        )
        expect(textsOf(twice.asked, 1)?.[2]?.[1]).toContain("of the bundle")
      }))

    it.effect("each tool call is a chunk; one that does not fit becomes a dead letter, and the others are persisted", () =>
      Effect.gen(function*() {
        const calls = [
          { id: "call_a", name: "order-test", params: { test: "x-ray" } },
          { id: "call_b", name: "order-test", params: { test: "biopsy" } },
          { id: "call_c", name: "patient-reply", params: ouch },
          { id: "", name: "order-test", params: { test: "mri" } },
          { id: "call_d", name: "amputate", params: {} }
        ]
        const model = mockModel({ calls })
        const call = fresh()
        const ask = Answer.generateToolCalls([PatientReply, OrderTest], { call, prompt }).pipe(
          Effect.provide(model.layer)
        )
        const first = yield* ask
        expect(first.value).toEqual([
          { output: OrderTest, part: "call_a", value: { test: "x-ray" } },
          { output: PatientReply, part: "call_c", value: ouch },
          { output: OrderTest, part: "#3", value: { test: "mri" } }
        ])
        expect(model.asked[0]?.tools.map(({ name }) => name)).toEqual(["patient-reply", "order-test"])
        expect(yield* ask).toMatchObject({ ran: false, value: first.value })

        yield* untilEmpty
        const { chunks } = Option.getOrThrow(yield* inspect.call(call.callId))
        expect(Object.fromEntries(chunks.map(({ key, state }) => [key.part, state]))).toEqual({
          call_a: "persisted",
          call_b: "dead",
          call_c: "persisted",
          "#3": "persisted"
        })
        expect((yield* found(call.callId)).attempts).toMatchObject([{
          text: JSON.stringify(calls),
          outcome: "succeeded"
        }])
      }))

    it.effect("tool calls are asked for again while repair is left; if none fits, the answer is invalid", () =>
      Effect.gen(function*() {
        const wrong = { calls: [{ id: "a", name: "order-test", params: { test: "biopsy" } }] }
        const right = { calls: [{ id: "b", name: "order-test", params: { test: "mri" } }] }
        const ask = (model: ReturnType<typeof mockModel>, call = fresh()) =>
          Answer.generateToolCalls([OrderTest], { call, prompt, repair: 1 }).pipe(Effect.provide(model.layer))
        const mended = yield* ask(mockModel({ calls: [...right.calls, ...wrong.calls] }, right))
        expect(mended.value.map(({ part }) => part)).toEqual(["b"])
        const call = fresh()
        expect(yield* Effect.flip(ask(mockModel(wrong, { text: "I would not" }), call))).toMatchObject({
          _tag: "AiError"
        })
        expect(yield* found(call.callId)).toMatchObject({
          status: "invalid",
          attempts: [{ text: JSON.stringify(wrong.calls[0]?.params) }, { text: "I would not" }]
        })
      }))

    it.effect("a stream emits pieces and then the recorded answer; the time to the first piece is a fact", () =>
      Effect.gen(function*() {
        const model = mockModel(asTool)
        const call = fresh()
        const pieces = Answer.streamObject(PatientReply, { call, prompt }).pipe(
          Stream.runCollect,
          Effect.provide(model.layer)
        )
        const first = yield* pieces
        expect(first.map((piece) => piece._tag === "Delta" ? piece.json : "").join("")).toBe(JSON.stringify(ouch))
        expect(first.filter(({ _tag }) => _tag === "Delta").length).toBeGreaterThan(2)
        expect(first.at(-1)).toMatchObject({ _tag: "Recorded", value: ouch, ran: true })
        expect(yield* pieces).toMatchObject([{ _tag: "Recorded", value: ouch, ran: false }])
        expect((yield* found(call.callId)).call.facts).toMatchObject({
          ...known,
          timeToFirstTokenMillis: expect.any(Number)
        })
      }))

    it.effect("a stream whose reader stops is recorded as failed, with the pieces so far", () =>
      Effect.gen(function*() {
        const model = mockModel({ ...asTool, hold: Effect.never }, asTool)
        const call = fresh()
        const pieces = Answer.streamObject(PatientReply, { call, prompt })
        yield* pieces.pipe(Stream.take(1), Stream.runDrain, Effect.provide(model.layer))
        const { attempts, status } = yield* found(call.callId)
        expect(status).toBe("failed")
        expect(attempts).toMatchObject([{ outcome: "failed", facts: { provider: "mock", responseId: "resp_1" } }])
        const [{ text } = { text: null }] = attempts
        expect(text).toMatch(/^\{"text":"Ouch/)
        expect(JSON.stringify(ouch).startsWith(text ?? "-")).toBe(true)
        // and can be asked again
        const again = yield* pieces.pipe(Stream.runLast, Effect.provide(model.layer))
        expect(Option.getOrThrow(again)).toMatchObject({ ran: true, value: ouch })
      }))

    it.effect("a stream that the provider breaks off keeps the pieces so far, and fails with the provider's error", () =>
      Effect.gen(function*() {
        const broken = mockModel({ ...asTool, fail: new AiError.UnknownError({ description: "connection reset" }) })
        const call = fresh()
        const error = yield* Answer.streamObject(PatientReply, { call, prompt }).pipe(
          Stream.runDrain,
          Effect.flip,
          Effect.provide(broken.layer)
        )
        expect(error.message).toContain("connection reset")
        expect((yield* found(call.callId)).attempts).toMatchObject([{ text: expect.stringMatching(/^\{"text":"Ouch/) }])
      }))

    it.effect("a streamed answer that does not fit is kept as invalid", () =>
      Effect.gen(function*() {
        const params = { text: "Ouch", pain: "much" }
        const model = mockModel({ calls: [{ id: "a", name: "patient-reply", params }] })
        const call = fresh()
        const error = yield* Answer.streamObject(PatientReply, { call, prompt }).pipe(
          Stream.runDrain,
          Effect.flip,
          Effect.provide(model.layer)
        )
        expect(error).toMatchObject({ _tag: "AiError", reason: { _tag: "StructuredOutputError" } })
        expect(yield* found(call.callId)).toMatchObject({
          status: "invalid",
          attempts: [{ outcome: "invalid", text: JSON.stringify(params), error: expect.stringContaining("pain") }]
        })
      }))

    it.effect("a turn of a chat is recorded, as several outputs of one call", () =>
      Effect.gen(function*() {
        const answer = { reply: ouch, order: { test: "mri" } }
        const model = mockModel({ text: JSON.stringify(answer) }, { text: JSON.stringify(answer) })
        const chat = yield* Chat.fromPrompt([{ role: "system", content: "You are a patient with a sore knee." }])
        const call = fresh()
        const asking = chat.generateObject({
          prompt,
          schema: Schema.Struct({ reply: PatientReply.schema, order: OrderTest.schema })
        })
        const turn = Answer.record(asking, {
          call,
          outputs: ({ value }) => Effect.all([PatientReply.encode(value.reply), OrderTest.encode(value.order)])
        }).pipe(Effect.provide(model.layer))
        const first = yield* turn
        expect(first.ran && first.response.value.order.test).toBe("mri")
        expect(yield* Answer.valueOf(PatientReply, first.call)).toEqual(ouch)
        const again = yield* turn
        expect(again.ran).toBe(false)
        expect(yield* Answer.valueOf(OrderTest, again.call)).toEqual(answer.order)
        expect(model.asked).toHaveLength(1)
        expect(yield* found(call.callId)).toMatchObject({
          call: { facts: { ...known, attempts: 1 } },
          attempts: [{ text: JSON.stringify(answer) }]
        })
        const forgotten = yield* Effect.flip(Answer.valueOf(OrderTest, { ...again.call, outputs: [] }))
        expect(forgotten).toMatchObject({ _tag: "AnswerForgotten", callId: call.callId })
      }))

    it.effect("an effect that asks twice has two attempts, and an effect that fails keeps its answers", () =>
      Effect.gen(function*() {
        const model = mockModel({ text: fits }, { text: unfit })
        const call = fresh()
        const chat = yield* Chat.empty
        const turn = chat.generateObject({ prompt, schema: PatientReply.schema })
        const error = yield* Answer.record(Effect.all([turn, turn]), { call, outputs: () => Effect.succeed([]) }).pipe(
          Effect.provide(model.layer),
          Effect.flip
        )
        expect(error._tag).toBe("AiError")
        expect(yield* found(call.callId)).toMatchObject({
          status: "invalid",
          attempts: [{ text: fits, outcome: "succeeded" }, { text: unfit, outcome: "invalid" }]
        })
      }))

    it.effect("each question whose answer does not fit is told apart, not only the latest", () =>
      Effect.gen(function*() {
        const attemptsOf = Effect.fnUntraced(function*<A, E>(
          ask: (question: Effect.Effect<{ readonly pain: number }, AiError.AiError>) => Effect.Effect<A, E>,
          ...script: ReadonlyArray<Scripted>
        ) {
          const call = fresh()
          const asked = LanguageModel.generateObject({ prompt, schema: PatientReply.schema }).pipe(
            Effect.map(({ value }) => value)
          )
          const asking = Effect.gen(function*() {
            const model = yield* LanguageModel.LanguageModel
            return yield* ask(Effect.provideService(asked, LanguageModel.LanguageModel, model))
          })
          const outputs = () => Effect.map(PatientReply.encode(ouch), (output) => [output])
          yield* Effect.exit(
            Answer.record(asking, { call, outputs }).pipe(Effect.provide(mockModel(...script).layer))
          )
          const { attempts, status } = yield* found(call.callId)
          return [
            status,
            ...attempts.map(({ error, outcome, text }) => [text, outcome, error?.includes("pain") ?? false])
          ]
        })
        const good = [fits, "succeeded", false]
        const bad = [unfit, "invalid", true]
        const [three, first] = [[{ text: unfit }, { text: fits }, { text: unfit }], [{ text: unfit }, { text: fits }]]
        // each answer is looked at
        expect(yield* attemptsOf((one) => Effect.forEach([1, 2, 3], () => Effect.result(one)), ...three))
          .toEqual(["succeeded", bad, good, bad])
        // asked again by the application
        expect(yield* attemptsOf((one) => Effect.retry(one, { times: 1 }), ...first)).toEqual(["succeeded", bad, good])
      }))

    it.effect("a call that is interrupted before the answer can be run again at once", () =>
      Effect.gen(function*() {
        const reached = yield* Deferred.make<void>()
        const hold = Effect.andThen(Deferred.succeed(reached, undefined), Effect.never)
        const model = mockModel({ text: fits, hold }, { text: fits })
        const call = fresh()
        const ask = Answer.generateObject(PatientReply, { call, prompt }).pipe(Effect.provide(model.layer))
        const asking = yield* Effect.forkChild(ask)
        yield* Deferred.await(reached)
        expect(yield* Effect.flip(ask)).toMatchObject({ _tag: "CallRunning" })
        yield* Fiber.interrupt(asking)
        expect((yield* ask).ran).toBe(true)
      }))

    it.effect("the application's own span transformer still runs", () =>
      Effect.gen(function*() {
        const seen: Array<number> = []
        yield* Answer.generateObject(PatientReply, { call: fresh(), prompt }).pipe(
          Effect.provide(mockModel({ text: fits }).layer),
          Effect.provideService(Telemetry.CurrentSpanTransformer, ({ response }) => seen.push(response.length))
        )
        expect(seen).toEqual([3])
      }))
  })
}
