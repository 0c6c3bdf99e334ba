/** Finds variables named `SLUICE_…` that are no setting: a misspelt one would otherwise silently have no effect. */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import { escape } from "./escape.ts"
import { nearest } from "./nearest.ts"

const prefix = "SLUICE_"

/** The settings of the command, besides those of the library: one environment may serve both. */
export const commandVariables = {
  json: "SLUICE_JSON",
  handlers: "SLUICE_HANDLERS",
  namespace: "SLUICE_NAMESPACE",
  workers: "SLUICE_WORKERS",
  untilEmpty: "SLUICE_UNTIL_EMPTY",
  every: "SLUICE_EVERY",
  cron: "SLUICE_CRON",
  limit: "SLUICE_FOR",
  metricsPort: "SLUICE_METRICS_PORT",
  metricsHost: "SLUICE_METRICS_HOST",
  maxAge: "SLUICE_MAX_AGE",
  loadTimeout: "SLUICE_LOAD_TIMEOUT"
} as const

/**
 * Kubernetes gives every container such variables for a service that is named `sluice`, or `sluice-…`. For one that is
 * named `sluice-metrics` it sets `SLUICE_METRICS_PORT`, which is a setting of the command.
 */
export const isOfKubernetes = (name: string, value: string): boolean =>
  /_(SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/.test(name) ||
  (name.endsWith("_PORT") && /^(tcp|udp|sctp):\/\//.test(value))

/** `SLUICE_TEST_…` is for the tests of this project. */
const isOfOthers = (name: string, value: string): boolean =>
  name.startsWith(`${prefix}TEST_`) || isOfKubernetes(name, value)

/** All names with the prefix and a value. A provider may split names at underscores, as that of the environment does. */
const namesWithPrefix = Effect.gen(function*() {
  const provider = yield* ConfigProvider.ConfigProvider
  const found = new Map<string, string>()
  const visit = (path: ReadonlyArray<string>): Effect.Effect<void, ConfigProvider.SourceError> =>
    Effect.gen(function*() {
      const node = yield* provider.load(path)
      const name = path.join("_")
      if (node?.value !== undefined && name.startsWith(prefix)) found.set(name, node.value)
      if (node?._tag !== "Record") return
      for (const key of node.keys) {
        if (path.length > 0 || key === "SLUICE" || key.startsWith(prefix)) yield* visit([...path, key])
      }
    })
  yield* visit([])
  return found
})

/**
 * A line for each variable whose name is close to a known one, and one line for all others. None if the provider cannot
 * list its names: the settings themselves were read, and a hint must not stop a start.
 */
export const unknownVariables = (settings: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(Effect.orElseSucceed(namesWithPrefix, () => new Map<string, string>()), (names) => {
    const known = [...settings, ...Object.values(commandVariables)]
    // the common prefix would make short names look alike
    const short = (name: string) => name.slice(prefix.length)
    const unknown = [...names]
      .flatMap(([name, value]) => known.includes(name) || isOfOthers(name, value) ? [] : [name])
      .sort()
    const close = unknown.flatMap((name) => {
      const meant = nearest(short(name), known.map(short))
      return meant === undefined ? [] : [{ name, meant: `${prefix}${meant}` }]
    })
    const others = unknown.filter((name) => !close.some((one) => one.name === name)).map(escape)
    return [
      ...close.map(({ meant, name }) => `${escape(name)} is not a setting and has no effect; did you mean ${meant}?`),
      ...others.length === 0 ? [] : [`not settings, and without effect: ${others.join(", ")}`]
    ]
  })
