/**
 * Brings Sluice's tables up to date. The migrations are the numbered files in `sql/`, plain SQL that also works with `psql
 * -f`. The code contains their text, so a bundled program has them too. A table of Sluice's own lists the applied ones.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Settings from "../Settings.ts"
import { DatabaseUnfit } from "./DatabaseUnfit.ts"
import { limitOf } from "./pg/client.ts"
import { codeOf } from "./pg/errors.ts"
import { free, guard, isGuarding, MigrationFailed, runStatement, type Site } from "./pg/migrating.ts"
import { isPooledBetween } from "./pg/pooler.ts"
import { checkComplete, checkTables, factsOf, namingRights } from "./pg/preflight.ts"
import * as sequences from "./pg/sequences.ts"
import { clientOf, open, reserve, type Session } from "./pg/session.ts"
import { list, type Migration, nameOf } from "./pg/statements.ts"
import { within } from "./within.ts"

export { DatabaseUnfit } from "./DatabaseUnfit.ts"
export { MigrationFailed } from "./pg/migrating.ts"
export { isConcurrent, list, type Migration } from "./pg/statements.ts"

/** Why tables could not be brought up to date or examined. */
export type MigrationError = MigrationFailed | DatabaseUnfit | SqlError

/** Creates the table that lists applied migrations. */
const bookkeeping = (schema: string): string =>
  `create table if not exists "${schema}".migration (
  migration_id integer primary key,
  created_at timestamp with time zone not null default pg_catalog.now(),
  name text not null
)`

const note = (schema: string, { id, name }: Migration): string =>
  `insert into "${schema}".migration (migration_id, name) values (${id}, '${name}') on conflict do nothing`

const isSchema = (statement: string): boolean => statement.startsWith("create schema")

/** A session of the client's pool. */
const sessionOf = (sql: SqlClient.SqlClient, { statementTimeout }: Settings.Values) =>
  reserve(sql, limitOf(sql, statementTimeout))

/** @internal The given migrations that are not applied yet. Does not change the database. */
export const missingOf = Effect.fnUntraced(function*(session: Session, schema: string, all: ReadonlyArray<Migration>) {
  const [found] = yield* session.run<{ there: boolean }>(
    `select exists (
      select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = $1 and c.relname = 'migration'
    ) as there`,
    [schema]
  )
  if (found?.there !== true) return all
  const rows = yield* session.run<{ migration_id: number }>(`select migration_id from "${schema}".migration`)
  const done = new Set(rows.map((row) => row.migration_id))
  return all.filter(({ id }) => !done.has(id))
})

/** The migrations that are not applied yet. */
export const missing: Effect.Effect<
  ReadonlyArray<Migration>,
  SqlError,
  SqlClient.SqlClient | Settings.Settings
> = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const settings = yield* Settings.Settings
  const { schema } = settings
  return yield* Effect.flatMap(sessionOf(sql, settings), (session) => missingOf(session, schema, list(schema)))
}).pipe(Effect.scoped)

/**
 * Fails with {@link DatabaseUnfit} on a database that cannot hold the tables, or whose tables Sluice did not create. Changes
 * nothing.
 */
export const check: Effect.Effect<void, DatabaseUnfit | SqlError, SqlClient.SqlClient | Settings.Settings> = Effect.gen(
  function*() {
    const settings = yield* Settings.Settings
    const session = yield* sessionOf(yield* SqlClient.SqlClient, settings)
    yield* checkTables(session, yield* factsOf(session), settings)
  }
).pipe(Effect.scoped)

/**
 * What {@link run} would do for these migrations, as statements to run manually, one at a time and in this order. They
 * include the notes that mark the migrations as applied, so no program applies them again. Concurrent statements cannot run
 * in a transaction.
 */
export const plan = (schema: string, migrations: ReadonlyArray<Migration>): ReadonlyArray<string> =>
  migrations.length === 0 ? [] : [
    `create schema if not exists "${schema}"`,
    bookkeeping(schema),
    ...migrations.flatMap((migration) => [
      ...migration.statements.filter((statement) => !isSchema(statement)),
      note(schema, migration)
    ])
  ]

/** How long to wait for a second session when the pool or a pooler has none free. */
const timeout = Duration.seconds(10)

const inTime = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>) =>
  within(timeout)(effect).pipe(
    Effect.flatMap(Effect.fromOption),
    Effect.catchTag(
      "NoSuchElementError",
      () => new MigrationFailed({ migration: "", reason: `no connection for ${what} within 10 seconds` })
    )
  )

/** The two sessions of a migration: one holds the lock against other migrators, one runs the statements. */
const sessions = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, settings: Settings.Values) {
  const client = clientOf(sql)
  const session = (what: string) =>
    client === undefined
      ? sessionOf(sql, settings)
      : open(client.config, { name: `effect-sluice ${what}`, limit: settings.statementTimeout })
  const guarding = yield* session("migration guard")
  const working = yield* session("migration")
  return { guarding, working }
})

