/**
 * The drain of a command: a store, and the handlers that are found.
 */
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as SqlClient from "effect/sql/SqlClient"
import { statSync } from "node:fs"
import path from "node:path"
import { DomainEvents } from "../DomainEvents.ts"
import * as HandlerDiscovery from "../HandlerDiscovery.ts"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import { escape } from "../internal/escape.ts"
import type { Stores } from "../store/Stores.ts"
import { Failed } from "./Failed.ts"
import * as options from "./options.ts"
import { say } from "./terminal.ts"

/** Where the handlers are. */
export const handlersFlag = Flag.String("handlers").pipe(
  Flag.withMetavar("GLOB"),
  Flag.withDescription(
    `a folder or a glob of handler modules; ${HandlerDiscovery.defaultGlob} without. May be given again (SLUICE_HANDLERS)`
  ),
  Flag.atLeast(0)
)

const isFolder = (name: string): boolean => statSync(name, { throwIfNoEntry: false })?.isDirectory() === true

/** What was asked for: a folder stands for the modules below it. */
const globsOf = Effect.fnUntraced(function*(flags: ReadonlyArray<string>) {
  const given = flags.length > 0
    ? flags
    : Option.toArray(yield* options.textOf(Option.none(), "SLUICE_HANDLERS"))
  return given.map((glob) => isFolder(glob) ? path.join(glob, HandlerDiscovery.defaultGlob) : glob)
})

/** No folder `persist` anywhere may be meant; a glob that was asked for and finds nothing is not. */
const mustBeThere = Effect.fnUntraced(function*(globs: ReadonlyArray<string>, where: string) {
  for (const glob of globs) {
    const files = yield* HandlerDiscovery.find({ globs: [glob] })
    if (files.length === 0) return yield* new Failed({ reason: `${where}: there is no module ${glob}` })
  }
})

/** The registry of the handlers that are found; says which module brought which. */
const registry = (flags: ReadonlyArray<string>) =>
  Layer.unwrap(Effect.gen(function*() {
    const globs = yield* globsOf(flags)
    yield* mustBeThere(globs, options.sayOf(Option.liftPredicate(flags, ({ length }) => length > 0), "SLUICE_HANDLERS"))
    const { found, plugins } = yield* HandlerDiscovery.load(globs.length === 0 ? {} : { globs })
    for (const { file, handlers } of found) {
      yield* say(`handlers: ${escape(path.relative(".", file))}: ${handlers.join(", ")}`)
    }
    if (found.length === 0) yield* say("handlers: none found; everything will be parked")
    return HandlerRegistry.layer().pipe(
      Layer.provide(plugins),
      // sources and what was built of them are both found, where nobody says which
      Layer.catchTag("DuplicateHandler", (error) =>
        Layer.effect(
          HandlerRegistry,
          Effect.fail(
            new Failed({ reason: `${error.message}, or say which to load: --handlers "src/**/persist/*.ts"` })
          )
        ))
    )
  }))

/** Everything a drain needs on a store; modules are given the `SqlClient`. */
export const layer = <E>(
  stores: Layer.Layer<Stores | SqlClient.SqlClient, E>,
  globs: ReadonlyArray<string>
) => Layer.merge(registry(globs), DomainEvents.layer).pipe(Layer.provideMerge(stores))
