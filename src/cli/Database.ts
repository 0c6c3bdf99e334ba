/**
 * Opens the database a command works on: a Postgres server, or the embedded one.
 */
import { PgClient, type PgConnection } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { existsSync, statSync } from "node:fs"
import path from "node:path"
import * as Settings from "../Settings.ts"
import * as Pglite from "../store/Pglite.ts"
import * as PgServer from "../store/PgServer.ts"
import * as PgStore from "../store/PgStore.ts"
import { within } from "../store/within.ts"
import { understand } from "./address.ts"
import { Failed, rememberRole } from "./Failed.ts"
import * as options from "./options.ts"
import * as packages from "./packages.ts"
import { say } from "./Terminal.ts"

/** The folder of the embedded database. */
const embeddedFolder = ".sluice"

/**
 * Whether the folder holds a database: it may be empty, or hold the demo's only. If it is not a folder, opening it fails
 * with the reason.
 */
const holdsDatabase = (): boolean =>
  statSync(embeddedFolder, { throwIfNoEntry: false })?.isDirectory() === false ||
  existsSync(path.join(embeddedFolder, "data", "PG_VERSION"))

/** How a command opens its database. */
export interface Wants {
  /** Whether to make the embedded one when it is absent. Most commands do not: in a wrong folder they would leave one. */
  readonly create?: boolean
  /** Whether it was to be the embedded one, by `--embedded`. */
  readonly embedded?: boolean
  /** Connections at most. Of the embedded one there is one. */
  readonly connections?: number
}

const isInstalled = (spec: string): boolean => {
  try {
    import.meta.resolve(packages.nameOf(spec))
    return true
  } catch {
    return false
  }
}

const orAServer = "give a Postgres server, by --url or DATABASE_URL"

/** The embedded database, if this is where it is to be. */
const embeddedDatabase = Effect.fnUntraced(function*({ create = false, embedded = false }: Wants) {
  if (!create && !embedded && !holdsDatabase()) {
    return yield* new Failed({
      reason:
        `there is no database: neither --url nor DATABASE_URL says which, and there is none in ./${embeddedFolder}. ` +
        `Make an embedded one, by \`sluice init\` or --embedded of \`sluice drain\`, record or migrate; or ${orAServer}`
    })
  }
  if (!packages.embedded.every(isInstalled)) {
    return yield* new Failed({
      reason:
        `the embedded database needs packages that are not installed: npm install ${packages.embedded.join(" ")}; ` +
        `or ${orAServer}`
    })
  }
  yield* say(`database: ${embeddedName}`)
  return Pglite.layer({ dataDir: embeddedFolder })
})

/** Two to detect a pooler, and two spare ones. */
const fewConnections = 4

/**
 * A dead connection is detected after half a minute, even if a firewall dropped it silently. A connection lives for half an
 * hour at most: new ones follow an address that moved to another server.
 */
const lifetimes = { keepAlive: "30 seconds", connectionTTL: "30 minutes" } as const

const embeddedName = `embedded, in ./${embeddedFolder}`

const addressOf = (url: Option.Option<string>) => options.textOf(url, "DATABASE_URL")

/** The name of the database in printed lines: host, port and name of a server's, or that it is the embedded one. */
export const nameOf = (url: Option.Option<string>) =>
  Effect.map(
    addressOf(url),
    Option.match({
      onNone: () => embeddedName,
      // a wrong address stops the command before it prints this
      onSome: (address) => Result.getOrElse(understand(address), () => "")
    })
  )

/** Whether the command works on the embedded database. */
export const isEmbedded = (url: Option.Option<string>) => Effect.map(addressOf(url), Option.isNone)

/** Whether the command works on an embedded database that does not exist yet. */
export const isAbsent = (url: Option.Option<string>) =>
  Effect.map(isEmbedded(url), (embedded) => embedded && !holdsDatabase())

/**
 * Detects a pooler between this process and the server with two connections, and closes them. The answer is "unknown" if
 * the server refuses one of them or does not answer in time.
 */
const lookBetween = (config: PgConnection.Config, schema: string) =>
  PgServer.lookBetween(config, (role) => rememberRole({ role, schema })).pipe(
    Effect.map((pooled) => pooled ? "pooler" as const : "nothing" as const),
    Effect.scoped,
    within("10 seconds"),
    Effect.map(Option.getOrElse(() => "unknown" as const)),
    // the command reports the error with its first query
    Effect.catchTag("SqlError", () => Effect.succeed("unknown" as const))
  )

const place = Effect.fnUntraced(function*(url: Option.Option<string>, wants: Wants) {
  const { connections = fewConnections } = wants
  const address = yield* addressOf(url)
  if (Option.isNone(address)) return yield* embeddedDatabase(wants)
  if (wants.embedded === true) {
    return yield* new Failed({
      reason: `--embedded: ${options.sayOf(url, "DATABASE_URL")} names a Postgres server. Leave one of them out`
    })
  }
  const understood = understand(address.value)
  if (Result.isFailure(understood)) {
    return yield* new Failed({ reason: `${options.sayOf(url, "DATABASE_URL")} ${understood.failure}` })
  }
  yield* say(`database: ${understood.success}`)
  const { listen, schema } = yield* Settings.Settings
  const server = { url: Redacted.make(address.value), ...lifetimes }
  const between = yield* lookBetween(server, schema)
  if (between === "pooler") yield* say("a pooler in transaction mode is in between: nothing is prepared")
  return PgClient.layer({
    ...server,
    maxConnections: connections,
    applicationName: "sluice",
    // with SLUICE_LISTEN=false there may be an undetected pooler, behind which prepared statements do not last
    prepare: between === "nothing" && listen
  })
})

/** The SQL client of the database. */
export const layer = (url: Option.Option<string>, wants: Wants = {}) => Layer.unwrap(place(url, wants))

/** The store on it, its tables brought up to date: for commands that put something in. */
export const stores = (url: Option.Option<string>, wants: Wants) =>
  PgStore.layer.pipe(Layer.provideMerge(layer(url, wants)))

/**
 * The store without migrations and without a connection for hints: for commands that read, or that change rows but not the
 * tables.
 */
export const storesAsTheyAre = (url: Option.Option<string>, wants: Wants = {}) =>
  PgStore.layerAsItIs.pipe(Layer.provideMerge(layer(url, wants)))

/** The store on an unchecked database, whose tables may belong to another program: for the doctor. */
export const storesToExamine = (url: Option.Option<string>) =>
  PgStore.layerUnchecked.pipe(Layer.provideMerge(layer(url)))