/** Applies the missing migrations. No other process may migrate meanwhile. */
const apply = Effect.fnUntraced(function*(site: Site, settings: Settings.Values, all: ReadonlyArray<Migration>) {
  const { schema } = settings
  const { session } = site
  const [found] = yield* session.run<{ there: boolean }>(
    "select exists (select from pg_catalog.pg_namespace where nspname = $1) as there",
    [schema]
  )
  if (found?.there !== true) yield* runStatement(site, schema, "", `create schema if not exists "${schema}"`)
  // another process may have created the schema in the meantime
  yield* checkTables(session, yield* factsOf(session), settings)
  yield* runStatement(site, schema, "", bookkeeping(schema))
  const missing = yield* missingOf(session, schema, all)
  for (const migration of missing) {
    for (const statement of [...migration.statements.filter((one) => !isSchema(one)), note(schema, migration)]) {
      yield* runStatement(site, schema, nameOf(migration), statement)
    }
  }
  return missing.map(({ id, name }) => [id, name] as const)
})

const mendSequences = Effect.fnUntraced(function*(session: Session, schema: string) {
  const behind = yield* sequences.behind(session, schema)
  if (behind.length === 0) return
  yield* sequences.mend(session, schema).pipe(Effect.mapError((error) =>
    codeOf(error) === "42501"
      ? new DatabaseUnfit({
        problem: "sequence",
        reason:
          `${sequences.describe(behind)}, and this role may not put it right: let a role that owns the tables run ` +
          "`sluice migrate`"
      })
      : error
  ))
  yield* Effect.logWarning(`corrected: ${sequences.describe(behind)}`)
})

/** @internal {@link run}, with these migrations. */
export const runAll = Effect.fnUntraced(function*(all: ReadonlyArray<Migration>) {
  const sql = yield* SqlClient.SqlClient
  const settings = yield* Settings.Settings
  const { migrationWait, schema } = settings
  if (Option.isSome(yield* Effect.serviceOption(sql.transactionService))) {
    return yield* new MigrationFailed({ migration: "", reason: "migrations cannot be part of a transaction" })
  }
  const looked = yield* Effect.scoped(Effect.gen(function*() {
    const session = yield* sessionOf(sql, settings)
    const facts = yield* factsOf(session)
    yield* checkTables(session, facts, settings)
    const isMissing = (yield* missingOf(session, schema, all).pipe(namingRights(schema, facts))).length > 0
    // otherwise a statement of a migration could fail for what is missing, with a message that says less
    yield* checkComplete(session, schema)
    if (!isMissing && !facts.readOnly) yield* mendSequences(session, schema)
    return { facts, isMissing }
  }))
  if (!looked.isMissing) return []
  if (looked.facts.standby) {
    return yield* new DatabaseUnfit({
      problem: "read-only",
      reason:
        "migrations are missing, and the server is a standby, which is read-only: let its address lead to the primary"
    })
  }
  const wait = Duration.toMillis(migrationWait)
  return yield* Effect.scoped(Effect.gen(function*() {
    // the embedded server has a single session: no other process can migrate
    if (looked.facts.alone) {
      const session = yield* sessionOf(sql, settings)
      return yield* apply({ session, sql: undefined, wait, guarded: Effect.void }, settings, all)
    }
    const { guarding, working } = yield* sessions(sql, settings)
    const pooled = yield* inTime("a second session", isPooledBetween(working, guarding))
    yield* guard(guarding, schema, wait)
    if (!pooled) yield* free(working)
    const applied = yield* inTime("the statements", working.run("select 1")).pipe(
      Effect.andThen(apply({ session: working, sql, wait, guarded: isGuarding(guarding) }, settings, all))
    )
    yield* mendSequences(working, schema)
    return applied
  }))
})

/**
 * Applies the missing migrations and returns them. Recording and workers continue and do not wait for it; it waits for their
 * transactions, at most `SLUICE_MIGRATION_WAIT`, and logs which ones. Of several processes one migrates; the others wait and
 * then have nothing to do. When no migration is missing it only reads, so a program may start without the right to change
 * tables. It also corrects sequences that are behind the numbers in the tables.
 *
 * It works through a pooler in transaction mode. When migrations are missing it opens two connections outside the client's
 * pool. Fails with {@link DatabaseUnfit} before it has changed anything, and with {@link MigrationFailed} when a statement
 * fails: earlier statements stay committed, and the next run continues from there.
 */
export const run: Effect.Effect<
  ReadonlyArray<readonly [id: number, name: string]>,
  MigrationError,
  SqlClient.SqlClient | Settings.Settings
> = Effect.flatMap(Settings.Settings, ({ schema }) => runAll(list(schema)))

/** {@link run} as a layer that other layers can depend on. */
export const layer: Layer.Layer<never, MigrationError, SqlClient.SqlClient | Settings.Settings> = Layer.effectDiscard(
  run
)
