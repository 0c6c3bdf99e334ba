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
import * as print from "../print.ts"

/** What `sluice handlers --json` prints. */
export const HandlersReport = Schema.Struct({
  handlers: Schema.Array(Schema.Struct({
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

/** The command. */
export const handlers = Command.make(
  "handlers",
  { ...Database.common, handlers: Application.handlersFlag },
  ({ handlers: globs, json, url }) =>
    Effect.gen(function*() {
      const registry = yield* HandlerRegistry
      const recorded = yield* ChunkStore.use((store) => store.status)
      const kinds = yield* Effect.forEach(recorded, (kind) =>
        Effect.map(
          Effect.option(registry.resolve(kind.namespace, kind.schemaIdentity)),
          (found) => ({
            namespace: kind.namespace,
            schemaIdentity: kind.schemaIdentity,
            outstanding: kind.pending + kind.inFlight + kind.retrying + kind.waiting + kind.parked,
            handler: found._tag === "Some" ? found.value.name : null
          })
        ))
      const handlers = registry.list.map((handler) => ({
        namespace: handler.namespace,
        schemaIdentity: handler.output.identity,
        version: handler.output.version,
        handlerVersion: handler.options.version ?? 1
      }))
      if (json) return yield* print.json(HandlersReport, { handlers, kinds })
      yield* Console.log(print.table(
        ["namespace", "schema", "version"],
        handlers.map((handler) => [handler.namespace, handler.schemaIdentity, handler.version])
      ))
      const without = kinds.filter((kind) => kind.handler === null)
      if (without.length > 0) yield* Console.log("\nrecorded, and without a handler:")
      for (const kind of without) {
        yield* Console.log(`  ${kind.namespace}/${kind.schemaIdentity}: ${kind.outstanding} outstanding`)
      }
    }).pipe(Effect.provide(Application.layer(url, globs)), Database.told)
).pipe(
  Command.withDescription("Which handlers there are, and which recorded kinds have none"),
  Command.withExamples([{ command: "sluice handlers --handlers \"src/**/persist/*.ts\"", description: "Of a glob" }])
)
