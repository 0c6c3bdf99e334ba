/**
 * Brings Sluice's tables up to date. The migrations are the numbered files in `sql/`, plain SQL that `psql -f` takes as
 * well; which were applied stands in a table of Sluice's own.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as fs from "node:fs/promises"
import * as Settings from "../Settings.ts"

const directory = new URL("../../sql/", import.meta.url)

/** A migration: its number, its name, and its statements for the configured schema. */
export interface Migration {
  readonly id: number
  readonly name: string
  readonly statements: ReadonlyArray<string>
}

/** A statement ends with a semicolon at the end of a line: the driver takes one at a time. */
const statementsOf = (text: string): ReadonlyArray<string> =>
  text
    .replace(/^\s*--.*$/gm, "")
    .split(/;\s*$/m)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "")

/** What can be in no transaction, as it builds or drops an index while others write to the table. */
const isConcurrent = (statement: string): boolean => /^(create|drop) index concurrently /.test(statement)

/** The files are written for the schema `sluice`. Another name is quoted: it may be a word of SQL. */
const inSchema = (text: string, schema: string): string =>
  schema === "sluice"
    ? text
    : text.replaceAll(/\bsluice\./g, `"${schema}".`).replaceAll("exists sluice;", `exists "${schema}";`)

/** All migrations there are, in order, for a Postgres schema. */
export const list = Effect.fnUntraced(function*(schema: string) {
  const names = yield* Effect.promise(() => fs.readdir(directory))
  const files = names.filter((name) => /^\d+_.+\.sql$/.test(name)).sort()
  return yield* Effect.forEach(
    files,
    (file) =>
      Effect.map(Effect.promise(() => fs.readFile(new URL(file, directory), "utf8")), (text): Migration => {
        const [, id = "0", name = file] = /^(\d+)_(.+)\.sql$/.exec(file) ?? []
        return { id: Number(id), name, statements: statementsOf(inSchema(text, schema)) }
      })
  )
})

/** Where it stands which were applied. The migrator makes it like this. */
const bookkeeping = (schema: string): string =>
  `create table if not exists "${schema}".migration (
  migration_id integer primary key,
  created_at timestamp with time zone not null default now(),
  name text not null
)`

/** The numbers of those that were applied. Asks for nothing that changes the database. */
const applied = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, schema: string) {
  const [found] = yield* sql<{ there: boolean }>`select to_regclass(${`"${schema}".migration`}) is not null as there`
  if (found?.there !== true) return new Set<number>()
  const rows = yield* sql<{ migration_id: number }>`select migration_id from ${sql(`${schema}.migration`)}`
  return new Set(rows.map((row) => row.migration_id))
})

/** Those that were not applied yet. */
export const missing: Effect.Effect<
  ReadonlyArray<Migration>,
  SqlError | Settings.SettingInvalid,
  SqlClient.SqlClient
> = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const { schema } = yield* Settings.load
  const done = yield* applied(sql, schema)
  return (yield* list(schema)).filter(({ id }) => !done.has(id))
})

/**
 * What {@link run} would do for these, as statements for somebody else to run in one transaction: with the note that they
 * were applied, so that no program does it again.
 */
export const plan = (schema: string, migrations: ReadonlyArray<Migration>): ReadonlyArray<string> =>
  migrations.length === 0 ? [] : [
    `create schema if not exists "${schema}"`,
    bookkeeping(schema),
    ...migrations.flatMap(({ id, name, statements }) => [
      ...statements.filter((statement) => !statement.startsWith("create schema"))
        .map((statement) => isConcurrent(statement) ? statement.replace(" concurrently", "") : statement),
      `insert into "${schema}".migration (migration_id, name) values (${id}, '${name}')`
    ])
  ]

// Several may create the schema at once; all but one then meet a unique violation and find it there.
const createSchema = (sql: SqlClient.SqlClient, schema: string) =>
  sql.unsafe(`create schema if not exists "${schema}"`).pipe(
    Effect.retry({ times: 3 }),
    Effect.asVoid
  )

/**
 * Applies what is missing, in one transaction and after it the indexes that are built beside others' work, and gives back
 * what was applied. Of several at once one does it, and the
 * others wait and find nothing to do. When nothing is missing it only reads: a program may start without the right to
 * change tables.
 */
export const run: Effect.Effect<
  ReadonlyArray<readonly [id: number, name: string]>,
  Migrator.MigrationError | SqlError | Settings.SettingInvalid,
  SqlClient.SqlClient
> = Effect.gen(function*() {
  if ((yield* missing).length === 0) return []
  const sql = yield* SqlClient.SqlClient
  const { schema } = yield* Settings.load
  yield* createSchema(sql, schema)
  const migrations = yield* list(schema)
  const loader = Migrator.fromRecord(Object.fromEntries(migrations.map(({ id, name, statements }) => [
    `${String(id).padStart(4, "0")}_${name}`,
    Effect.forEach(statements.filter((one) => !isConcurrent(one)), (statement) => sql.unsafe(statement), {
      discard: true
    })
  ])))
  const applied = yield* Migrator.make({})({ loader, table: `${schema}.migration` })
  const ids = new Set(applied.map(([id]) => id))
  const after = migrations.filter(({ id }) => ids.has(id)).flatMap(({ statements }) => statements.filter(isConcurrent))
  yield* Effect.forEach(after, (statement) => sql.unsafe(statement), { discard: true })
  return applied
})

/** {@link run}, as a layer that other layers wait for. */
export const layer: Layer.Layer<
  never,
  Migrator.MigrationError | SqlError | Settings.SettingInvalid,
  SqlClient.SqlClient
> = Layer.effectDiscard(run)
