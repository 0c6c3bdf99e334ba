/**
 * `sluice handlers`: what resolves to what, and which recorded kinds have no handler.
 */
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { ChunkStore } from "../../ChunkStore.ts"
import { HandlerRegistry } from "../../HandlerRegistry.ts"
import * as Application from "../Application.ts"
import * as Database from "../Database.ts"
import { told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"

/** What `sluice handlers --json` prints. */
export const HandlersReport = Schema.Struct({
  handlers: Schema.Array(Schema.Struct({
    /** `namespace/short-name`. */
    name: Schema.String,
    namespace: Schema.String,
    schemaIdentity: Schema.String,
    version: Schema.Int,
    handlerVersion: Schema.Int
  })),
  /** Kinds that are recorded: which handler serves each, or null. */
  kinds: Schema.Array(Schema.Struct({
    namespace: Schema.String,
    schemaIdentity: Schema.String,
    outstanding: Schema.Int,
    handler: Schema.NullOr(Schema.String)
  }))
})

const inWords = Effect.fnUntraced(function*({ handlers, kinds }: typeof HandlersReport.Type) {
  if (handlers.length === 0) yield* Console.log("there are no handlers: nothing can be persisted here")
  for (const { handlerVersion, name, schemaIdentity, version } of handlers) {
    const revision = handlerVersion === 1 ? "" : `, handler's version ${handlerVersion}`
    yield* Console.log(`${name}\n  ${schemaIdentity}, version ${version}${revision}`)
  }
  const core = kinds.filter((kind) => kind.handler?.startsWith("core/") === true && kind.namespace !== "core")
  if (core.length > 0) yield* Console.log("\nserved by core, for want of a handler of their namespace:")
  for (const { handler, namespace, schemaIdentity } of core) {
    yield* Console.log(`  ${namespace}/${schemaIdentity}\n    by ${handler}`)
  }
  const without = kinds.filter((kind) => kind.handler === null)
  if (without.length > 0) yield* Console.log("\nrecorded, and without a handler:")
  for (const { namespace, outstanding, schemaIdentity } of without) {
    yield* Console.log(`  ${namespace}/${schemaIdentity}: ${outstanding} outstanding`)
  }
})

/** The command. */
export const handlers = Command.make(
  "handlers",
  { ...options.common, handlers: Application.handlersFlag },
  ({ handlers: globs, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const { find, list } = yield* HandlerRegistry
      const recorded = yield* ChunkStore.use((store) => store.status)
      const report = {
        handlers: list.map((handler) => ({
          name: handler.name,
          namespace: handler.namespace,
          schemaIdentity: handler.output.identity,
          version: handler.output.version,
          handlerVersion: handler.options.version ?? 1
        })),
        kinds: recorded.map((kind) => ({
          namespace: kind.namespace,
          schemaIdentity: kind.schemaIdentity,
          outstanding: kind.pending + kind.inFlight + kind.retrying + kind.waiting + kind.parked,
          handler: find(kind.namespace, kind.schemaIdentity)?.name ?? null
        }))
      }
      yield* json ? print.json(HandlersReport, report) : inWords(report)
    }).pipe(Effect.provide(Application.layer(Database.storesAsTheyAre(url), globs)), told)
).pipe(
  Command.withDescription("Which handlers there are, and which recorded kinds have none"),
  Command.withExamples([{ command: "sluice handlers --handlers \"src/**/persist/*.ts\"", description: "Of a glob" }])
)
