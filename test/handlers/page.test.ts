/**
 * `docs/handlers.md` shows declared handlers that are run here on every store, and says what each value becomes.
 */
import { describe, it, layer } from "@effect/vitest"
import {
  CallRecorder,
  DeadLetters,
  DomainEvents,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  Settings,
  TableHandler
} from "effect-sluice"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import * as Pglite from "effect-sluice/store/Pglite"
import * as PgStore from "effect-sluice/store/PgStore"
import { exactlyOnce, layerMemory, sampleCall, sampleInput } from "effect-sluice/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlError from "effect/sql/SqlError"
import { readFileSync } from "node:fs"
import { expect } from "vitest"
import * as first from "../../examples/first/persist/patientReply.ts"
import * as declared from "../support/declared.ts"
import { untilEmpty } from "../support/drain.ts"
import * as Postgres from "../support/Postgres.ts"

// docs/handlers.md shows the declarations from here on
class Visit extends Output.make("schemas.clinic.ward.visit", {
  schema: Schema.Struct({
    patient: Schema.String,
    summary: Schema.String,
    drugs: Schema.Array(Schema.Struct({
      name: Schema.String,
      doses: Schema.Array(Schema.Struct({ hour: Schema.Int, milligrams: Schema.Finite }))
    }))
  })
}) {}

const visit = TableHandler.make(Visit, {
  table: "visit",
  object: "clinic.Visit",
  columns: ({ call, output }) => ({
    call_id: call.callId,
    ward: call.context("ward"),
    patient: output.patient,
    summary: output.summary,
    source: "model"
  })
})

const drugs = TableHandler.make(Visit, {
  table: "drug",
  object: "clinic.Drug",
  each: ({ output }) => output.drugs,
  columns: ({ call, item, place }) => ({ call_id: call.callId, place, name: item.name })
})

const doses = TableHandler.make(Visit, {
  table: "dose",
  object: "clinic.Dose",
  each: ({ output }) => output.drugs,
  inner: ({ item }) => item.doses,
  columns: ({ inner, innerPlace, item, place }) => ({
    drug_place: place,
    place: innerPlace,
    drug: item.name,
    hour: inner.hour,
    milligrams: inner.milligrams
  })
})

const visitWithDrugs = TableHandler.make(Visit, {
  table: "stay",
  object: "clinic.Visit",
  columns: ({ output }) => ({ patient: output.patient, summary: output.summary }),
  children: ({ child }) => [
    child({
      table: "stay_drug",
      object: "clinic.Drug",
      each: ({ output }) => output.drugs,
      columns: ({ item, parent, place }) => ({ stay_id: parent, place, name: item.name })
    })
  ]
})

const drugsWithDoses = TableHandler.make(Visit, {
  table: "prescription",
  object: "clinic.Drug",
  each: ({ output }) => output.drugs,
  columns: ({ call, item }) => ({ call_id: call.callId, name: item.name }),
  children: ({ child }) => [
    child({
      table: "prescription_dose",
      object: "clinic.Dose",
      inner: ({ item }) => item.doses,
      columns: ({ inner, parent }) => ({ prescription_id: parent, hour: inner.hour, milligrams: inner.milligrams })
    })
  ]
})

const latestVisit = TableHandler.make(Visit, {
  table: "latest_visit",
  object: "clinic.LatestVisit",
  columns: ({ call, output }) => ({ patient: output.patient, first_seen: call.finishedAt, summary: output.summary }),
  key: ["patient"],
  overwrite: ["summary"]
})

const checkedVisit = TableHandler.make(Visit, {
  table: "checked_visit",
  object: "clinic.CheckedVisit",
  columns: ({ output }) => ({ patient: output.patient, summary: output.summary }),
  maxAttempts: 5,
  retry: Schedule.exponential("10 seconds"),
  // what a check or a foreign key has refused once, it refuses again
  permanent: (error) => SqlError.isSqlError(error) && error.reason._tag === "ConstraintError"
})
// to here

const page = readFileSync(new URL("../../docs/handlers.md", import.meta.url), "utf8")
const source = readFileSync(new URL(import.meta.url), "utf8")

const id = "id bigint generated always as identity primary key"
const tables = [
  `create table visit (${id}, call_id text, ward text, patient text not null, summary text, source text)`,
  `create table drug (${id}, call_id text, place int, name text)`,
  `create table dose (${id}, drug_place int, place int, drug text, hour int, milligrams float8)`,
  `create table stay (${id}, patient text, summary text)`,
  `create table stay_drug (${id}, stay_id bigint not null references stay, place int, name text)`,
  `create table prescription (${id}, call_id text, name text)`,
  `create table prescription_dose (
    ${id}, prescription_id bigint not null references prescription, hour int, milligrams float8
  )`,
  `create table latest_visit (${id}, patient text unique, first_seen timestamptz, summary text)`,
  `create table checked_visit (${id}, patient text, summary text check (summary <> 'second'))`
]

const stores = { memory: () => declared.memory, ...declared.servers }

