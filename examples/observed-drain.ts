/**
 * A drain with telemetry: it sends its traces, metrics and log by OTLP to a collector, together with the application's. The
 * drain's metrics are Effect metrics: any exporter of Effect metrics exports them.
 *
 *     DATABASE_URL=postgres://… OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 \
 *       node --conditions=sluice-source examples/observed-drain.ts
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { PgClient } from "@effect/sql-pg"
import { DomainEvents, Drain, DrainWorker, HandlerRegistry, Settings, Shutdown } from "effect-sluice"
import * as Gauges from "effect-sluice/store/Gauges"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Otlp from "effect/observability/Otlp"
import { ChatlabHandlers } from "./chatlab/handlers.ts"
import { Chatlab } from "./chatlab/outputs.ts"
import * as repositories from "./chatlab/repositories.ts"

const telemetry = Layer.unwrap(Effect.gen(function*() {
  const baseUrl = yield* Config.String("OTEL_EXPORTER_OTLP_ENDPOINT").pipe(Config.withDefault("http://localhost:4318"))
  return Otlp.layerJson({ baseUrl, resource: { serviceName: "chatlab-drain" } })
})).pipe(Layer.provide(FetchHttpClient.layer))

// the gauges query the database; one process that samples them is enough
const program = Layer.mergeAll(DrainWorker.layer(), Gauges.layer(), Shutdown.layer).pipe(
  Layer.provide(Drain.layer),
  Layer.provide(HandlerRegistry.layer(Chatlab)),
  Layer.provide(ChatlabHandlers),
  Layer.provide([PgStore.layer, DomainEvents.layer, repositories.layerPg]),
  Layer.provide(Settings.layer()),
  Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })),
  Layer.tap(() => Effect.logInfo("draining; Ctrl-C or SIGTERM stops")),
  // outermost, so it also reports what happens at shutdown
  Layer.provide(telemetry)
)

NodeRuntime.runMain(Layer.launch(program), { teardown: Shutdown.teardown })
