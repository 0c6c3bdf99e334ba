/**
 * A server that tells browsers what is created, by server-sent events. Start as many as you like: each tells of all,
 * whichever worker persisted it. An `EventSource` that lost its connection comes back with the id of the last event it was
 * given, to any of them, and misses nothing.
 *
 *     DATABASE_URL=postgres://… PORT=3000 node --conditions=sluice-source examples/live-events.ts
 *     curl -N http://localhost:3000/events
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { PgClient } from "@effect/sql-pg"
import { EventLog, LiveEvents, Settings, WakeUp } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { createServer } from "node:http"

const events = HttpRouter.add(
  "GET",
  "/events",
  Effect.gen(function*() {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    // taken before the answer begins: what a page loads afterwards is older than what it is told of
    const after = headers["last-event-id"] ?? (yield* LiveEvents.now)
    const services = yield* Effect.context<EventLog.EventLog | Settings.Settings | WakeUp.WakeUp>()
    const follow = (after?: string) => LiveEvents.tail({ after, filter: (event) => event.namespace === "chatlab" })
    const live = follow(after).pipe(
      Stream.catchTag("EventIdInvalid", () => follow()),
      Stream.provideContext(services),
      Stream.map(({ event, id }) => `id: ${id}\ndata: ${JSON.stringify(event.object)}\n\n`)
    )
    // a comment at once, so that the browser knows that it is connected, and now and then, so that no proxy hangs up
    const alive = Stream.concat(Stream.succeed(": \n\n"), Stream.tick("15 seconds").pipe(Stream.map(() => ": \n\n")))
    return HttpServerResponse.stream(Stream.encodeText(Stream.merge(live, alive)), { contentType: "text/event-stream" })
  })
)

const program = HttpRouter.serve(events).pipe(
  Layer.provide(PgStore.layer),
  Layer.provide(Settings.layer()),
  Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })),
  Layer.provide(NodeHttpServer.layerConfig(createServer, { port: Config.Int("PORT") }))
)

NodeRuntime.runMain(Layer.launch(program))
