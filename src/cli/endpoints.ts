/**
 * Reads and checks OpenTelemetry's variables that say where telemetry is sent.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Failed } from "./Failed.ts"

/** An error about a variable. Its value may hold a password or a token: the message does not quote it. */
export const wrong = (name: string, what: string) => new Failed({ reason: `${name} ${what}` })

/** The text of a variable. */
export const textOf = (name: string) =>
  Config.option(Config.String(name)).pipe(
    Config.map(Option.map((text) => text.trim())),
    Effect.mapError(() => wrong(name, "cannot be read"))
  )

const problemOf = (address: string): string | undefined => {
  const url = URL.canParse(address) ? new URL(address) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.hostname === "") {
    return "is not the address of a collector: write http://host:4318"
  }
  return url.username === "" && url.password === ""
    ? undefined
    : "holds a user's name or a password, which are not sent: set OTEL_EXPORTER_OTLP_HEADERS instead"
}

const endpoint = Effect.fnUntraced(function*(name: string) {
  const address = yield* textOf(name)
  const problem = Option.isNone(address) ? undefined : problemOf(address.value)
  if (problem !== undefined) return yield* wrong(name, problem)
  return Option.isSome(address)
})

/** Whether there is an address for all signals. */
export const ofAll = endpoint("OTEL_EXPORTER_OTLP_ENDPOINT")
/** Whether there is one for metrics. */
export const ofMetrics = endpoint("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")

/** Whether any address is set. Checks all of them: a wrong one is an error at the start. */
export const isOn = Effect.gen(function*() {
  const given = [
    yield* ofAll,
    yield* ofMetrics,
    yield* endpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    yield* endpoint("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")
  ]
  return given.some((one) => one)
})
