/**
 * What becomes of a paid answer: a model lists findings of a dialogue, and one of them is of no use. The request comes
 * twice, and the model is asked once; the good findings are persisted and the bad one is a dead letter; what the answer used
 * is counted.
 *
 *     npm run paid-once
 *
 * The model is scripted and the store in memory, so that nothing is needed to run it.
 */
import {
  CallRecorder,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerRegistry,
  Inspector,
  Output,
  OutputGroup,
  Settings
} from "effect-sluice"
import * as Answer from "effect-sluice/ai"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as LanguageModel from "effect/ai/LanguageModel"
import * as Model from "effect/ai/Model"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

class Finding extends Output.make("schemas.chatlab.hotwash.finding", {
  schema: Schema.Struct({ code: Schema.String, severity: Schema.Literals(["minor", "major"]) })
}) {}
const Hotwash = OutputGroup.make("chatlab", Finding)
const HotwashHandlers = Hotwash.toLayer({
  finding: ({ output }) => Effect.succeed([DomainObject.make("chatlab.Finding", output.code)])
})

const answer = [
  { code: "no-greeting", severity: "minor" },
  { code: "no-consent", severity: "terrible" },
  { code: "interrupted", severity: "major" }
]
const scripted = Model.make(
  "scripted",
  "scripted-1",
  Layer.effect(
    LanguageModel.LanguageModel,
    LanguageModel.make({
      generateText: () =>
        Effect.as(Console.log("the model is asked"), [
          { type: "text", text: JSON.stringify(answer) },
          { type: "finish", reason: "stop", usage: { inputTokens: { total: 812 }, outputTokens: { total: 96 } } }
        ]),
      streamText: () => Stream.empty
    })
  )
)

const decodeList = Schema.decodeEffect(Schema.fromJsonString(Schema.Array(Schema.Json)))

const program = Effect.gen(function*() {
  const request = Answer.record(LanguageModel.generateText({ prompt: "List what went wrong, as a JSON array." }), {
    call: { key: "hotwash of knee-1", namespace: "chatlab", service: "services.chatlab.hotwash.list-findings" },
    // a chunk for each element, named by its code
    outputs: ({ text }) => Effect.map(decodeList(text), (list) => Finding.each(list, { part: "code" }))
  })
  const { call } = yield* request
  const again = yield* request
  yield* Console.log(again.ran ? "it was paid for again" : "the request came again: answered from the record")

  yield* Drain.Drain.use((drain) => drain.untilEmpty)
  const inspector = yield* Inspector.Inspector
  const { chunks } = Option.getOrThrow(yield* inspector.call(call.callId))
  for (const { key, state } of chunks) yield* Console.log(`${key.part}: ${state}`)
  for (const { calls, inputTokens, key, outputTokens } of yield* inspector.usage({ by: "model" })) {
    yield* Console.log(`${key}: ${calls} call, ${inputTokens} tokens in, ${outputTokens} out`)
  }
})

const application = Layer.mergeAll(CallRecorder.layer, Drain.layer, scripted).pipe(
  Layer.provide(HandlerRegistry.layer(Hotwash)),
  Layer.provide(HotwashHandlers),
  Layer.provide(DomainEvents.layer),
  Layer.provideMerge(MemoryStore.layer),
  Layer.provide(Settings.layer()),
  // the dead letter is told of below
  Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Error"))
)

Effect.runPromise(program.pipe(Effect.provide(application)))
