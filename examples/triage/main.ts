/**
 * A service that triages patients' messages. A request asks the model and records the answer, in one line; in the background
 * the same process writes recorded answers into its table; browsers are told of what was written by server-sent events.
 * Start as many as you like. A message that is sent again, to any of them, is answered from the record and not paid for
 * twice.
 *
 *     DATABASE_URL=postgres://… OPENAI_API_KEY=… PORT=3000 node --conditions=sluice-source examples/triage/main.ts
 *   curl localhost:3000/messages -H content-type:application/json -d '{"id": "m-1", "text": "My knee is hot and swollen."}'
 *   curl -N localhost:3000/events
 *
 * `OPENAI_BASE_URL` and `OPENAI_MODEL` choose another server that speaks OpenAI's chat completions, and its model.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { PgClient } from "@effect/sql-pg"
import {
  CallRecorder,
  DomainEvents,
  Drain,
  DrainWorker,
  EventLog,
  HandlerRegistry,
  LiveEvents,
  Settings,
  Shutdown,
  WakeUp
} from "effect-sluice"
import * as Answer from "effect-sluice/ai"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { createServer } from "node:http"
import * as OpenAiCompatible from "../openai-compatible.ts"
import { makeTable, Triage, TriageHandlers, TriageNote } from "./TriageNote.ts"

const Message = Schema.Struct({ id: Schema.String, text: Schema.String })

const refuse = (status: number) => (error: Error) => HttpServerResponse.json({ error: error.message }, { status })

const messages = HttpRouter.add(
  "POST",
  "/messages",
  Effect.gen(function*() {
    const { id, text } = yield* HttpServerRequest.schemaBodyJson(Message)
    const { ran, value } = yield* Answer.generateObject(TriageNote, {
      call: { key: id, namespace: "triage", service: "services.triage.messages.triage", context: { messageId: id } },
      prompt: [
        { role: "system", content: "You triage messages of patients for a nurse. You never diagnose." },
        { role: "user", content: text }
      ],
      // what is recorded of the prompt: another message under the same id is a conflict, and no telephone number is kept
      input: () => ({ text: text.replaceAll(/\+?\d[\d ()-]{6,}\d/g, "[telephone]") }),
      repair: 1
    })
    return yield* HttpServerResponse.json({ urgency: value.urgency, question: value.question ?? null, paid: ran })
  }).pipe(Effect.catchTags({
    SchemaError: refuse(400),
    CallRefused: refuse(400),
    CallConflict: refuse(409),
    // the same message is being answered just now
    CallRunning: refuse(409),
    // the model did not answer, or not to the purpose: sent again, it is asked again
    AiError: refuse(502)
  }))
)

const events = HttpRouter.add(
  "GET",
  "/events",
  Effect.gen(function*() {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const after = headers["last-event-id"] ?? (yield* LiveEvents.now)
    const services = yield* Effect.context<EventLog.EventLog | Settings.Settings | WakeUp.WakeUp>()
    const live = LiveEvents.tail({ after, filter: (event) => event.namespace === "triage" }).pipe(
      Stream.provideContext(services),
      Stream.map(({ event, id }) => `id: ${id}\ndata: ${JSON.stringify(event.object)}\n\n`)
    )
    // a comment at once, so that the browser knows that it is connected
    const hello = Stream.succeed(": \n\n")
    return HttpServerResponse.stream(Stream.encodeText(Stream.merge(hello, live)), { contentType: "text/event-stream" })
  })
)

const model = Layer.unwrap(Effect.gen(function*() {
  const url = yield* Config.String("OPENAI_BASE_URL").pipe(Config.withDefault("https://api.openai.com/v1"))
  const name = yield* Config.String("OPENAI_MODEL").pipe(Config.withDefault("gpt-5-mini"))
  return OpenAiCompatible.model(name, { url, key: yield* Config.Redacted("OPENAI_API_KEY") })
})).pipe(Layer.provide(FetchHttpClient.layer))

const program = Layer.mergeAll(
  HttpRouter.serve(Layer.merge(messages, events)),
  DrainWorker.layer(),
  Shutdown.layer
).pipe(
  Layer.provide([CallRecorder.layer, Drain.layer, model]),
  Layer.provide(HandlerRegistry.layer(Triage)),
  Layer.provide(TriageHandlers),
  Layer.provide(Layer.effectDiscard(makeTable)),
  Layer.provide([PgStore.layer, DomainEvents.layer]),
  Layer.provide(Settings.layer()),
  Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })),
  Layer.provide(NodeHttpServer.layerConfig(createServer, { port: Config.Int("PORT") }))
)

NodeRuntime.runMain(Layer.launch(program), { teardown: Shutdown.teardown })
