/**
 * The stores that the contract is run against: one database each, whose tables are emptied before each scene.
 */
import { layer } from "@effect/vitest"
import * as Settings from "effect-sluice/Settings"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Pglite from "effect-sluice/store/Pglite"
import * as PgStore from "effect-sluice/store/PgStore"
import { Edits, type Given, Rows, type Scene, Time } from "effect-sluice/testing/contract"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import { describe } from "vitest"
import { queue, type QueueRow, seqKey } from "../../../src/store/memory/rows.ts"
import * as Postgres from "../../support/Postgres.ts"

/** A store with empty tables. */
type Store = Layer.Layer<Given, unknown, Settings.Settings>

/** The store that scenes are played on. */
class Ground extends Context.Service<Ground, { readonly store: Store }>()("test/Ground") {}

const rowTable = MemoryDatabase.table<{ readonly text: string }>("rows")
const rowsInMemory = Effect.map(MemoryDatabase.MemoryDatabase, (db) =>
  Rows.of({
    table: "rows",
    add: (text) =>
      Effect.flatMap(db.next("rows"), (n) => db.use((access) => access.set(rowTable, String(n), { text }))),
    list: db.use((access) => access.values(rowTable).map(({ text }) => text)),
    // there is no such thing in memory
    swallowError: Effect.void,
    transaction: db.transaction
  }))

const editsInMemory = Effect.map(MemoryDatabase.MemoryDatabase, (db) => {
  const edit = (callId: string, change: Partial<QueueRow>) =>
    db.use((access) => {
      for (const row of access.values(queue).filter(({ key }) => key.callId === callId)) {
        access.set(queue, seqKey(row.seq), { ...row, ...change })
      }
    })
  return Edits.of({
    putAside: (callId) => edit(callId, { state: "waiting" }),
    leaseEndsIn: (callId, span) =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (now) => edit(callId, { leaseUntil: now + Duration.toMillis(Duration.fromInputUnsafe(span)) })
      )
  })
})

/** What the contract asks for beside a store in memory. */
export const besideMemory = Layer.mergeAll(
  Layer.effect(Rows, rowsInMemory),
  Layer.effect(Edits, editsInMemory),
  Layer.succeed(Time, Time.of({ pass: TestClock.adjust }))
)

const inMemory = Layer.succeed(
  Ground,
  Ground.of({
    store: Layer.merge(MemoryStore.layerStorage, besideMemory).pipe(Layer.provideMerge(MemoryDatabase.layer))
  })
)

/** The schema of the tables, which all scenes on a database use, one after the other. */
const schema = "ground"

const timeColumns = {
  service_call: ["recorded_at", "run_until"],
  chunk_queue: ["recorded_at", "due_at", "rank", "lease_until"],
  dead_letter: ["recorded_at", "died_at", "discarded_at"],
  chunk_failure: ["at"],
  persisted_chunk: ["persisted_at"],
  subscription: ["lease_until", "due_at"],
  call_end: ["ended_at"],
  worker: ["beat_at"],
  call_attempt: ["answered_at"]
}

/** A database's clock cannot be set; what it is compared with can. */
const passInTables = (sql: SqlClient.SqlClient): Time["Service"] =>
  Time.of({
    pass: (duration) =>
      Effect.orDie(
        Effect.forEach(Object.entries(timeColumns), ([table, columns]) =>
          sql.unsafe(
            `update ${schema}.${table} set ${
              columns.map((column) =>
                `${column} = ${column} - ${Duration.toMillis(duration)}::pg_catalog.float8 * interval '1 millisecond'`
              )
            }`
          ), { discard: true })
      )
  })

/** What a scene leaves behind, but for what migrations wrote. */
const left = [
  "rows",
  "service_call",
  "call_attempt",
  "usage_entry",
  "usage_total",
  "chunk_queue",
  "persisted_chunk",
  "ledger_place",
  "ledger_total",
  "ledger_digest",
  "dead_letter",
  "chunk_failure",
  "worker",
  "pause",
  "subscription",
  "subscription_skip",
  "call_subscription",
  "open_call",
  "call_end",
  "erasure"
]

