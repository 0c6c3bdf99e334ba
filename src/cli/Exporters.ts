/**
 * Sends traces, metrics and the log by OTLP. Loaded only when an address is set, because it imports many modules.
 */
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Otlp from "effect/observability/Otlp"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as Option from "effect/Option"
import { textOf, wrong } from "./endpoints.ts"
import type { Failed } from "./Failed.ts"

const protocol = Effect.gen(function*() {
  const name = "OTEL_EXPORTER_OTLP_PROTOCOL"
  const found = Option.getOrElse(yield* textOf(name), () => "http/json")
  if (found === "http/json") return OtlpSerialization.layerJson
  if (found === "http/protobuf") return OtlpSerialization.layerProtobuf
  return yield* wrong(name, "is neither http/json nor http/protobuf: sluice supports no other protocol")
})

// once an address is set, all three signals are sent; the user's variables can turn each off
const standards = ConfigProvider.layerAdd(ConfigProvider.fromEnvRecord({
  OTEL_SERVICE_NAME: "sluice",
  OTEL_TRACES_EXPORTER: "otlp",
  OTEL_METRICS_EXPORTER: "otlp",
  OTEL_LOGS_EXPORTER: "otlp"
}))

/** Why a request failed. */
const reasonOf = (cause: Cause.Cause<unknown>): string => {
  if (Cause.hasInterruptsOnly(cause)) return noAnswer
  let found: unknown = Cause.squash(cause)
  while (found instanceof Error && found.cause instanceof Error) found = found.cause
  if (!(found instanceof Error)) return String(found)
  // an error about several addresses of one host has no message of its own
  return found.message || ("code" in found ? String(found.code) : found.name)
}

/** The timeout of a request to the collector. */
const timeout = "10 seconds"
const noAnswer = "it does not answer in time"
const silent = (request: HttpClientRequest.HttpClientRequest) =>
  new HttpClientError.HttpClientError({
    reason: new HttpClientError.TransportError({ request, cause: new Error(noAnswer) })
  })

/** Logs once when a collector fails, and once when it works again. The exporter itself logs nothing. */
const telling = Layer.effect(
  HttpClient.HttpClient,
  Effect.map(HttpClient.HttpClient, (client) => {
    const failing = new Set<string>()
    const tell = (address: string, reason: string | undefined) =>
      Effect.suspend(() => {
        if ((reason !== undefined) === failing.has(address)) return Effect.void
        if (reason === undefined) {
          failing.delete(address)
          return Effect.logInfo(`telemetry is delivered again to ${address}`)
        }
        failing.add(address)
        return Effect.logWarning(`telemetry is not delivered to ${address}: ${reason}`)
      })
    return HttpClient.transform(
      client,
      (sending, request) =>
        Effect.onExit(Effect.timeoutOrElse(sending, { duration: timeout, orElse: () => silent(request) }), (exit) => {
          // the query may hold a token
          const address = request.url.split(/[?#]/, 1)[0] ?? ""
          if (Exit.isFailure(exit)) return tell(address, reasonOf(exit.cause))
          return tell(address, exit.value.status < 400 ? undefined : `it answers ${exit.value.status}`)
        })
    )
  })
).pipe(Layer.provide(FetchHttpClient.layer))

/** The exporter's error about a variable that it reads, as a {@link Failed}. */
const ofExporter = (message: string): Failed => {
  const [, expected = "it cannot be read", name = "a variable OTEL_…"] =
    /(Expected [^\n]*)\s+at \["(OTEL_\w+)"\]/.exec(message) ?? []
  return wrong(name, `is wrong: ${expected}`)
}

/** The exporters. A short command sends its telemetry before it ends. */
export const layer = (version: string) =>
  Layer.unwrap(Effect.gen(function*() {
    return Otlp.layerFromConfig({ resource: { serviceVersion: version } }).pipe(
      Layer.provide([telling, yield* protocol, standards]),
      Layer.catchCause((cause) => {
        const error = Cause.squash(cause)
        return Layer.effectDiscard(
          error instanceof Config.ConfigError ? ofExporter(error.message) : Effect.failCause(cause)
        )
      })
    )
  }))
