/**
 * Where the demo keeps its data: in memory, in the embedded Postgres, or on a Postgres server.
 */
import { PgClient } from "@effect/sql-pg"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Pglite from "effect-sluice/store/Pglite"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as repositories from "../repositories.ts"

/** A place for the data. Without a folder or a database name it is a fresh one, deleted when the demo ends. */
export type Place =
  | { readonly _tag: "Memory" }
  | { readonly _tag: "Embedded"; readonly folder: string | undefined }
  | { readonly _tag: "Postgres"; readonly url: string; readonly database: string | undefined }

const onPostgres = Layer.merge(PgStore.layer, repositories.layerPg)

const client = (url: string, database?: string) =>
  PgClient.layer({
    url: Redacted.make(url),
    ...(database === undefined ? {} : { database }),
    maxConnections: 10,
    applicationName: "sluice-demo"
  })

/** A database of the server, made if it does not exist. Without a name it is a fresh one, dropped at the end. */
const database = Effect.fnUntraced(function*(url: string, name: string | undefined) {
  const sql = Context.get(yield* Layer.build(client(url)), SqlClient.SqlClient)
  if (name !== undefined) {
    const found = yield* sql`select 1 from pg_database where datname = ${name}`
    if (found.length === 0) yield* sql`create database ${sql(name)}`
    return name
  }
  const fresh = `sluice_demo_${(yield* Random.nextIntBetween(0, 2 ** 48)).toString(36)}`
  return yield* Effect.acquireRelease(
    Effect.as(sql`create database ${sql(fresh)}`, fresh),
    () => Effect.ignore(sql`drop database ${sql(fresh)} with (force)`)
  )
})

/** The layer of a place: the store and the repositories. */
export const layer = (place: Place) => {
  switch (place._tag) {
    case "Memory":
      return repositories.layerMemory.pipe(Layer.provideMerge(MemoryStore.layer))
    case "Embedded":
      return onPostgres.pipe(Layer.provide(Pglite.layer({ dataDir: place.folder })))
    case "Postgres":
      return Layer.unwrap(
        Effect.map(
          database(place.url, place.database),
          (name) => onPostgres.pipe(Layer.provide(client(place.url, name)))
        )
      )
  }
}
