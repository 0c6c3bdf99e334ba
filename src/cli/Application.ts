/**
 * Builds what `sluice drain` runs on: a store, and the handler modules it finds.
 */
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as SqlClient from "effect/sql/SqlClient"
import { statSync } from "node:fs"
import path from "node:path"
import * as DomainEvents from "../DomainEvents.ts"
import * as HandlerDiscovery from "../HandlerDiscovery.ts"
import * as HandlerRegistry from "../HandlerRegistry.ts"
import { describe } from "../internal/describe.ts"
import { escape } from "../internal/escape.ts"
import { fileProblem } from "../internal/fileProblem.ts"
import type * as Settings from "../Settings.ts"
import type { Stores } from "../store/Stores.ts"
import * as durationFlag from "./durationFlag.ts"
import { Failed } from "./Failed.ts"
import * as loading from "./loading.ts"
import * as options from "./options.ts"
import { say } from "./Terminal.ts"

/** The flag `--handlers`: where to look for handler modules. */
export const handlersFlag = Flag.String("handlers").pipe(
  Flag.withMetavar("GLOB"),
  Flag.withDescription(
    `a folder or a glob of handler modules; default ${HandlerDiscovery.defaultGlob}. Can be repeated (SLUICE_HANDLERS)`
  ),
  Flag.atLeast(0)
)

/** The modules of one place: a file, those below a folder, or those that match a glob. A path that exists is not a glob. */
const modulesOf = Effect.fnUntraced(function*(place: string) {
  const there = yield* Effect.try({
    try: () => statSync(place, { throwIfNoEntry: false }),
    catch: (cause) => new Failed({ reason: fileProblem(cause, place) ?? `${place}: ${describe(cause)}` })
  })
  if (there?.isFile() === true) return [path.resolve(place)]
  return yield* HandlerDiscovery.find(there?.isDirectory() === true ? { folders: [place] } : { globs: [place] })
})

/** All modules to load. Without `--handlers` there may be none; a named place without modules is an error. */
const modules = Effect.fnUntraced(function*(flags: ReadonlyArray<string>) {
  const places = yield* options.textsOf(flags, "SLUICE_HANDLERS")
  if (places.length === 0) return yield* HandlerDiscovery.find({})
  const files = new Set<string>()
  for (const place of places) {
    const found = yield* modulesOf(place)
    if (found.length === 0) {
      const where = options.sayOf(Option.liftPredicate(flags, ({ length }) => length > 0), "SLUICE_HANDLERS")
      const isFolder = statSync(place, { throwIfNoEntry: false })?.isDirectory() === true
      return yield* new Failed({
        reason: isFolder
          ? `${where}: no module in ${place} matches ${HandlerDiscovery.defaultGlob}: give a glob, "${
            path.join(place, "*.ts")
          }"`
          : `${where}: there is no module ${place}`
      })
    }
    for (const file of found) files.add(file)
  }
  return [...files]
})

/** The time limit for loading one module. */
export const loadTimeout = Effect.gen(function*() {
  const text = yield* options.textOf(Option.none(), "SLUICE_LOAD_TIMEOUT")
  return Option.isNone(text) ? Duration.seconds(10) : yield* durationFlag.read("SLUICE_LOAD_TIMEOUT", text.value)
})

/** The registry of the handlers that were found. Logs which module provides which handlers. */
const registry = (files: ReadonlyArray<string>) =>
  Layer.unwrap(Effect.gen(function*() {
    const timeout = yield* loadTimeout
    const { found, plugins } = yield* HandlerDiscovery.loadFiles(files, { timeout, around: loading.watched(timeout) })
    yield* loading.done
    for (const { file, handlers } of found) {
      yield* say(`handlers: ${escape(path.relative(".", file))}: ${handlers.join(", ")}`)
    }
    if (found.length === 0) yield* say("handlers: none found; all chunks will be parked")
    return HandlerRegistry.layer().pipe(
      Layer.provide(plugins),
      // without --handlers, both the sources and their compiled output may be found
      Layer.catchTag("DuplicateHandler", (error) =>
        Layer.effect(
          HandlerRegistry.HandlerRegistry,
          Effect.fail(
            new Failed({ reason: `${error.message}, or say which to load: --handlers "src/**/persist/*.ts"` })
          )
        ))
    )
  }))

/**
 * Everything a drain needs on a store. Handler modules get the `SqlClient`. They are found before the store is opened: a
 * misspelt folder must not create a database.
 */
export const layer = <E>(
  stores: Layer.Layer<Stores | SqlClient.SqlClient, E, Settings.Settings>,
  flags: ReadonlyArray<string>
) =>
  Layer.unwrap(
    Effect.map(
      modules(flags),
      (files) => Layer.merge(registry(files), DomainEvents.layer).pipe(Layer.provideMerge(stores))
    )
  )
