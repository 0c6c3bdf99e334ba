/**
 * Traces, metrics and the log by OTLP, when OpenTelemetry's own variables say where to.
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Otlp from "effect/observability/Otlp"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as Option from "effect/Option"
import * as Gauges from "../store/Gauges.ts"
import { Failed } from "./Failed.ts"

const endpoint = Config.option(Config.String("OTEL_EXPORTER_OTLP_ENDPOINT")).pipe(
  Config.map(Option.filter((address) => address !== "")),
  Effect.mapError((error) => new Failed({ reason: `OTEL_EXPORTER_OTLP_ENDPOINT is wrong: ${error.message}` }))
)

// who says where to wants all three sent there; each can still be turned off by its own variable
const standards = ConfigProvider.layerAdd(ConfigProvider.fromEnvRecord({
  OTEL_SERVICE_NAME: "sluice",
  OTEL_TRACES_EXPORTER: "otlp",
  OTEL_METRICS_EXPORTER: "otlp",
  OTEL_LOGS_EXPORTER: "otlp"
}))

/** The exporters, for every command: what one that soon ends has counted is sent before it does. */
export const layer = (version: string) =>
  Layer.unwrap(Effect.map(endpoint, (found) =>
    Option.isNone(found)
      ? Layer.empty
      : Otlp.layerFromConfig({ resource: { serviceVersion: version } }).pipe(
        Layer.provide([FetchHttpClient.layer, OtlpSerialization.layerJson, standards])
      )))

/** The gauges, as long as somebody is sent them; `/metrics` asks for itself. */
export const gauges = Layer.unwrap(
  Effect.map(endpoint, (found) => Option.isNone(found) ? Layer.empty : Gauges.layer())
)