/** Recorder and drain with one handler. */
const services = <E, R>(handler: Layer.Layer<never, E, R>) =>
  Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
    Layer.provide(HandlerRegistry.layer()),
    Layer.provide(handler),
    Layer.provide(DomainEvents.layer)
  )

/** Records two visits of a patient, and drains them by a handler. Returns the rows of these tables. */
const rowsBy = Effect.fnUntraced(function*(
  handler: TableHandler.Definition<typeof Visit.schema.Type>,
  ...names: ReadonlyArray<string>
) {
  const answer = {
    patient: "p1",
    summary: "first",
    drugs: [
      { name: "iron", doses: [{ hour: 8, milligrams: 20.5 }, { hour: 20, milligrams: 10 }] },
      { name: "zinc", doses: [] }
    ]
  }
  const of = handler.declaration.table
  yield* Effect.gen(function*() {
    yield* declared.record(`${of}-1`, yield* Visit.encode(answer))
    yield* declared.record(`${of}-2`, yield* Visit.encode({ ...answer, summary: "second", drugs: [] }), {
      context: { ward: "w2" }
    })
    yield* untilEmpty
  }).pipe(Effect.provide(Layer.fresh(services(HandlerPlugin.layer("clinic", Visit, handler))), { local: true }))
  return yield* declared.Read.use((read) => Effect.forEach(names, read.rows))
})

it("docs/handlers.md shows declarations of this file, and all of them", () => {
  const blocks = [...page.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, block]) => block ?? "")
  const [, shown = ""] = source.split(/\/\/ docs\/handlers.md shows.*\n|\/\/ to here\n/)
  expect(blocks.map((block) => block.trim()).join("\n\n")).toBe(shown.trim())
})

for (const [name, store] of Object.entries(stores)) {
  const database = store(tables).pipe(Layer.provideMerge(Settings.layer()))
  layer(database, { excludeTestServices: true, timeout: 240_000 })(`what it shows, on ${name},`, (it) => {
    it.effect("is a row for each answer", () =>
      Effect.gen(function*() {
        const [visits] = yield* rowsBy(visit, "visit")
        expect(visits).toEqual([
          { id: 1, call_id: "visit-1", ward: "w1", patient: "p1", summary: "first", source: "model" },
          { id: 2, call_id: "visit-2", ward: "w2", patient: "p1", summary: "second", source: "model" }
        ])
      }))

    it.effect("is a row for each element, and for each within each", () =>
      Effect.gen(function*() {
        const [rows] = yield* rowsBy(drugs, "drug")
        expect(rows).toEqual([
          { id: 1, call_id: "drug-1", place: 1, name: "iron" },
          { id: 2, call_id: "drug-1", place: 2, name: "zinc" }
        ])
        const [within] = yield* rowsBy(doses, "dose")
        expect(within).toEqual([
          { id: 1, drug_place: 1, place: 1, drug: "iron", hour: 8, milligrams: 20.5 },
          { id: 2, drug_place: 1, place: 2, drug: "iron", hour: 20, milligrams: 10 }
        ])
      }))

    it.effect("is rows of two tables", () =>
      Effect.gen(function*() {
        const [stays, ofStays] = yield* rowsBy(visitWithDrugs, "stay", "stay_drug")
        expect(stays).toMatchObject([{ id: 1, summary: "first" }, { id: 2, summary: "second" }])
        expect(ofStays).toEqual([
          { id: 1, stay_id: 1, place: 1, name: "iron" },
          { id: 2, stay_id: 1, place: 2, name: "zinc" }
        ])
        const [all, ofDrugs] = yield* rowsBy(drugsWithDoses, "prescription", "prescription_dose")
        expect(all).toMatchObject([{ id: 1, name: "iron" }, { id: 2, name: "zinc" }])
        expect(ofDrugs).toMatchObject([{ prescription_id: 1, hour: 8 }, { prescription_id: 1, hour: 20 }])
      }))

    it.effect("is a row that is overwritten", () =>
      Effect.gen(function*() {
        const [rows] = yield* rowsBy(latestVisit, "latest_visit")
        expect(rows).toMatchObject([{ id: 1, patient: "p1", summary: "second" }])
      }))

    it.effect("is not tried again where the handler says that this cannot help", () =>
      Effect.gen(function*() {
        const [rows] = yield* rowsBy(checkedVisit, "checked_visit")
        const letters = yield* DeadLetters.DeadLetters.use((dead) => dead.list({}, { limit: 9 }))
        // a table in memory has no checks
        expect([rows?.length, letters.map(({ attempts, key, reason }) => [key.callId, reason, attempts])]).toEqual(
          name === "memory" ? [2, []] : [1, [["checked_visit-2", "rejected", 1]]]
        )
      }))
  })
}