const rowsInTables = Layer.effect(
  Rows,
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const rows = sql(`${schema}.rows`)
    yield* sql`create table if not exists ${rows} (id serial primary key, text pg_catalog.text not null)`
    yield* sql`truncate ${sql.literal(left.map((table) => `${schema}.${table}`).join())}`
    return Rows.of({
      table: `${schema}.rows`,
      add: (text) => sql`insert into ${rows} (text) values (${text})`.pipe(Effect.asVoid),
      list: Effect.map(
        sql<{ text: string }>`select text from ${rows} order by id`,
        (found) => found.map((row) => row.text)
      ),
      swallowError: Effect.ignore(sql`select 1 / 0`),
      transaction: sql.withTransaction
    })
  })
)

const editsInTables = Layer.effect(
  Edits,
  Effect.map(SqlClient.SqlClient, (sql) => {
    const rows = sql(`${schema}.chunk_queue`)
    return Edits.of({
      putAside: (callId) => Effect.asVoid(sql`update ${rows} set state = 'waiting' where call_id = ${callId}`),
      leaseEndsIn: (callId, span) =>
        Effect.asVoid(sql`
          update ${rows} set lease_until = pg_catalog.now() + ${
          Duration.toMillis(Duration.fromInputUnsafe(span))
        }::pg_catalog.float8 * interval '1 millisecond' where call_id = ${callId}`)
    })
  })
)

const onPostgres = Layer.effect(
  Ground,
  Effect.map(SqlClient.SqlClient, (sql) =>
    Ground.of({
      store: Layer.unwrap(Effect.map(Settings.Settings, (settings) =>
        rowsInTables.pipe(
          Layer.merge(editsInTables),
          Layer.provideMerge(PgStore.layer),
          Layer.merge(Layer.succeed(Time, passInTables(sql))),
          Layer.provide(Settings.layer({ ...settings, schema })),
          Layer.provide(Layer.succeed(SqlClient.SqlClient, sql))
        )))
    }))
)

/** Plays scenes as tests on a store, a describe block for each topic. */
const play = (
  scenes: ReadonlyArray<Scene>,
  store: string,
  ground: Layer.Layer<Ground, unknown>,
  excludeTestServices: boolean
): void =>
  layer(ground, { excludeTestServices, timeout: 60_000 })(store, (it) => {
    for (const [topic, list] of Map.groupBy(scenes, (scene) => scene.topic)) {
      describe(topic, () => {
        for (const { name, run } of list) it.effect(name, () => Effect.flatMap(Ground, ({ store }) => run(store)))
      })
    }
  })

/** The stores of the contract. */
export type StoreName = "memory" | "PGlite" | "Postgres 18" | "Postgres 15"

/** Plays scenes on a store. */
export const onStore = (name: StoreName, scenes: ReadonlyArray<Scene>): void => {
  if (name === "memory") return play(scenes, name, inMemory, false)
  if (name === "PGlite") return play(scenes, name, Layer.provide(onPostgres, Pglite.layer()), true)
  const version = name === "Postgres 18" ? 18 : 15
  const playOn = (list: ReadonlyArray<Scene>, server: (version: 15 | 18) => ReturnType<typeof Postgres.layer>) =>
    play(list, name, Layer.provide(onPostgres, Layer.unwrap(Effect.sync(() => server(version)))), true)
  const readsTheLog = ({ topic }: Scene) => ["eventLog", "liveEvents", "callEnds"].includes(topic)
  playOn(scenes.filter((scene) => !readsTheLog(scene)), Postgres.layer)
  // a subscription reads up to the oldest transaction of the whole server, so its scenes have a server of their own
  playOn(scenes.filter(readsTheLog), Postgres.layerAlone)
}

/** Databases by name. */
type Databases = Readonly<Record<string, Layer.Layer<SqlClient.SqlClient, unknown>>>

/** Plays scenes on databases, all in the same tables. */
export const onDatabases = (databases: Databases, scenes: ReadonlyArray<Scene>): void => {
  for (const [name, database] of Object.entries(databases)) {
    play(scenes, name, Layer.provide(onPostgres, database), true)
  }
}

/** The topics that take half of the time: on the slowest store they have a file of their own, which runs beside the rest. */
export const isLong = ({ topic }: Scene): boolean =>
  ["recording", "facts", "recordNow", "claiming", "persisting"].includes(topic)
