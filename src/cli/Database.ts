/**
 * Which database a command works on, and the sentence it ends with when something is wrong.
 */
import { PgClient } from "@effect/sql-pg"
import * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Settings from "../Settings.ts"
import * as Pglite from "../store/Pglite.ts"
import * as PgStore from "../store/PgStore.ts"

/** A command failed; the message is all that a person is told. */
export class Failed extends Schema.TaggedError<Failed>()("Failed", { reason: Schema.String }) {
  override get [CliError.userMessage]() {
    return this.reason
  }
}

/** The flags of every command. */
export const common = {
  url: Flag.String("url").pipe(
    Flag.withMetavar("URL"),
    Flag.withDescription("the Postgres server's address; DATABASE_URL, or the embedded database in ./.sluice, without"),
    Flag.optional
  ),
  json: Flag.Boolean("json").pipe(Flag.withDescription("print JSON for programs"), Flag.withDefault(false))
}

/** The folder of the embedded database. */
export const embeddedFolder = ".sluice"

const addressOf = Effect.fnUntraced(function*(url: Option.Option<string>) {
  const address = Option.isSome(url) ? url : yield* Config.option(Config.String("DATABASE_URL"))
  // `DATABASE_URL= sluice …` is how a shell says none
  return Option.filter(address, (text) => text !== "")
})

/** Whether it is the embedded database. */
export const isEmbedded = (url: Option.Option<string>) => Effect.map(addressOf(url), Option.isNone)

const place = Effect.fnUntraced(function*(url: Option.Option<string>) {
  const address = yield* addressOf(url)
  if (Option.isNone(address)) {
    yield* Console.error(`database: embedded, in ./${embeddedFolder}`)
    return Pglite.layer({ dataDir: embeddedFolder })
  }
  const parsed = yield* Effect.try({
    try: () => new URL(address.value),
    // the address may hold a password: it is not repeated
    catch: () => new Failed({ reason: "the database's address is not a URL: write postgres://user@host:5432/database" })
  })
  yield* Console.error(`database: ${parsed.host}${parsed.pathname}`)
  const { notify } = yield* Settings.load
  return PgClient.layer({
    url: Redacted.make(address.value),
    maxConnections: 10,
    applicationName: "sluice",
    // who hears nothing is behind a pooler in transaction mode, where nothing that is prepared lasts either
    prepare: notify
  })
})

/** The clients of the database. */
export const layer = (url: Option.Option<string>) => Layer.unwrap(place(url))

/** The store on it, its tables brought up to date. */
export const stores = (url: Option.Option<string>) => PgStore.layer.pipe(Layer.provideMerge(layer(url)))

/** The store on it as it is: for commands that change something, but not the tables. */
export const storesAsTheyAre = (url: Option.Option<string>) =>
  PgStore.layerNoMigrate.pipe(Layer.provideMerge(layer(url)))

/** The store on it as it is, without a connection to hear hints on: for commands that only look. */
export const storesToLookAt = (url: Option.Option<string>) =>
  PgStore.layerNoMigrate.pipe(
    Layer.provide(Settings.layer({ notify: false })),
    Layer.provideMerge(layer(url))
  )

const innermost = (error: unknown, depth = 0): string => {
  if (depth < 6 && Predicate.isObject(error)) {
    if (Predicate.hasProperty(error, "reason") && Predicate.isObject(error.reason)) {
      return innermost(error.reason, depth + 1)
    }
    if (Predicate.hasProperty(error, "cause") && error.cause instanceof Error) return innermost(error.cause, depth + 1)
  }
  return error instanceof Error ? error.message : String(error)
}

/** One sentence about an error, and what to do. */
export const explain = (error: unknown): Failed => {
  if (error instanceof Failed) return error
  const message = error instanceof Error ? error.message : String(error)
  const inner = innermost(error)
  if (/relation ".*" does not exist|schema ".*" does not exist/.test(inner)) {
    return new Failed({ reason: "Sluice's tables are not there yet: run `sluice migrate`" })
  }
  if (/prepared statement ".*" (does not exist|already exists)/.test(inner)) {
    return new Failed({ reason: "a pooler in transaction mode is in between: set SLUICE_NOTIFY=false" })
  }
  const [, file] = /ENOENT: no such file or directory, open '(.*?)'/.exec(`${message} ${inner}`) ?? []
  if (file !== undefined) return new Failed({ reason: `there is no file ${file}` })
  return new Failed({ reason: message.includes(inner) ? message : `${message}: ${inner}` })
}

/** Ends a command: its errors become one sentence. */
export const told = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, Failed, R> =>
  Effect.mapError(effect, explain)
