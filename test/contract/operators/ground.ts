/**
 * The three stores the operators' suite is run against: each test on tables of its own, on one database for the file.
 */
import { layer } from "@effect/vitest"
import * as Settings from "effect-sluice/Settings"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Pglite from "effect-sluice/store/Pglite"
import * as PgStore from "effect-sluice/store/PgStore"
import type { Stores } from "effect-sluice/store/Stores"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import { queue, type QueueRow, seqKey } from "../../../src/store/memory/rows.ts"
import type { Version } from "../../support/cluster.ts"
import * as Postgres from "../../support/Postgres.ts"

/** The store's clock, in the test's hands. */
export class Time extends Context.Service<Time, {
  /** Everything is so much older now. */
  readonly pass: (duration: Duration.Input) => Effect.Effect<void>
}>()("test/Time") {}

/** A table of the application's own, in the same database. */
export class Rows extends Context.Service<Rows, {
  readonly add: (text: string) => Effect.Effect<void, unknown>
  readonly list: Effect.Effect<ReadonlyArray<string>, unknown>
  /** Does what a handler does that meets an error of the database and goes on as if nothing had happened. */
  readonly swallowError: Effect.Effect<void, unknown>
  /** An effect in a transaction of the application's. */
  readonly transaction: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, unknown, R>
}>()("test/Rows") {}

/** Rows of the queue, edited by hand. */
export class Edits extends Context.Service<Edits, {
  /** Puts a call's chunks aside, whether anything is before them or not. */
  readonly putAside: (callId: string) => Effect.Effect<void, unknown>
  /** Lets the leases of a call's chunks end so long after the time of the surrounding transaction. */
  readonly leaseEndsIn: (callId: string, span: Duration.Input) => Effect.Effect<void, unknown>
}>()("test/Edits") {}

/** What each test is given. */
export type Given = Stores | Settings.Settings | Time | Rows | Edits

/** Makes a fresh store. */
class Ground extends Context.Service<Ground, {
  readonly fresh: (settings: Partial<Settings.Values>) => Layer.Layer<Given, unknown>
}>()("test/Ground") {}

const rowTable = MemoryDatabase.table<string>("rows")
const rowsInMemory = Effect.map(MemoryDatabase.MemoryDatabase, (db) =>
  Rows.of({
    add: (text) => Effect.flatMap(db.next("row"), (n) => db.use((access) => access.set(rowTable, String(n), text))),
    list: db.use((access) => access.values(rowTable)),
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

const inMemory = Layer.succeed(
  Ground,
  Ground.of({
    fresh: (settings) =>
      MemoryStore.layerStorage.pipe(
        Layer.provideMerge(Layer.effect(Rows, rowsInMemory)),
        Layer.provideMerge(Layer.effect(Edits, editsInMemory)),
        Layer.provideMerge(MemoryDatabase.layer),
        Layer.merge(Layer.succeed(Time, Time.of({ pass: TestClock.adjust }))),
        Layer.provideMerge(Settings.layer(settings))
      ) satisfies Layer.Layer<Given | MemoryDatabase.MemoryDatabase, unknown>
  })
)

const timeColumns = {
  service_call: ["recorded_at", "run_until"],
  chunk_queue: ["recorded_at", "due_at", "rank", "lease_until"],
  dead_letter: ["recorded_at", "died_at", "discarded_at"],
  chunk_failure: ["at"],
  persisted_chunk: ["persisted_at"],
  subscription: ["lease_until", "due_at"],
  worker: ["beat_at"],
  call_attempt: ["answered_at"]
}

/** A database's clock cannot be set; what it is compared with can. */
const passInTables = (sql: SqlClient.SqlClient, schema: string): Time["Service"] =>
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

/** What a test leaves behind, but for what migrations wrote. */
const left = [
  "rows",
  "service_call",
  "call_attempt",
  "usage_entry",
  "usage_total",
  "chunk_queue",
  "persisted_chunk",
  "dead_letter",
  "chunk_failure",
  "worker",
  "pause",
  "subscription",
  "subscription_skip",
  "erasure"
]

const rowsInTables = (schema: string) =>
  Layer.effect(
    Rows,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const rows = sql(`${schema}.rows`)
      yield* sql`create table if not exists ${rows} (id serial primary key, text pg_catalog.text not null)`
      yield* sql`truncate ${sql.literal(left.map((table) => `${schema}.${table}`).join())}`
      return Rows.of({
        add: (text) => sql`insert into ${rows} (text) values (${text})`.pipe(Effect.asVoid),
        list: Effect.map(sql<{ text: string }>`select text from ${rows} order by id`, (found) =>
          found.map((row) => row.text)),
        swallowError: Effect.ignore(sql`select 1 / 0`),
        transaction: sql.withTransaction
      })
    })
  )

const editsInTables = (schema: string) =>
  Layer.effect(
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

let made = 0
/** `shared`: all tests use the same tables, one after the other. */
const onPostgres = (shared: boolean) =>
  Layer.effect(
    Ground,
    Effect.map(SqlClient.SqlClient, (sql) =>
      Ground.of({
        fresh: (settings) => {
          const schema = shared ? "ground" : `ground_${++made}`
          return rowsInTables(schema).pipe(
            Layer.merge(editsInTables(schema)),
            Layer.provideMerge(PgStore.layer),
            Layer.merge(Layer.succeed(Time, passInTables(sql, schema))),
            Layer.provideMerge(Settings.layer({ ...settings, schema })),
            Layer.provide(Layer.succeed(SqlClient.SqlClient, sql))
          )
        }
      }))
  )

/** A test of the suite, on a fresh store. */
export type Test = (
  name: string,
  test: () => Effect.Effect<unknown, unknown, Given | Scope>,
  settings?: Partial<Settings.Values>
) => void

/** Databases by name. */
type Databases = Readonly<Record<string, Layer.Layer<SqlClient.SqlClient, unknown>>>

let elsewhere: Databases | undefined

/** From here on the suites of this file run on these databases, and on no others. */
export const runSuitesOn = (databases: Databases): void => {
  elsewhere = databases
}

/** Runs a suite against every store; `alone` on servers of its own. */
export const onEveryStore = (suite: (test: Test) => void, alone = false): void => {
  const server = (version: Version) =>
    Layer.unwrap(Effect.sync(() => alone ? Postgres.layerAlone(version) : Postgres.layer(version)))
  const grounds = elsewhere !== undefined ?
    Object.entries(elsewhere).map(([name, database]) =>
      [name, Layer.provide(onPostgres(true), database), true] as const
    ) :
    [
      ["memory", inMemory, false],
      ["PGlite", Layer.provide(onPostgres(false), Pglite.layer()), true],
      ["Postgres 18", Layer.provide(onPostgres(false), server(18)), true],
      ["Postgres 15", Layer.provide(onPostgres(false), server(15)), true]
    ] as const
  for (const [store, ground, excludeTestServices] of grounds) {
    layer(ground, { excludeTestServices, timeout: 60_000 })(store, (it) => {
      suite((name, test, settings = {}) =>
        it.effect(
          name,
          () => Effect.flatMap(Ground, ({ fresh }) => Effect.scoped(test()).pipe(Effect.provide(fresh(settings))))
        )
      )
    })
  }
}
