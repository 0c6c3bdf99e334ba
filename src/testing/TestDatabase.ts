/**
 * Databases for tests of handlers that use SQL. Starting one, or making its tables, takes seconds; a test, and each scene of
 * a rehearsal, needs empty tables in milliseconds. So it is made once, and emptied or copied for each test.
 */
import { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { Settings } from "../Settings.ts"
import * as Migrations from "../store/Migrations.ts"
import * as Pglite from "../store/Pglite.ts"

/** What is in the database before a test begins. */
export interface Options<E> {
  /** Makes the application's tables. Run once; Sluice's own are there already. */
  readonly setup?: Effect.Effect<unknown, E, SqlClient.SqlClient> | undefined
  /** Writes the rows that each test begins with, such as those that others refer to. Run each time, on empty tables. */
  readonly seed?: Effect.Effect<unknown, SqlError, SqlClient.SqlClient> | undefined
}

/** The clients of a database. */
export type Clients = PgClient.PgClient | SqlClient.SqlClient

/** What keeps a database for tests from being made, besides the errors of `setup`. */
export type TestDatabaseError = Migrations.MigrationError | Pglite.FolderInUse | Pglite.EmbeddedFailed

/**
 * A database for tests, made once for a file of tests.
 *
 * ```ts
 * layer(TestDatabase.layerPglite({ setup: makeTables }).pipe(Layer.provide(Settings.layer())))("notes", (it) => {
 *   it.effect("are written once", () => Effect.gen(function*() {
 *     const { empty } = yield* TestDatabase.TestDatabase
 *     yield* exactlyOnce({
 *       application: registry.pipe(Layer.provideMerge(PgStore.layer), Layer.provideMerge(empty)),
 *       calls,
 *       tables: Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select * from note order by id`)
 *     })
 *   }))
 * })
 * ```
 */
export class TestDatabase extends Context.Service<TestDatabase, {
  /**
   * The clients of a database as `setup` and `seed` leave it, and the settings that Sluice's tables were made with. Build it
   * anew for each test, or give it to `exactlyOnce`, which does. The embedded database is used by one test at a time, and
   * the next one waits; on a server each test has a database of its own.
   */
  readonly empty: Layer.Layer<Clients | Settings, SqlError>
}>()("effect-sluice/testing/TestDatabase") {}

/**
 * On the embedded database, in memory. For the next test all tables but Sluice's bookkeeping are emptied, and sequences
 * restart. Anything else that a test leaves, such as a table that it made, stays.
 */
export const layerPglite = <E = never>(
  options: Options<E> = {}
): Layer.Layer<TestDatabase, TestDatabaseError | E, Settings> => Layer.effect(TestDatabase, makeEmbedded(options))

/**
 * On a Postgres server, whose address is that of any database of it, under a role that may create databases. Each
 * test gets a copy of a template, which is dropped after it. Nothing in the database of the address is touched.
 */
export const layerServer = <E = never>(
  options: Options<E> & { readonly url: Redacted.Redacted<string> }
): Layer.Layer<TestDatabase, Migrations.MigrationError | E, Settings> =>
  Layer.effect(TestDatabase, makeOnServer(options))

/** Sluice's tables and the application's. */
const prepare = <E>(options: Options<E>) => Effect.andThen(Migrations.run, options.setup ?? Effect.void)

const seed = <E>(options: Options<E>) => options.seed ?? Effect.void

/** Of Sluice's tables those that migrations fill; without them the tables would be of no use. */
const bookkeeping = ["migration", "subscription_log"]

/** Empties all tables, in one statement, so that foreign keys need no order. */
const emptyTables = Effect.fnUntraced(function*(schema: string) {
  const sql = yield* SqlClient.SqlClient
  const own =
    "c.relnamespace not in (select oid from pg_catalog.pg_namespace where nspname ~ '^pg_|^information_schema$')"
  const [found] = yield* sql<{ tables: string | null }>`
    select pg_catalog.string_agg(c.oid::pg_catalog.regclass::pg_catalog.text, ', ') as tables
    from pg_catalog.pg_class c
    where c.relkind in ('r', 'p') and not c.relispartition and ${sql.literal(own)}
      and not (c.relnamespace = (select oid from pg_catalog.pg_namespace where nspname = ${schema})
        and c.relname = any(${bookkeeping}::pg_catalog.text[]))`
  if (found?.tables !== null && found?.tables !== undefined) yield* sql`truncate ${sql.literal(found.tables)} cascade`
  yield* sql`
    select pg_catalog.setval(c.oid::pg_catalog.regclass, s.seqstart, false)
    from pg_catalog.pg_class c join pg_catalog.pg_sequence s on s.seqrelid = c.oid where ${sql.literal(own)}`
})

const makeEmbedded = Effect.fnUntraced(function*<E>(options: Options<E>) {
  const settings = yield* Settings
  const clients = yield* Layer.build(Layer.fresh(Pglite.layer()))
  yield* Effect.provideContext(prepare(options), clients)
  const one = Semaphore.makeUnsafe(1)
  const empty = Layer.effectContext(Effect.gen(function*() {
    yield* Effect.acquireRelease(one.take(1), () => one.release(1))
    yield* Effect.provideContext(Effect.andThen(emptyTables(settings.schema), seed(options)), clients)
    return Context.add(clients, Settings, settings)
  }))
  return TestDatabase.of({ empty })
})

const makeOnServer = Effect.fnUntraced(function*<E>(
  { url, ...options }: Options<E> & { readonly url: Redacted.Redacted<string> }
) {
  const settings = yield* Settings
  const admin = Context.get(
    yield* Layer.build(Layer.fresh(PgClient.layer({ url, maxConnections: 1 }))),
    SqlClient.SqlClient
  )
  const prefix = `sluice_test_${(yield* Random.nextIntBetween(0, 2 ** 48)).toString(36)}`
  const addressOf = (name: string) => {
    const address = new URL(Redacted.value(url))
    address.pathname = `/${name}`
    return Redacted.make(address.href)
  }
  /** Makes a database, until the scope closes. */
  const create = (name: string, like = "") =>
    Effect.acquireRelease(
      admin.unsafe(`create database ${name}${like}`),
      () => Effect.ignore(admin.unsafe(`drop database ${name} with (force)`))
    )
  const connect = (name: string) => Layer.build(Layer.fresh(PgClient.layer({ url: addressOf(name) })))

  const template = `${prefix}_template`
  yield* create(template)
  // closed when it is done: a database that is in use cannot be copied
  yield* Effect.scoped(
    Effect.flatMap(connect(template), (clients) => Effect.provideContext(prepare(options), clients))
  )
  let made = 0
  const empty = Layer.effectContext(Effect.gen(function*() {
    const name = `${prefix}_${++made}`
    yield* create(name, ` template ${template}`)
    const clients = yield* connect(name)
    yield* Effect.provideContext(seed(options), clients)
    return Context.add(clients, Settings, settings)
  }))
  return TestDatabase.of({ empty })
})