describe.each(["PGlite", "Postgres 18", "Postgres 15"] as const)("what each value becomes, on %s", (name) => {
  const client = (): Layer.Layer<SqlClient.SqlClient, unknown> =>
    name === "PGlite" ? Pglite.layer() : Postgres.layer(name === "Postgres 18" ? 18 : 15)
  const [, table = ""] = page.split(/^## What each value becomes$/m)
  const cases = [...table.matchAll(/^\| .+? \| `(.+?)` \| `(.+?)` \| `(.+?)` \|/gm)].map((
    [, json = "", type = "", text = ""],
    n
  ) => ({
    column: `c${n}`,
    value: JSON.parse(json) as Schema.Json,
    type,
    text
  }))

  class Everything extends Output.make("schemas.clinic.ward.everything", {
    schema: Schema.Record(Schema.String, Schema.Json)
  }) {}

  it.live("is as the page's table says", () =>
    Effect.gen(function*() {
      expect(cases.length).toBeGreaterThan(15)
      const sql = yield* SqlClient.SqlClient
      yield* sql`create type level as enum ('low', 'high')`
      yield* sql.unsafe(
        `create table everything (id serial primary key, ${
          cases.map(({ column, type }) => `${column} ${type}`).join(", ")
        })`
      )
      const answer = Object.fromEntries(cases.map(({ column, value }) => [column, value]))
      yield* declared.record("e-1", yield* Everything.encode(answer))
      expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
      const [row] = yield* sql.withTransaction(Effect.andThen(
        sql`select pg_catalog.set_config('TimeZone', 'UTC', true)`,
        sql.unsafe<Record<string, string | null>>(
          `select ${cases.map(({ column }) => `${column}::text as ${column}`).join(", ")} from everything`
        )
      ))
      expect(cases.map((one) => ({ ...one, text: row?.[one.column] ?? "null" }))).toEqual(cases)
    }).pipe(Effect.provide(
      services(HandlerPlugin.layer(
        "clinic",
        Everything,
        TableHandler.make(Everything, {
          table: "everything",
          object: "clinic.Everything",
          columns: ({ output }) => Object.fromEntries(cases.map(({ column }) => [column, output[column]!]))
        })
      )).pipe(
        Layer.provideMerge(PgStore.layer),
        Layer.provideMerge(client()),
        Layer.provideMerge(Settings.layer())
      )
    )), 240_000)
})

describe("rehearsed", () => {
  const calls = Effect.all([
    sampleCall(Visit, { patient: "p1", summary: "one", drugs: [{ name: "iron", doses: [] }] }, {
      callId: "v-1",
      namespace: "clinic"
    }),
    sampleCall(Visit, { patient: "p2", summary: "two", drugs: [] }, { callId: "v-2", namespace: "clinic" })
  ])
  const registry = HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer("clinic", Visit, visitWithDrugs)))

  it.live("in memory", () =>
    Effect.gen(function*() {
      const rows = (name: string) =>
        MemoryDatabase.MemoryDatabase.use((db) =>
          db.use((access) => access.values(MemoryDatabase.table<Record<string, unknown>>(name)))
        )
      const scenes = yield* exactlyOnce({
        application: layerMemory(registry).pipe(Layer.provideMerge(MemoryDatabase.layer)),
        calls: yield* calls,
        tables: Effect.all([
          Effect.map(rows("stay"), (all) => all.map(({ summary }) => summary)),
          Effect.map(rows("stay_drug"), (all) => all.map(({ name }) => name))
        ])
      })
      expect(scenes).toBeGreaterThan(3)
    }))

  it.live("on Postgres", () =>
    Effect.gen(function*() {
      const made = Layer.effectDiscard(
        Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.forEach(tables, (text) => sql.unsafe(text)))
      )
      const scenes = yield* exactlyOnce({
        application: registry.pipe(
          Layer.provideMerge(PgStore.layer),
          Layer.provideMerge(made),
          Layer.provideMerge(Layer.unwrap(Effect.sync(() => Postgres.layer(18)))),
          Layer.provideMerge(Settings.layer())
        ),
        calls: yield* calls,
        tables: Effect.flatMap(
          SqlClient.SqlClient,
          (sql) => sql`select s.summary, d.name from stay s left join stay_drug d on d.stay_id = s.id order by 1, 2`
        )
      })
      expect(scenes).toBeGreaterThan(3)
    }), 120_000)
})

describe("the first handler, which init writes,", () => {
  class Reply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
    schema: Schema.Struct({ text: Schema.String })
  }) {}

  it.live("makes the same row as the program beside it", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const recorder = yield* CallRecorder.CallRecorder
      const call = yield* sampleCall(Reply, { text: "It hurts." }, { callId: "call-1", namespace: "chatlab" })
      yield* recorder.record(call)
      expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
      const persist = yield* first.program
      const created = yield* persist(sampleInput(Reply, { text: "It hurts." }, { callId: "call-1" }))
      const rows = yield* sql<{ id: number; call_id: string; content: string }>`select * from message order by id`
      expect(rows.map(({ call_id, content }) => [call_id, content])).toEqual([
        ["call-1", "It hurts."],
        ["call-1", "It hurts."]
      ])
      expect(created).toEqual([{ type: "chatlab.Message", id: String(rows[1]?.id) }])
    }).pipe(Effect.provide(
      services(first.patientReply).pipe(
        Layer.provideMerge(PgStore.layer),
        Layer.provideMerge(Layer.unwrap(Effect.sync(() => Postgres.layer(18)))),
        Layer.provideMerge(Settings.layer())
      )
    )))
})
