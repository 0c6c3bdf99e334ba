/**
 * Databases that are moved from one server to another, as a dump and its restore move them.
 */
import { ChunkStore, EventLog } from "effect-sluice"
import * as DomainObject from "effect-sluice/DomainObject"
import * as Settings from "effect-sluice/Settings"
import * as Migrations from "effect-sluice/store/Migrations"
import * as PgStore from "effect-sluice/store/PgStore"
import type { Stores } from "effect-sluice/store/Stores"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { execFileSync, spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { atStart } from "../../src/store/pg/rebase.ts"
import { call, record, settle } from "../contract/operators/dialogues.ts"
import { client } from "../support/client.ts"
import { type Cluster, type ClusterOptions, startCluster } from "../support/cluster.ts"

/** A server of the test's own. */
export const server = (options: ClusterOptions = {}) =>
  Effect.acquireRelease(
    Effect.promise(() => startCluster(options)),
    (cluster) => Effect.promise(() => cluster.remove())
  )

/** A database, its client and its store. Its tables are as they are. */
export interface Place {
  readonly url: string
  readonly sql: SqlClient.SqlClient
  readonly run: <A, E>(
    effect: Effect.Effect<A, E, Stores | SqlClient.SqlClient | Settings.Settings>
  ) => Effect.Effect<A, E>
}

/** The database at an address. */
export const placeAt = Effect.fnUntraced(function*(url: string) {
  const services = yield* Layer.build(
    Layer.fresh(PgStore.layerStorage.pipe(Layer.provideMerge(Layer.fresh(client(url, { maxConnections: 3 })))))
  )
  return {
    url,
    sql: Context.get(services, SqlClient.SqlClient),
    run: (effect) => Effect.provideContext(effect, services)
  } satisfies Place as Place
})

/** A new database of a server, without tables. */
export const emptyDatabase = Effect.fnUntraced(function*(cluster: Cluster) {
  const name = `moved_${randomUUID().replaceAll("-", "")}`
  yield* Effect.scoped(Effect.flatMap(placeAt(cluster.url()), ({ sql }) => sql.unsafe(`create database ${name}`)))
  return yield* placeAt(cluster.url(name))
})

/** A new database of a server, with tables. */
export const database = Effect.fnUntraced(function*(cluster: Cluster) {
  const place = yield* emptyDatabase(cluster)
  yield* place.run(Migrations.run)
  return place
})

/** What a program of Sluice's does at its start. */
export const start = (place: Place) => place.run(atStart)

/** So many transactions go by. */
export const spend = ({ sql }: Place, transactions: number) =>
  sql.unsafe(`do $$ begin
    for i in 1..${transactions} loop perform pg_current_xact_id(); commit; end loop;
  end $$`)

/** Records and persists calls, each in a transaction of its own. */
export const persist = (place: Place, ...ids: ReadonlyArray<string>) =>
  place.run(Effect.forEach(ids, (id) => Effect.andThen(record(call(id)), settle("persisted")), { discard: true }))

/** The same in a savepoint of a transaction of the application's. */
export const persistWithin = (place: Place, id: string) =>
  place.run(Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const entry = { key: { callId: id, schemaIdentity: "by hand", part: "" }, namespace: "chatlab", handler: "by hand" }
    const objects = Effect.succeed([DomainObject.make("chatlab.Message", `message of ${id}`)])
    yield* sql.withTransaction(Effect.andThen(
      sql`select pg_current_xact_id()::text`,
      sql.withTransaction(ChunkStore.ChunkStore.use((store) => store.once(entry, objects)))
    ))
  }))

const lease = Duration.minutes(1)

/** Reads a subscription to its end, or so many entries of it; gives back the calls it was told of. */
export const readAll = Effect.fnUntraced(function*(
  place: Place,
  name: string,
  most = 1e9,
  feed: EventLog.Feed = "objects"
) {
  return yield* place.run(Effect.gen(function*() {
    const log = yield* EventLog.EventLog
    const told: Array<string> = []
    while (told.length < most) {
      const limit = Math.min(7, most - told.length)
      const taken = yield* log.take(name, { feed, limit, maxBytes: 1e9, lease, reader: "test" })
      if (Option.isNone(taken)) break
      const { entries, token } = taken.value
      told.push(
        ...entries.flatMap(({ ended, events }) =>
          ended === undefined ? events.map(({ key }) => key.callId) : [ended.callId]
        )
      )
      yield* log.advance(name, token, { place: entries.at(-1)!.place, suspects: 0 }, lease)
      yield* log.release(name, token, { suspects: 0 })
    }
    return told
  }))
})

/**
 * Restores a database into another server, as pg_dump does it: its tables as they are, with their defaults; their rows, each
 * table's in one transaction; where the sequences were.
 */
export const restore = Effect.fnUntraced(function*(from: Place, to: Cluster) {
  const place = yield* database(to)
  const { sql } = place
  const [{ base } = { base: "" }] = yield* from.sql<{ base: string }>`
    select pg_get_expr(adbin, adrelid) as base from pg_attrdef
    join pg_attribute on attrelid = adrelid and attnum = adnum
    where adrelid = 'sluice.persisted_chunk'::regclass and attname = 'xact'`
  yield* sql.unsafe(`alter table sluice.persisted_chunk alter column xact set default ${base}`)
  const tables = yield* from.sql<{ name: string }>`
    select table_name as name from information_schema.tables where table_schema = 'sluice' order by 1`
  for (const { name } of tables) {
    const [{ rows } = { rows: "" }] = yield* from.sql<{ rows: string }>`
      select coalesce(json_agg(t), '[]')::text as rows from ${from.sql(`sluice.${name}`)} t`
    const table = sql(`sluice.${name}`)
    yield* sql`
      with gone as (delete from ${table}) select 1`
    yield* sql`
      insert into ${table} overriding system value
      select * from json_populate_recordset(null::${table}, ${rows}::json)`
  }
  const [seq] = yield* from.sql<{ last: string }>`select last_value::text as last from sluice.chunk_seq`
  yield* sql`select setval('sluice.chunk_seq', ${seq?.last ?? "1"}::bigint)`
  return place
})

/** Whether there is a pg_dump for servers of version 15, with its psql. */
export const hasDump: boolean = ["pg_dump", "psql"].every((program) =>
  / 1[5-9]\./.test(spawnSync(program, ["--version"], { encoding: "utf8" }).stdout ?? "")
)

/** The same by pg_dump itself. */
export const restoreDump = Effect.fnUntraced(function*(from: Place, to: Cluster) {
  const place = yield* emptyDatabase(to)
  const dump = execFileSync("pg_dump", [from.url], { encoding: "utf8", maxBuffer: 1e9 })
  execFileSync("psql", ["-v", "ON_ERROR_STOP=1", "-q", place.url], {
    input: dump,
    stdio: ["pipe", "ignore", "inherit"]
  })
  return place
})
