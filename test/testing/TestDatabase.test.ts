/**
 * Databases for tests that are made once: what each test is given of them, and a handler that is run directly.
 */
import { expect, it, layer } from "@effect/vitest"
import { DomainObject, HandlerRegistry, Output, OutputGroup, Settings } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import { exactlyOnce, runHandler, sampleCall } from "effect-sluice/testing"
import * as TestDatabase from "effect-sluice/testing/TestDatabase"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { SqlClient } from "effect/sql"
import { serverUrl } from "../support/Postgres.ts"

// docs/testing.md shows what is between this line and the next one like it
// ---
class Note extends Output.make("schemas.clinic.ward.note", { schema: Schema.Struct({ text: Schema.String }) }) {}

const Clinic = OutputGroup.make("clinic", Note)

const ClinicHandlers = Clinic.toLayer(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return Clinic.of({
    "note": Effect.fn("Note.persist")(function*({ call, output }) {
      const ward = yield* call.context("ward")
      const rows = yield* sql<{ id: number }>`
        insert into note (ward, content) values (${ward}, ${output.text}) returning id`
      return rows.map(({ id }) => DomainObject.make("clinic.Note", id))
    })
  })
}))

const options = {
  /** The application's tables, made once. */
  setup: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`create table ward (name text primary key)`
    yield* sql`create table note (id serial primary key, ward text not null references ward, content text not null)`
  }),
  /** The rows each test begins with. */
  seed: Effect.flatMap(SqlClient.SqlClient, (sql) => sql`insert into ward (name) values ('east')`)
}

const database = TestDatabase.layerPglite(options).pipe(Layer.provide(Settings.layer()))
const notes = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select ward, content from note order by id`)

layer(database, { excludeTestServices: true, timeout: 60_000 })("on the embedded database", (it) => {
  it.effect("a handler is run directly", () =>
    Effect.gen(function*() {
      const { empty } = yield* TestDatabase.TestDatabase
      yield* Effect.gen(function*() {
        const created = yield* runHandler(Clinic, Note, { text: "slept well" }, { context: { ward: "east" } })
        expect(created).toEqual([{ type: "clinic.Note", id: "1" }])
        expect(yield* notes).toEqual([{ ward: "east", content: "slept well" }])
      }).pipe(Effect.provide(ClinicHandlers), Effect.provide(empty))
    }), 30_000)

  it.effect("and rehearsed", () =>
    Effect.gen(function*() {
      const { empty } = yield* TestDatabase.TestDatabase
      yield* exactlyOnce({
        application: HandlerRegistry.layer(Clinic).pipe(
          Layer.provide(ClinicHandlers),
          Layer.provideMerge(PgStore.layer),
          Layer.provideMerge(empty)
        ),
        calls: [yield* sampleCall(Note, { text: "slept well" }, { context: { ward: "east" } })],
        tables: notes
      })
    }), 60_000)
})
// ---

let setups = 0
const counted = { ...options, setup: Effect.tap(options.setup, () => Effect.sync(() => void setups++)) }

const both = {
  "the embedded database": TestDatabase.layerPglite(counted),
  "a server": Layer.unwrap(
    Effect.sync(() => TestDatabase.layerServer({ ...counted, url: Redacted.make(serverUrl(18)) }))
  )
}

for (const [name, database] of Object.entries(both)) {
  const settled = Layer.provide(database, Settings.layer())
  layer(settled, { excludeTestServices: true, timeout: 60_000 })(`a test on ${name}`, (it) => {
    it.effect("finds what setup and seed left, whatever the one before it did", () =>
      Effect.gen(function*() {
        const { empty } = yield* TestDatabase.TestDatabase
        const before = setups
        for (const text of ["one", "two"]) {
          yield* Effect.gen(function*() {
            const sql = yield* SqlClient.SqlClient
            expect(yield* notes).toEqual([])
            expect(yield* sql`select name from ward`).toEqual([{ name: "east" }])
            // Sluice's tables are there, and as new
            expect(yield* sql`select nextval('sluice.chunk_seq')::text as seq`).toEqual([{ seq: "1" }])
            expect(yield* sql`select 1 as one from sluice.subscription_log`).toHaveLength(1)
            yield* sql`insert into sluice.worker (id, serves) values (${text}, '[]')`
            const created = yield* runHandler(Clinic, Note, { text }, { context: { ward: "east" } })
            expect(created).toEqual([{ type: "clinic.Note", id: "1" }])
          }).pipe(
            Effect.provide(Layer.fresh(Layer.provideMerge(ClinicHandlers, empty)), { local: true })
          )
        }
        expect(setups).toBe(before)
      }), 30_000)

    it.effect("and one at the same time does not see it", () =>
      Effect.gen(function*() {
        const { empty } = yield* TestDatabase.TestDatabase
        const one = (text: string) =>
          Effect.gen(function*() {
            yield* runHandler(Clinic, Note, { text }, { context: { ward: "east" } })
            yield* Effect.sleep("20 millis")
            return (yield* notes).map(({ content }) => content)
          }).pipe(Effect.provide(Layer.fresh(Layer.provideMerge(ClinicHandlers, empty)), { local: true }))
        expect(yield* Effect.all([one("a"), one("b")], { concurrency: 2 })).toEqual([["a"], ["b"]])
      }), 30_000)
  })
}

it.live("nothing is left on the server", () =>
  Effect.gen(function*() {
    const { PgClient } = yield* Effect.promise(() => import("@effect/sql-pg"))
    const url = Redacted.make(serverUrl(18))
    const sql = Context.get(yield* Layer.build(PgClient.layer({ url, maxConnections: 1 })), SqlClient.SqlClient)
    const databases = sql`select datname from pg_database where datname like 'sluice_test_%'`
    const before = yield* databases
    yield* Effect.gen(function*() {
      const { empty } = yield* TestDatabase.TestDatabase
      yield* Effect.provide(notes, Layer.fresh(empty), { local: true })
      expect((yield* databases).length).toBeGreaterThan(before.length)
    }).pipe(
      Effect.provide(Layer.fresh(TestDatabase.layerServer({ ...options, url })).pipe(Layer.provide(Settings.layer())), {
        local: true
      })
    )
    expect(yield* databases).toEqual(before)
  }).pipe(Effect.scoped), 30_000)

it.effect("a handler that is run directly fails as it does, and its value must be one of its output", () =>
  Effect.gen(function*() {
    const handlers = Clinic.toLayer(Effect.succeed(Clinic.of({
      "note": { persistMany: (inputs) => Effect.forEach(inputs, ({ call }) => Effect.as(call.context("ward"), [])) }
    })))
    const error = yield* Effect.flip(Effect.provide(runHandler(Clinic, Note, { text: "a" }), handlers))
    expect(error).toMatchObject({ _tag: "ContextMissing", key: "ward" })
    const wrong = { text: 1 } as unknown as { readonly text: string }
    expect(yield* Effect.flip(Effect.provide(runHandler(Clinic, Note, wrong), handlers))).toMatchObject({
      _tag: "SchemaError"
    })
  }))
