/**
 * Opens the database a command works on: a Postgres server, or the embedded one.
 */
import { PgClient, type PgConnection } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { existsSync } from "node:fs"
import * as Settings from "../Settings.ts"
import * as Pglite from "../store/Pglite.ts"
import * as PgServer from "../store/PgServer.ts"
import * as PgStore from "../store/PgStore.ts"
import { within } from "../store/within.ts"
import { understand } from "./address.ts"
import { Failed, rememberRole } from "./Failed.ts"
import * as options from "./options.ts"
import { say } from "./Terminal.ts"

/** The folder of the embedded database. */
const embeddedFolder = ".sluice"

/** How a command opens its database. */
export interface Wants {
  /** Create the embedded database if it does not exist. A query in the wrong folder must not leave one behind. */
  readonly create?: boolean
  /** The most connections. The embedded database has one. */
  readonly connections?: number
}

/** Two to detect a pooler, and two spare ones. */
const fewConnections = 4

/**
 * A dead connection is detected after half a minute, even if a firewall dropped it silently. A connection lives for half an
 * hour at most: new ones follow an address that moved to another server.
 */
const lifetimes = { keepAlive: "30 seconds", connectionTTL: "30 minutes" } as const

const addressOf = (url: Option.Option<string>) => options.textOf(url, "DATABASE_URL")

/** Whether the command works on the embedded database. */
export const isEmbedded = (url: Option.Option<string>) => Effect.map(addressOf(url), Option.isNone)

/** Whether the command works on an embedded database that does not exist yet. */
export const isAbsent = (url: Option.Option<string>) =>
  Effect.map(isEmbedded(url), (embedded) => embedded && !existsSync(embeddedFolder))

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

const place = Effect.fnUntraced(function*(
  url: Option.Option<string>,
  { connections = fewConnections, create = false }: Wants
) {
  const address = yield* addressOf(url)
  if (Option.isNone(address)) {
    if (!create && !existsSync(embeddedFolder)) {
      return yield* new Failed({
        reason: `there is no database in ./${embeddedFolder}: \`sluice init\` makes one here; ` +
          "or say which it is, by --url or DATABASE_URL"
      })
    }
    yield* say(`database: embedded, in ./${embeddedFolder}`)
    return Pglite.layer({ dataDir: embeddedFolder })
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

/** The store, with its tables migrated: for commands that write. Creates the embedded database if it does not exist. */
export const stores = (url: Option.Option<string>, connections?: number) =>
  PgStore.layer.pipe(
    Layer.provideMerge(layer(url, { create: true, ...(connections === undefined ? {} : { connections }) }))
  )

/**
 * The store without migrations and without a connection for hints: for commands that read, or that change rows but not the
 * tables.
 */
export const storesAsTheyAre = (url: Option.Option<string>) => PgStore.layerAsItIs.pipe(Layer.provideMerge(layer(url)))

/** The store on an unchecked database, whose tables may belong to another program: for the doctor. */
export const storesToExamine = (url: Option.Option<string>) =>
  PgStore.layerUnchecked.pipe(Layer.provideMerge(layer(url)))
