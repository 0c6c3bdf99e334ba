/**
 * The tables: made by several at once, by hand, under another name; and made again without harm.
 */
import { it } from "@effect/vitest"
import { Settings } from "effect-sluice"
import * as Migrations from "effect-sluice/store/Migrations"
import * as PgStore from "effect-sluice/store/PgStore"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { readdirSync, readFileSync } from "node:fs"
import path from "node:path"
import { describe, expect } from "vitest"
import { client, freshDatabase } from "../support/Postgres.ts"

const folder = path.resolve(import.meta.dirname, "../../sql")

const tables = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql<{ name: string }>`
      select table_schema || '.' || table_name as name from information_schema.tables
      where table_schema not in ('pg_catalog', 'information_schema') order by 1`,
    (rows) => rows.map((row) => row.name)
  ))

/** Everything about the tables that matters, without the names of schemas. */
const shape = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  sql`
    select table_name, column_name, data_type, column_default, is_nullable from information_schema.columns
    where table_schema = 'sluice' and table_name <> 'migration' order by 1, 2`)

const onFresh = <A, E>(test: (url: string) => Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.scoped(Effect.flatMap(freshDatabase(), (url) => Effect.provide(test(url), client(url))))

describe("migrations", () => {
  it.live("five at once: one does it, and the others wait and find nothing to do", () =>
    onFresh((url) =>
      Effect.gen(function*() {
        const start = Effect.provide(Migrations.run, Layer.fresh(client(url)), { local: true })
        const applied = yield* Effect.all([start, start, start, start, start], { concurrency: "unbounded" })
        const count = readdirSync(folder).filter((file) => file.endsWith(".sql")).length
        expect(applied.flat()).toHaveLength(count)
        expect(yield* Migrations.run).toEqual([])
        expect(yield* tables).toContain("sluice.persisted_chunk")
      })
    ))

  it.live("by hand, as psql takes the files, the tables are the same; and again without harm", () =>
    Effect.gen(function*() {
      const byMigrator = yield* onFresh(() => Effect.andThen(Migrations.run, shape))
      const byHand = yield* onFresh(() =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          for (let time = 0; time < 2; time++) {
            for (const file of readdirSync(folder).sort()) {
              for (const statement of readFileSync(path.join(folder, file), "utf8").split(/;\s*$/m)) {
                if (statement.trim() !== "") yield* sql.unsafe(statement)
              }
            }
          }
          const found = yield* shape
          // a program that starts now finds them, and notes that they are there
          yield* Migrations.run
          return found
        })
      )
      expect(byHand).toEqual(byMigrator)
    }))

  it.live("in a schema of another name", () =>
    onFresh(() =>
      Effect.gen(function*() {
        yield* Effect.scoped(Layer.build(PgStore.layer.pipe(Layer.provide(Settings.layer({ schema: "clinic_queue" })))))
        const found = yield* tables
        expect(found).toContain("clinic_queue.chunk_queue")
        expect(found.filter((name) => name.startsWith("sluice"))).toEqual([])
      })
    ))

  it.live("a name that is none is refused by the setting's name", () =>
    onFresh(() =>
      Effect.gen(function*() {
        const env = ConfigProvider.layer(ConfigProvider.fromEnv({ env: { SLUICE_SCHEMA: "x; drop table y" } }))
        const error = yield* Effect.flip(Effect.provide(Migrations.run, env))
        expect(error).toMatchObject({ _tag: "SettingInvalid", setting: "SLUICE_SCHEMA" })
        expect(yield* tables).toEqual([])
      })
    ))
})
