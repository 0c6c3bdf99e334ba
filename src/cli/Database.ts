/**
 * Which database a command works on.
 */
import { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { existsSync } from "node:fs"
import * as Settings from "../Settings.ts"
import * as Pglite from "../store/Pglite.ts"
import * as PgStore from "../store/PgStore.ts"
import { understand } from "./address.ts"
import { Failed } from "./Failed.ts"
import * as options from "./options.ts"
import { say } from "./terminal.ts"

/** The folder of the embedded database. */
const embeddedFolder = ".sluice"

/** What a command wants of its database. */
export interface Wants {
  /** To make the embedded one when it is not there. A question asked in the wrong folder must not leave one behind. */
  readonly create?: boolean
  /** Connections at most. Of the embedded one there is one. */
  readonly connections?: number
}

/** Two for the doctor to find a pooler by, and two to spare. */
const fewConnections = 4

const addressOf = (url: Option.Option<string>) => options.textOf(url, "DATABASE_URL")

/** Whether it is the embedded database. */
export const isEmbedded = (url: Option.Option<string>) => Effect.map(addressOf(url), Option.isNone)

/** Whether it is one that is not there yet. */
export const isAbsent = (url: Option.Option<string>) =>
  Effect.map(isEmbedded(url), (embedded) => embedded && !existsSync(embeddedFolder))

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
  const { notify } = yield* Settings.load
  return PgClient.layer({
    url: Redacted.make(address.value),
    maxConnections: connections,
    applicationName: "sluice",
    // who hears nothing is behind a pooler in transaction mode, where nothing that is prepared lasts either
    prepare: notify
  })
})

/** The clients of the database. */
export const layer = (url: Option.Option<string>, wants: Wants = {}) => Layer.unwrap(place(url, wants))

/** The store on it, its tables brought up to date: for commands that put something in, and make it when it is not there. */
export const stores = (url: Option.Option<string>, connections?: number) =>
  PgStore.layer.pipe(
    Layer.provideMerge(layer(url, { create: true, ...(connections === undefined ? {} : { connections }) }))
  )

/** The store on it as it is: for commands that change something, but not the tables. */
export const storesAsTheyAre = (url: Option.Option<string>) =>
  PgStore.layerNoMigrate.pipe(Layer.provideMerge(layer(url)))

/** The store on it as it is, without a connection to hear hints on: for commands that only look. */
export const storesToLookAt = (url: Option.Option<string>) =>
  PgStore.layerNoMigrate.pipe(
    Layer.provide(Settings.layer({ notify: false })),
    Layer.provideMerge(layer(url))
  )
