/**
 * `sluice.config.{ts,js,mjs}` in the working directory: settings by their names, below those of the environment.
 *
 * ```ts
 * export default { DATABASE_URL: "postgres://…", SLUICE_BATCH_SIZE: 500 }
 * ```
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { existsSync } from "node:fs"
import path from "node:path"
import { pathToFileURL } from "node:url"
import { Failed } from "./Database.ts"

const names = ["sluice.config.ts", "sluice.config.js", "sluice.config.mjs"]

const read = Effect.gen(function*() {
  const file = names.map((name) => path.resolve(name)).find((name) => existsSync(name))
  if (file === undefined) return {}
  const loaded = yield* Effect.tryPromise({
    try: (): Promise<unknown> => import(pathToFileURL(file).href),
    catch: (cause) => new Failed({ reason: `${path.basename(file)} does not load: ${String(cause)}` })
  })
  const settings: unknown = Predicate.hasProperty(loaded, "default") ? loaded.default : undefined
  if (!Predicate.isObject(settings)) {
    return yield* new Failed({ reason: `${path.basename(file)} must export default an object of settings` })
  }
  return settings
}).pipe(
  // read before there is a command that would say so
  Effect.tapError(({ reason }) => Console.error(`\nERROR\n  ${reason}`))
)

/** The environment, and below it the file. */
export const layer = ConfigProvider.layer(
  Effect.map(read, (settings) => ConfigProvider.orElse(ConfigProvider.fromEnv(), ConfigProvider.fromUnknown(settings)))
)
