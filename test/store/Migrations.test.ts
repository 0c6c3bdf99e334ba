/**
 * The tables: made by several at once, by hand, under another name; and made again without harm.
 */
import { it } from "@effect/vitest"
import { ChunkStore, DeadLetters, Retention, Settings } from "effect-sluice"
import * as Migrations from "effect-sluice/store/Migrations"
import * as PgStore from "effect-sluice/store/PgStore"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import path from "node:path"
import { describe, expect } from "vitest"
import { call, record, settle, statesOf } from "../contract/operators/dialogues.ts"
import * as inspect from "../support/inspect.ts"
import { client, freshDatabase } from "../support/Postgres.ts"
import { startScript } from "../support/programs.ts"

const folder = path.resolve(import.meta.dirname, "../../sql")

const tables = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql<{ name: string }>`
      select table_schema || '.' || table_name as name from information_schema.tables
      where table_schema not in ('pg_catalog', 'information_schema') order by 1`,
    (rows) => rows.map((row) => row.name)
  ))

/** Everything about the tables that matters. */
const shape = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.all([
    sql`select table_name, column_name, data_type, column_default, is_nullable, collation_name
      from information_schema.columns where table_schema = 'sluice' and table_name <> 'migration' order by 1, 2`,
    sql`select indexname, indexdef from pg_indexes where schemaname = 'sluice' and tablename <> 'migration' order by 1`,
    sql`select c.relname, c.reloptions, pg_get_constraintdef(k.oid) as check
      from pg_class c left join pg_constraint k on k.conrelid = c.oid
      where c.relnamespace = 'sluice'::regnamespace and c.relkind in ('r', 'S') and c.relname <> 'migration'
      order by 1, 3`
  ]))

const files = readdirSync(folder).filter((file) => file.endsWith(".sql")).sort()
const hasPsql = spawnSync("psql", ["--version"]).status === 0

