/**
 * A program that asks through the provider packages of npm, and prints what each call was recorded as: a line of JSON for
 * each. It is run with `resolveHook.mjs`, at the address of a fake server.
 */
import { AnthropicClient, AnthropicLanguageModel } from "@effect/ai-anthropic"
import { OpenAiClient, OpenAiLanguageModel } from "@effect/ai-openai"
import { CallRecorder, Settings } from "effect-sluice"
import * as Answer from "effect-sluice/ai"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import type * as LanguageModel from "effect/ai/LanguageModel"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { callOf, OrderTest, PatientReply } from "./mockModel.ts"

const [, , apiUrl = ""] = process.argv
const apiKey = Redacted.make("none")
const prompt = "Where does it hurt?"

// the packages' own types are those of a beta: their imports are not found, and so they are not known here
type Model = Layer.Layer<LanguageModel.LanguageModel>
const models: { readonly [provider: string]: Model } = {
  openai: OpenAiLanguageModel.model("gpt-5-mini").pipe(
    Layer.provide(OpenAiClient.layer({ apiUrl: `${apiUrl}/v1`, apiKey })),
    Layer.provide(FetchHttpClient.layer)
  ),
  anthropic: AnthropicLanguageModel.model("claude-sonnet-4-5").pipe(
    Layer.provide(AnthropicClient.layer({ apiUrl, apiKey })),
    Layer.provide(FetchHttpClient.layer)
  )
}

const told = Effect.fnUntraced(function*(callId: string, value: unknown) {
  const recorder = yield* CallRecorder.CallRecorder
  const { attempts, call, status } = Option.getOrThrow(yield* recorder.find(callId))
  yield* Console.log(JSON.stringify({ callId, value, status, outputs: call.outputs, facts: call.facts, attempts }))
})
const messageOf = (error: { readonly message: string }) => ({ error: error.message })

const scenes = Effect.fnUntraced(function*(provider: string) {
  const object = callOf(`${provider} object`)
  const asked = yield* Answer.generateObject(PatientReply, { call: object, prompt, repair: 1 })
  yield* told(object.callId, asked.value)

  const tools = callOf(`${provider} tools`)
  const called = yield* Answer.generateToolCalls([PatientReply, OrderTest], { call: tools, prompt })
  yield* told(tools.callId, called.value.map(({ output, part, value }) => [output.shortName, part, value]))

  const stream = callOf(`${provider} stream`)
  const pieces = yield* Stream.runCollect(Answer.streamObject(PatientReply, { call: stream, prompt }))
  yield* told(stream.callId, pieces.map((piece) => piece._tag === "Delta" ? piece.json : piece.value))

  const bad = callOf(`${provider} bad tool call`)
  const refused = yield* Effect.flip(Answer.generateToolCalls([OrderTest], { call: bad, prompt }))
  yield* told(bad.callId, messageOf(refused))

  const limited = callOf(`${provider} limit`)
  yield* told(
    limited.callId,
    messageOf(yield* Effect.flip(Answer.generateObject(PatientReply, { call: limited, prompt })))
  )
})

Effect.forEach(Object.entries(models), ([provider, model]) => Effect.provide(scenes(provider), model)).pipe(
  Effect.provide(CallRecorder.layer.pipe(Layer.provideMerge(MemoryStore.layer), Layer.provideMerge(Settings.layer()))),
  Effect.runPromise
)
