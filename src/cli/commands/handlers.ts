/**
 * `sluice handlers`: lists the handlers and what each serves, and the recorded kinds without a handler.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { HandlerRegistry } from "../../HandlerRegistry.ts"
import { Inspector } from "../../Inspector.ts"
import { escape } from "../../internal/escape.ts"
import * as Kind from "../../Kind.ts"
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
  /** The recorded kinds, each with the handler that serves it, or null. */
  kinds: Schema.Array(Schema.Struct({
    namespace: Schema.String,
    schemaIdentity: Schema.String,
    outstanding: Schema.Int,
    handler: Schema.NullOr(Schema.String)
  }))
})

const inWords = ({ handlers, kinds }: typeof HandlersReport.Type, limit: number): ReadonlyArray<string> => {
  const core = kinds.filter((kind) =>
    kind.handler?.startsWith(`${Kind.core}/`) === true && kind.namespace !== Kind.core
  )
  const without = kinds.filter((kind) => kind.handler === null)
  const left = (all: ReadonlyArray<unknown>) =>
    print.more(all.length, limit, "kinds", "see --limit, or --json").map((text) => `  ${text}`)
  return [
    ...handlers.length === 0 ? ["there are no handlers: nothing can be persisted here"] : [],
    ...handlers.flatMap(({ handlerVersion, name, schemaIdentity, version }) => [
      escape(name),
      `  ${escape(schemaIdentity)}, version ${version}${
        handlerVersion === 1 ? "" : `, handler's version ${handlerVersion}`
      }`
    ]),
    ...core.length === 0 ? [] : ["", "served by core, for want of a handler of their namespace:"],
    ...core.slice(0, limit).flatMap(({ handler, namespace, schemaIdentity }) => [
      `  ${print.kind(namespace, schemaIdentity)}`,
      `    by ${escape(handler ?? "")}`
    ]),
    ...left(core),
    ...without.length === 0 ? [] : ["", "recorded, and without a handler:"],
    ...without.slice(0, limit).map(({ namespace, outstanding, schemaIdentity }) =>
      `  ${print.kind(namespace, schemaIdentity)}: ${outstanding} outstanding`
    ),
    ...left(without)
  ]
}

/** The command. */
export const handlers = Command.make(
  "handlers",
  { ...options.common, handlers: Application.handlersFlag, limit: options.limit(50) },
  ({ handlers: globs, limit, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const { find, list } = yield* HandlerRegistry
      const recorded = yield* Inspector.use((inspector) => inspector.status)
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
          outstanding: kind.ready + kind.inFlight + kind.scheduled + kind.waiting + kind.parked,
          handler: find(kind.namespace, kind.schemaIdentity)?.name ?? null
        }))
      }
      yield* json ? print.json(HandlersReport, report) : print.lines(inWords(report, limit))
    }).pipe(Effect.provide(Application.layer(Database.storesAsTheyAre(url), globs)), told)
).pipe(
  Command.withDescription("Which handlers there are, and which recorded kinds have none"),
  Command.withExamples([{ command: "sluice handlers --handlers \"src/**/persist/*.ts\"", description: "Of a glob" }])
)