/** Runs the files as a person does, or, where there is no psql, statement by statement as it does. */
const byHand = Effect.fnUntraced(function*(url: string) {
  const sql = yield* SqlClient.SqlClient
  for (const file of files.map((name) => path.join(folder, name))) {
    if (hasPsql) {
      const done = spawnSync("psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, url], { encoding: "utf8" })
      expect([done.status, done.stderr.split("\n").filter((line) => !line.includes("NOTICE"))]).toEqual([0, [""]])
      continue
    }
    for (const statement of readFileSync(file, "utf8").split(/;\s*$/m)) {
      if (statement.trim() !== "") yield* sql.unsafe(statement)
    }
  }
})

const onFresh = <A, E>(test: (url: string) => Effect.Effect<A, E, SqlClient.SqlClient | Settings.Settings>) =>
  Effect.scoped(Effect.flatMap(freshDatabase(), (url) => Effect.provide(test(url), client(url))))

describe("migrations", () => {
  it.live("five at once: one does it, and the others wait and find nothing to do", () =>
    onFresh((url) =>
      Effect.gen(function*() {
        const start = Effect.provide(Migrations.run, Layer.fresh(client(url)), { local: true })
        const applied = yield* Effect.all([start, start, start, start, start], { concurrency: "unbounded" })
        expect(applied.flat()).toHaveLength(files.length)
        expect(yield* Migrations.run).toEqual([])
        expect(yield* tables).toContain("sluice.persisted_chunk")
      })
    ))

  it.live("by somebody else, from the plan: nothing is missing afterwards, and the tables are the same", () =>
    Effect.gen(function*() {
      const byMigrator = yield* onFresh(() => Effect.andThen(Migrations.run, shape))
      const byPlan = yield* onFresh(() =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const statements = Migrations.plan("sluice", yield* Migrations.missing)
          for (const statement of statements) yield* sql.unsafe(statement)
          expect(yield* Migrations.missing).toEqual([])
          expect(yield* Migrations.run).toEqual([])
          expect(Migrations.plan("sluice", [])).toEqual([])
          return yield* shape
        })
      )
      expect(byPlan).toEqual(byMigrator)
    }))

  it.live("when nothing is missing a program needs no right to change tables", () =>
    onFresh((url) =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* Migrations.run
        const role = `reader_${new URL(url).pathname.slice(1)}`
        yield* sql.unsafe(`create role ${role} login`)
        yield* sql.unsafe(`grant usage on schema sluice to ${role}`)
        yield* sql.unsafe(`grant select, insert, update, delete on all tables in schema sluice to ${role}`)
        yield* sql.unsafe(`grant usage on all sequences in schema sluice to ${role}`)
        const as = new URL(url)
        as.username = role
        const start = Layer.build(Layer.fresh(PgStore.layer).pipe(Layer.provideMerge(Layer.fresh(client(as.href)))))
        yield* Effect.scoped(start).pipe(Effect.ensuring(Effect.ignore(
          sql.unsafe(`drop owned by ${role}`).pipe(Effect.andThen(sql.unsafe(`drop role ${role}`)))
        )))
      })
    ))

  it.live("five processes at once: each finds the tables, and one of them has made them", () =>
    onFresh((url) =>
      Effect.gen(function*() {
        const five = Array.from({ length: 5 }, () => startScript(path.join(import.meta.dirname, "migrator.ts"), url))
        const ready = yield* Effect.promise(() => Promise.all(five.map(({ first }) => first)))
        expect(new Set(ready)).toEqual(new Set(["ready"]))
        for (const { child } of five) child.stdin.write("go\n")
        const ends = yield* Effect.promise(() => Promise.all(five.map(({ ended }) => ended)))
        const all = JSON.stringify(files.map((file) => [Number(file.slice(0, 4)), file.slice(5, -4)]))
        expect(ends.map(([, applied]) => applied).sort()).toEqual(["[]", "[]", "[]", "[]", all].sort())
        expect(yield* tables).toContain("sluice.persisted_chunk")
      })
    ))

  it.live(
    `by hand, ${hasPsql ? "with psql -f" : "as psql -f would (there is no psql here)"}, the tables are the same; ` +
      `and again without harm`,
    () =>
      Effect.gen(function*() {
        const byMigrator = yield* onFresh(() => Effect.andThen(Migrations.run, shape))
        const made = yield* onFresh((url) =>
          Effect.gen(function*() {
            yield* byHand(url)
            yield* byHand(url)
            const found = yield* shape
            // a program that starts now finds them, and notes that they are there
            expect(yield* Migrations.run).toHaveLength(files.length)
            expect(yield* shape).toEqual(found)
            return found
          })
        )
        expect(made).toEqual(byMigrator)
        expect(made.flat().length).toBeGreaterThan(50)
      })
  )

  // the last ones are words of SQL
  for (const schema of ["clinic_queue", "user", "order", "table", "select"]) {
    it.live(`in a schema named ${schema}, where all goes its way`, () =>
      onFresh(() =>
        Effect.gen(function*() {
          const found = yield* tables
          expect(found).toContain(`${schema}.chunk_queue`)
          expect(found.filter((name) => name.startsWith("sluice"))).toEqual([])
          yield* record(call("a"), call("b", { orderingKey: "knee" }), call("c"))
          expect(yield* settle(({ key }) => key.callId === "c" ? { dead: "exhausted" } : "persisted")).toHaveLength(3)
          expect(yield* statesOf("a")).toEqual(["persisted"])
          const store = yield* ChunkStore.ChunkStore
          yield* store.beat("worker", [])
          expect(yield* (yield* DeadLetters.DeadLetters).redrive({})).toBe(1)
          expect((yield* inspect.status).map((kind) => kind.ready)).toEqual([1])
          yield* (yield* Retention.Retention).prune({ payloads: Duration.days(1), discarded: Duration.days(1) })
          // and again: there is nothing to do
          expect(yield* Migrations.run).toEqual([])
          const plan = Migrations.list(schema).flatMap((migration) => migration.statements)
          const sql = yield* SqlClient.SqlClient
          for (const statement of plan) yield* sql.unsafe(statement)
        }).pipe(Effect.provide(PgStore.layer), Effect.provide(Settings.layer({ schema })))
      ))
  }

  it.live("a name that is none, or that Postgres keeps for itself, is refused by the setting's name", () =>
    onFresh(() =>
      Effect.gen(function*() {
        for (const name of ["x; drop table y", "pg_foo", "information_schema"]) {
          const env = ConfigProvider.layer(ConfigProvider.fromEnv({ env: { SLUICE_SCHEMA: name } }))
          const settings = Layer.fresh(Settings.layer()).pipe(Layer.provide(env))
          const error = yield* Effect.flip(Effect.provide(Migrations.run, settings))
          expect(error).toMatchObject({ _tag: "ConfigError", setting: "SLUICE_SCHEMA" })
        }
        expect(yield* tables).toEqual([])
      })
    ))
})
