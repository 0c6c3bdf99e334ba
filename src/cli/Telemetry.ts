/**
 * Sends traces, metrics and the log by OTLP if OpenTelemetry's own variables name an address.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Gauges from "../store/Gauges.ts"
import { isOn, ofAll, ofMetrics } from "./endpoints.ts"

/** The exporters, for every command. */
export const layer = (version: string) =>
  Layer.unwrap(Effect.gen(function*() {
    if (!(yield* isOn)) return Layer.empty
    const exporters = yield* Effect.promise(() => import("./Exporters.ts"))
    return exporters.layer(version)
  }))

/** Samples the gauges if metrics are sent by OTLP. `/metrics` samples them itself. */
export const gauges = Layer.unwrap(
  Effect.map(Effect.all([ofAll, ofMetrics]), (given) => given.includes(true) ? Gauges.layer() : Layer.empty)
)
