/**
 * `sluice handlers`: lists the handlers and what each serves, and the recorded kinds without a handler.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Handler } from "../../Handler.ts"
import { HandlerRegistry } from "../../HandlerRegistry.ts"
import { Inspector, type WorkerView } from "../../Inspector.ts"
import { escape } from "../../internal/escape.ts"
import * as Kind from "../../Kind.ts"
import * as Application from "../Application.ts"
import * as Database from "../Database.ts"
import { told } from "../Failed.ts"
import * as insideUse from "../insideUse.ts"
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
    handlerVersion: Schema.Int,
    /**
     * Of a declared handler: the statement that it becomes, or why its table does not fit; and how the living workers have
     * persisted its answers, since each of them started. Null of a program.
     */
    declared: Schema.NullOr(
      Schema.Struct({
        statement: Schema.NullOr(Schema.String),
        problem: Schema.NullOr(Schema.String),
        inside: Schema.Int,
        claimed: Schema.Record(Schema.String, Schema.Int),
        refusal: Schema.NullOr(Schema.String),
        unfit: Schema.NullOr(Schema.String)
      })
    )
  })),
  /** The recorded kinds, each with the handler that serves it, or null. */
  kinds: Schema.Array(Schema.Struct({
    namespace: Schema.String,
    schemaIdentity: Schema.String,
    outstanding: Schema.Int,
    handler: Schema.NullOr(Schema.String),
    /**
     * If there is no handler: the kind of one whose names are close, as `namespace/schema-identity`. One may be misspelt.
     */
    similar: Schema.NullOr(Schema.String),
    /** The newest version at which an outstanding one is recorded. */
    newestVersion: Schema.NullOr(Schema.Int),
    /** The living workers that serve it, and up to which version; null if a worker names none, and reads all. */
    workers: Schema.Array(Schema.Struct({ id: Schema.String, version: Schema.NullOr(Schema.Int) }))
  }))
})

