/**
 * A program that drains for as long as it runs. Start as many as you like, on as many machines:
 *
 *     DATABASE_URL=postgres://… node --conditions=sluice-source examples/scheduled-drain.ts
 *
 * Stopped by Ctrl-C or SIGTERM it claims no more, lets running handlers finish, gives the rest back, and exits with 0. Told
 * a second time it ends at once; nothing is lost by that.
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

// While there is work it does not wait. When there is none it looks again every second, not all workers at once.
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
