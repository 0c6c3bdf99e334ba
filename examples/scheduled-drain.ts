/**
 * A program that drains until it is stopped. Start as many as you like, on as many machines:
 *
 *     DATABASE_URL=postgres://… node --conditions=sluice-source examples/scheduled-drain.ts
 *
 * On Ctrl-C or SIGTERM it claims no more, lets running handlers finish, gives the rest back, and exits with status 0. A
 * second signal ends it immediately, and loses nothing.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { PgClient } from "@effect/sql-pg"
import { DomainEvents, Drain, DrainWorker, HandlerRegistry, Settings, Shutdown } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { ChatlabHandlers } from "./chatlab/handlers.ts"
import { MediaSubscriber } from "./chatlab/Media.ts"
import { Chatlab } from "./chatlab/outputs.ts"
import * as repositories from "./chatlab/repositories.ts"

// With work, the worker does not wait. Without work, it looks again every second, with jitter, so workers spread out.
const schedule = Schedule.spaced("1 second").pipe(Schedule.jittered)

const program = Layer.mergeAll(DrainWorker.layer({ schedule }), MediaSubscriber, Shutdown.layer).pipe(
  Layer.provide(Drain.layer),
  Layer.provide(HandlerRegistry.layer(Chatlab)),
  Layer.provide(ChatlabHandlers),
  Layer.provide([PgStore.layer, DomainEvents.layer, repositories.layerPg]),
  Layer.provide(Settings.layer()),
  Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })),
  Layer.tap(() => Effect.logInfo("draining; Ctrl-C or SIGTERM stops"))
)

NodeRuntime.runMain(Layer.launch(program), { teardown: Shutdown.teardown })
