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

// Several may create the schema at once; all but one then meet a unique violation and find it there.
const createSchema = (sql: SqlClient.SqlClient, schema: string) =>
  sql.unsafe(`create schema if not exists "${schema}"`).pipe(
    Effect.retry({ times: 3 }),
    Effect.asVoid
  )

/**
 * Applies what is missing, in one transaction, and gives back what was applied. Of several at once one does it, and the
 * others wait and find nothing to do.
 */
export const run: Effect.Effect<
  ReadonlyArray<readonly [id: number, name: string]>,
  Migrator.MigrationError | SqlError | Settings.SettingInvalid,
  SqlClient.SqlClient
> = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const { schema } = yield* Settings.load
  yield* createSchema(sql, schema)
  const migrations = yield* list(schema)
  const loader = Migrator.fromRecord(Object.fromEntries(migrations.map(({ id, name, statements }) => [
    `${String(id).padStart(4, "0")}_${name}`,
    Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
  ])))
  return yield* Migrator.make({})({ loader, table: `${schema}.migration` })
})

/** {@link run}, as a layer that other layers wait for. */
export const layer: Layer.Layer<
  never,
  Migrator.MigrationError | SqlError | Settings.SettingInvalid,
  SqlClient.SqlClient
> = Layer.effectDiscard(run)
