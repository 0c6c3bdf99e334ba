/**
 * `sluice.config.{ts,mts,js,mjs}` in the working directory: settings by their names, below those of the environment.
 *
 * ```ts
 * export default { DATABASE_URL: "postgres://…", SLUICE_BATCH_SIZE: 500 }
 * ```
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { existsSync } from "node:fs"
import path from "node:path"
import { pathToFileURL } from "node:url"
import * as Settings from "../Settings.ts"
import { Failed } from "./Failed.ts"
import * as options from "./options.ts"

/** The files, of which the first that is there is read. */
export const names = ["sluice.config.ts", "sluice.config.mts", "sluice.config.js", "sluice.config.mjs"]

const known = new Set<string>([...Settings.names, ...Object.values(options.names)])

const read = Effect.gen(function*() {
  const file = names.map((name) => path.resolve(name)).find((name) => existsSync(name))
  if (file === undefined) return {}
  const name = path.basename(file)
  const loaded = yield* Effect.tryPromise({
    try: (): Promise<unknown> => import(pathToFileURL(file).href),
    catch: (cause) => new Failed({ reason: `${name} does not load: ${String(cause).split("\n", 1)[0]}` })
  })
  const settings: unknown = Predicate.hasProperty(loaded, "default") ? loaded.default : undefined
  if (!Predicate.isObject(settings) || Array.isArray(settings)) {
    return yield* new Failed({ reason: `${name} must export default an object of settings` })
  }
  // OTEL_… are the exporter's, and many
  const unknown = Object.keys(settings).filter((key) => !known.has(key) && !key.startsWith("OTEL_"))
  if (unknown.length > 0) {
    return yield* new Failed({
      reason: `${name}: there is no setting ${unknown.join(", ")}; there are ${[...known].join(", ")} and OTEL_…`
    })
  }
  return settings
})

/** The environment, and below it the file. Read when a command runs: help and completions need none. */
export const layer = ConfigProvider.layer(
  Effect.map(read, (settings) => ConfigProvider.orElse(ConfigProvider.fromEnv(), ConfigProvider.fromUnknown(settings)))
)
