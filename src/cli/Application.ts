/**
 * The drain of a command: the store, and the handlers that are found.
 */
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import path from "node:path"
import { DomainEvents } from "../DomainEvents.ts"
import * as HandlerDiscovery from "../HandlerDiscovery.ts"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import * as Database from "./Database.ts"

/** Where the handlers are. */
export const handlersFlag = Flag.String("handlers").pipe(
  Flag.withMetavar("GLOB"),
  Flag.withDescription(`handler modules, from here; ${HandlerDiscovery.defaultGlob} without. May be given again`),
  Flag.atLeast(0)
)

/** The registry of the handlers that are found; says which module brought which. */
const registry = (globs: ReadonlyArray<string>) =>
  Layer.unwrap(Effect.gen(function*() {
    const { found, plugins } = yield* HandlerDiscovery.load(globs.length === 0 ? {} : { globs })
    for (const { file, handlers } of found) {
      yield* Console.error(`handlers: ${path.relative(".", file)}: ${handlers.join(", ")}`)
    }
    if (found.length === 0) yield* Console.error("handlers: none found; everything will be parked")
    return HandlerRegistry.layer().pipe(Layer.provide(plugins))
  }))

/** Everything a drain needs; modules are given the `SqlClient`. */
export const layer = (url: Option.Option<string>, globs: ReadonlyArray<string>) =>
  Layer.merge(registry(globs), DomainEvents.layer).pipe(Layer.provideMerge(Database.stores(url)))
