/**
 * The drain of a command: the store, and the handlers that are found.
 */
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import { statSync } from "node:fs"
import path from "node:path"
import { DomainEvents } from "../DomainEvents.ts"
import * as HandlerDiscovery from "../HandlerDiscovery.ts"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import * as Database from "./Database.ts"

/** Where the handlers are. */
export const handlersFlag = Flag.String("handlers").pipe(
  Flag.withMetavar("GLOB"),
  Flag.withDescription(
    `a folder or a glob of handler modules; ${HandlerDiscovery.defaultGlob} without. May be given again`
  ),
  Flag.atLeast(0)
)

const isFolder = (name: string): boolean => statSync(name, { throwIfNoEntry: false })?.isDirectory() === true

/** A folder stands for the modules below it. No folder `persist` anywhere may be meant; a glob that finds nothing is not. */
const globsOf = Effect.fnUntraced(function*(given: ReadonlyArray<string>) {
  const globs = given.map((glob) => isFolder(glob) ? path.join(glob, HandlerDiscovery.defaultGlob) : glob)
  for (const glob of globs) {
    const files = yield* HandlerDiscovery.find({ globs: [glob] })
    if (files.length === 0) return yield* new Database.Failed({ reason: `--handlers: there is no module ${glob}` })
  }
  return globs
})

/** The registry of the handlers that are found; says which module brought which. */
const registry = (given: ReadonlyArray<string>) =>
  Layer.unwrap(Effect.gen(function*() {
    const { found, plugins } = yield* HandlerDiscovery.load(given.length === 0 ? {} : { globs: yield* globsOf(given) })
    for (const { file, handlers } of found) {
      yield* Console.error(`handlers: ${path.relative(".", file)}: ${handlers.join(", ")}`)
    }
    if (found.length === 0) yield* Console.error("handlers: none found; everything will be parked")
    return HandlerRegistry.layer().pipe(
      Layer.provide(plugins),
      // sources and what was built of them are both found, where nobody says which
      Layer.catchTag("DuplicateHandler", (error) =>
        Layer.effect(
          HandlerRegistry,
          Effect.fail(
            new Database.Failed({ reason: `${error.message}, or say which to load: --handlers "src/**/persist/*.ts"` })
          )
        ))
    )
  }))

/** Everything a drain needs; modules are given the `SqlClient`. */
export const layer = (url: Option.Option<string>, globs: ReadonlyArray<string>) =>
  Layer.merge(registry(globs), DomainEvents.layer).pipe(Layer.provideMerge(Database.stores(url)))