const inWords = ({ handlers, kinds }: typeof HandlersReport.Type, limit: number): ReadonlyArray<string> => {
  const core = kinds.filter((kind) =>
    kind.handler?.startsWith(`${Kind.core}/`) === true && kind.namespace !== Kind.core
  )
  const without = kinds.filter((kind) => kind.handler === null)
  const versions = new Map(handlers.map(({ name, version }) => [name, version]))
  const newer = kinds.filter(({ handler, newestVersion }) =>
    handler !== null && (newestVersion ?? 0) > (versions.get(handler) ?? 0)
  )
  const left = (all: ReadonlyArray<unknown>) =>
    print.more(all.length, limit, "kinds", "see --limit, or --json").map((text) => `  ${text}`)
  return [
    ...handlers.length === 0 ? ["there are no handlers: nothing can be persisted here"] : [],
    ...handlers.flatMap(({ declared, handlerVersion, name, schemaIdentity, version }) => [
      escape(name),
      `  ${escape(schemaIdentity)}, version ${version}${
        handlerVersion === 1 ? "" : `, handler's version ${handlerVersion}`
      }`,
      ...(declared?.problem ?? declared?.statement ?? "").split("\n").filter((line) => line !== "").map((line) =>
        `    ${escape(line)}`
      ),
      ...declared === null
        ? []
        : insideUse.inWords({ handler: name, ...declared }).map((line) => `  ${line}, since its workers started`)
    ]),
    ...core.length === 0 ? [] : ["", "served by core, because their namespace has no handler:"],
    ...core.slice(0, limit).flatMap(({ handler, namespace, schemaIdentity }) => [
      `  ${print.kind(namespace, schemaIdentity)}`,
      `    by ${escape(handler ?? "")}`
    ]),
    ...left(core),
    ...newer.length === 0 ? [] : ["", "recorded at a version that the handler here does not read:"],
    ...newer.slice(0, limit).flatMap(({ handler, namespace, newestVersion, schemaIdentity, workers }) => [
      `  ${print.kind(namespace, schemaIdentity)}: version ${newestVersion}, here ${versions.get(handler ?? "")}`,
      ...readersOf(newestVersion ?? 0, workers)
    ]),
    ...left(newer),
    ...without.length === 0 ? [] : ["", "recorded, and without a handler:"],
    ...without.slice(0, limit).flatMap(({ namespace, outstanding, schemaIdentity, similar }) => [
      `  ${print.kind(namespace, schemaIdentity)}: ${outstanding} outstanding`,
      ...similar === null ? [] : [`    there is a handler for ${escape(similar)}: is one of the two names misspelt?`]
    ]),
    ...left(without)
  ]
}

type Reader = typeof HandlersReport.Type["kinds"][number]["workers"][number]

/** Which workers read a version. */
const readersOf = (version: number, workers: ReadonlyArray<Reader>): ReadonlyArray<string> => {
  // as a claim counts them: a worker that names no version reads all
  const readers = workers.filter((worker) => worker.version === null || worker.version >= version)
  return readers.length === 0
    ? ["    no worker that is alive reads it: deploy the program that does; it continues by itself"]
    : readers.map(({ id }) => `    worker ${escape(id)} reads it`)
}

/** The living workers that serve a kind, by a handler of its namespace or else by one of core. */
const workersFor = (kind: Kind.Kind, living: ReadonlyArray<WorkerView>): ReadonlyArray<Reader> =>
  living.flatMap(({ id, serves }) => {
    const served = [kind.namespace, Kind.core].map((namespace) =>
      serves.find((one) => Kind.equals(one, { ...kind, namespace }))
    ).find((found) => found !== undefined)
    if (served === undefined) return []
    // a row that was edited manually may hold any number
    return [{ id, version: Number.isSafeInteger(served.version) ? served.version ?? null : null }]
  })

/** What a declared handler becomes. */
const declaredOf = (
  inspector: Inspector["Service"],
  { declaration, name }: Handler,
  workers: ReadonlyArray<WorkerView>
) => {
  if (declaration === undefined) return Effect.succeed(null)
  const none = { inside: 0, claimed: {}, refusal: null, unfit: null }
  const { claimed, inside, refusal, unfit } = insideUse.sumUses(workers).find((use) => use.handler === name) ?? none
  const use = { inside, claimed, refusal, unfit }
  return inspector.declaration(declaration).pipe(
    Effect.map((statement) => ({ statement, problem: null, ...use })),
    Effect.catchTag("TableUnfit", (error) => Effect.succeed({ statement: null, problem: error.message, ...use }))
  )
}

/** The command. */
export const handlers = Command.make(
  "handlers",
  { ...options.common, handlers: Application.handlersFlag, limit: options.limit(50) },
  ({ handlers: globs, limit, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const { find, list, serves } = yield* HandlerRegistry
      const inspector = yield* Inspector
      const recorded = yield* inspector.status
      const living = (yield* inspector.workers()).filter(({ alive }) => alive)
      const report = {
        handlers: yield* Effect.forEach(list, (handler) =>
          Effect.map(declaredOf(inspector, handler, living), (declared) => ({
            name: handler.name,
            namespace: handler.namespace,
            schemaIdentity: handler.output.identity,
            version: handler.output.version,
            handlerVersion: handler.options.version ?? 1,
            declared
          }))),
        kinds: recorded.map((kind) => {
          const handler = find(kind.namespace, kind.schemaIdentity)
          const similar = handler === undefined ? Kind.similar(kind, serves) : undefined
          return {
            namespace: kind.namespace,
            schemaIdentity: kind.schemaIdentity,
            outstanding: kind.ready + kind.inFlight + kind.scheduled + kind.waiting + kind.parked,
            handler: handler?.name ?? null,
            similar: similar === undefined ? null : Kind.format(similar),
            newestVersion: kind.newestVersion,
            workers: workersFor(kind, living)
          }
        })
      }
      yield* json ? print.json(HandlersReport, report) : print.lines(inWords(report, limit))
      // so that a script of a deployment stops here
      if (
        report.handlers.some(({ declared }) =>
          declared?.problem != null
        )
      ) process.exitCode = 1
    }).pipe(Effect.provide(Application.layer(Database.storesAsTheyAre(url), globs)), told)
).pipe(
  Command.withDescription(
    "List the handlers, and the recorded kinds without one. Exit status 1 if the table of a declared handler does not fit"
  ),
  Command.withShortDescription("List the handlers, and the recorded kinds without one"),
  Command.withExamples([{
    command: "sluice handlers --handlers \"src/**/persist/*.ts\"",
    description: "Load the modules that match a glob"
  }])
)
