/**
 * `docs/handlers.md` shows declared handlers that are run here on every store, and says what each value becomes.
 */
import { describe, it } from "@effect/vitest"
import {
  CallRecorder,
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
import * as TestDatabase from "effect-sluice/testing/TestDatabase"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
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
  table: "visit",
  object: "clinic.Visit",
  columns: ({ output }) => ({ patient: output.patient, summary: output.summary }),
  children: ({ child }) => [
    child({
      table: "drug",
      object: "clinic.Drug",
      each: ({ output }) => output.drugs,
      columns: ({ item, parent, place }) => ({ visit_id: parent, place, name: item.name })
    })
  ]
})

const drugsWithDoses = TableHandler.make(Visit, {
  table: "drug",
  object: "clinic.Drug",
  each: ({ output }) => output.drugs,
  columns: ({ call, item }) => ({ call_id: call.callId, name: item.name }),
  children: ({ child }) => [
    child({
      table: "dose",
      object: "clinic.Dose",
      inner: ({ item }) => item.doses,
      columns: ({ inner, parent }) => ({ drug_id: parent, hour: inner.hour, milligrams: inner.milligrams })
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
// to here

const page = readFileSync(new URL("../../docs/handlers.md", import.meta.url), "utf8")
const source = readFileSync(new URL(import.meta.url), "utf8")

const tables = [
  `create table visit (
    id bigint generated always as identity primary key, call_id text, ward text, patient text not null, summary text, source text
  )`,
  `create table drug (
    id bigint generated always as identity primary key, visit_id bigint references visit, call_id text, place int, name text
  )`,
  `create table dose (
    id bigint generated always as identity primary key, drug_id bigint references drug, drug_place int, place int, drug text,
    hour int, milligrams float8
  )`,
  `create table latest_visit (
    id bigint generated always as identity primary key, patient text unique, first_seen timestamptz, summary text
  )`
]

const stores = {
  memory: () => declared.memory,
  PGlite: () => declared.servers.PGlite(tables),
  "Postgres 18": () => declared.servers["Postgres 18"](tables),
  "Postgres 15": () => declared.servers["Postgres 15"](tables)
}

/** Records two visits, of which the second is of the same patient, and drains them by a handler. Returns the rows of tables. */
const rowsBy = (
  store: declared.Store,
  handler: TableHandler.Definition<typeof Visit.schema.Type>,
  ...names: ReadonlyArray<string>
) =>
  Effect.gen(function*() {
    const answer = {
      patient: "p1",
      summary: "first",
      drugs: [
        { name: "iron", doses: [{ hour: 8, milligrams: 20.5 }, { hour: 20, milligrams: 10 }] },
        { name: "zinc", doses: [] }
      ]
    }
    yield* declared.record("v-1", yield* Visit.encode(answer))
    yield* declared.record("v-2", yield* Visit.encode({ ...answer, summary: "second", drugs: [] }), {
      context: { ward: "w2" }
    })
    yield* untilEmpty
    return yield* declared.Read.use((read) => Effect.forEach(names, read.rows))
  }).pipe(Effect.provide(
    Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
      Layer.provide(HandlerRegistry.layer()),
      Layer.provide(HandlerPlugin.layer("clinic", Visit, handler)),
      Layer.provide(DomainEvents.layer),
      Layer.provideMerge(store),
      Layer.provideMerge(Settings.layer())
    )
  ))

it("docs/handlers.md shows declarations of this file, and all of them", () => {
  const blocks = [...page.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, block]) => block ?? "")
  const [, shown = ""] = source.split(/\/\/ docs\/handlers.md shows.*\n|\/\/ to here\n/)
  expect(blocks.map((block) => block.trim()).join("\n\n")).toBe(shown.trim())
})

describe.each(Object.entries(stores))("what it shows, on %s", (_, store) => {
  it.live("is a row for each answer", () =>
    Effect.gen(function*() {
      const [visits] = yield* rowsBy(store(), visit, "visit")
      expect(visits).toEqual([
        { id: 1, call_id: "v-1", ward: "w1", patient: "p1", summary: "first", source: "model" },
        { id: 2, call_id: "v-2", ward: "w2", patient: "p1", summary: "second", source: "model" }
      ])
    }))

  it.live("is a row for each element, and for each within each", () =>
    Effect.gen(function*() {
      const [rows] = yield* rowsBy(store(), drugs, "drug")
      expect(rows).toMatchObject([
        { id: 1, call_id: "v-1", place: 1, name: "iron" },
        { id: 2, call_id: "v-1", place: 2, name: "zinc" }
      ])
      const [within] = yield* rowsBy(store(), doses, "dose")
      expect(within).toMatchObject([
        { id: 1, drug_place: 1, place: 1, drug: "iron", hour: 8, milligrams: 20.5 },
        { id: 2, drug_place: 1, place: 2, drug: "iron", hour: 20, milligrams: 10 }
      ])
    }))

  it.live("is rows of two tables", () =>
    Effect.gen(function*() {
      const [visits, ofVisits] = yield* rowsBy(store(), visitWithDrugs, "visit", "drug")
      expect(visits).toMatchObject([{ id: 1, summary: "first" }, { id: 2, summary: "second" }])
      expect(ofVisits).toMatchObject([{ visit_id: 1, place: 1, name: "iron" }, { visit_id: 1, place: 2, name: "zinc" }])
      const [all, ofDrugs] = yield* rowsBy(store(), drugsWithDoses, "drug", "dose")
      expect(all).toMatchObject([{ id: 1, name: "iron" }, { id: 2, name: "zinc" }])
      expect(ofDrugs).toMatchObject([{ drug_id: 1, hour: 8 }, { drug_id: 1, hour: 20 }])
    }))

  it.live("is a row that is overwritten", () =>
    Effect.gen(function*() {
      const [rows] = yield* rowsBy(store(), latestVisit, "latest_visit")
      expect(rows).toMatchObject([{ id: 1, patient: "p1", summary: "second" }])
    }))
})

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
      Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
        Layer.provide(HandlerRegistry.layer()),
        Layer.provide(HandlerPlugin.layer(
          "clinic",
          Everything,
          TableHandler.make(Everything, {
            table: "everything",
            object: "clinic.Everything",
            columns: ({ output }) => Object.fromEntries(cases.map(({ column }) => [column, output[column]!]))
          })
        )),
        Layer.provide(DomainEvents.layer),
        Layer.provideMerge(PgStore.layer),
        Layer.provideMerge(client()),
        Layer.provideMerge(Settings.layer())
      )
    )))
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
          Effect.map(rows("visit"), (all) => all.map(({ summary }) => summary)),
          Effect.map(rows("drug"), (all) => all.map(({ name }) => name))
        ])
      })
      expect(scenes).toBeGreaterThan(3)
    }))

  it.live("on the embedded database", () =>
    Effect.gen(function*() {
      const { empty } = yield* TestDatabase.TestDatabase
      const scenes = yield* exactlyOnce({
        application: registry.pipe(Layer.provideMerge(PgStore.layer), Layer.provideMerge(empty)),
        calls: yield* calls,
        tables: Effect.flatMap(SqlClient.SqlClient, (sql) =>
          sql`select v.summary, d.name from visit v left join drug d on d.visit_id = v.id order by 1, 2`)
      })
      expect(scenes).toBeGreaterThan(3)
    }).pipe(Effect.provide(
      TestDatabase.layerPglite({
        setup: Effect.flatMap(SqlClient.SqlClient, (sql) =>
          Effect.forEach(tables, (text) => sql.unsafe(text)))
      }).pipe(Layer.provide(Settings.layer()))
    )))
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
      Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
        Layer.provide(HandlerRegistry.layer()),
        Layer.provide(first.patientReply),
        Layer.provide(DomainEvents.layer),
        Layer.provideMerge(PgStore.layer),
        Layer.provideMerge(Pglite.layer()),
        Layer.provideMerge(Settings.layer())
      )
    )))
})
