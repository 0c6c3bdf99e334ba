/**
 * Declared handlers that write rows of several tables: the same on every store, and what becomes of answers and tables that
 * do not fit.
 */
import { describe, expect, it, layer } from "@effect/vitest"
import { ChunkStore, Inspector, TableHandler } from "effect-sluice"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as declared from "./support/declared.ts"
import { record } from "./support/declared.ts"
import { chunkOf, untilEmpty } from "./support/drain.ts"
import * as reports from "./support/reports.ts"
import { answer, Panels, Report, Values } from "./support/reports.ts"

const rows = (name: string) => declared.Read.use((read) => read.rows(name))
/** The rows of a table that are of these calls, by the column that names the call or its row. */
const rowsOf = (name: string, column: string, ...of: ReadonlyArray<unknown>) =>
  Effect.map(rows(name), (all) => all.filter((row) => of.includes(row[column])))
/** The ledger's rows of a call. */
const objectsOf = (schemaIdentity: string, callId: string) =>
  ChunkStore.ChunkStore.use((store) =>
    Effect.map(store.ledger([{ callId, schemaIdentity, part: "" }]), ([line]) => line?.objects ?? [])
  )
const named = (type: string, some: ReadonlyArray<Readonly<Record<string, unknown>>>, id = "id") =>
  some.map((row) => ({ type, id: String(row[id]) }))

type Application = Layer.Success<ReturnType<typeof reports.application>>

for (const [name, store] of Object.entries({ memory: () => declared.memory, ...declared.servers })) {
  layer(reports.application(store(reports.tables)), { timeout: 240_000, excludeTestServices: true })(
    `on ${name}`,
    (it) => {
      it.effect("a row for each answer and the rows of its children, which have its id", () =>
        Effect.gen(function*() {
          yield* record("r-1", yield* Report.encode(answer("p1")))
          yield* record("r-2", yield* Report.encode({ patient: "p2", panels: [] }))
          yield* record("r-3", yield* Report.encode(answer("p1")), { context: { ward: "w3" } })
          expect(yield* untilEmpty).toMatchObject({ claimed: 3, persisted: 3 })
          expect(yield* rows("report")).toEqual([
            { number: "r-1", patient: "p1" },
            { number: "r-2", patient: "p2" },
            { number: "r-3", patient: "p1" }
          ])
          const panels = yield* rows("report_panel")
          const names = ["blood", "urine", "blood", "skin", "hair"]
          expect(panels).toEqual(["r-1", "r-3"].flatMap((number) =>
            names.map((name, index) => ({
              id: expect.anything(),
              call_id: number,
              report: number,
              place: index + 1,
              name
            }))
          ))
          const values = yield* rows("report_value")
          expect(values).toEqual(["r-1", "r-3"].flatMap((report) => [
            { id: expect.anything(), report, place: 1, inner_place: 1, panel: "blood", code: "Fe", level: 12.5 },
            { id: expect.anything(), report, place: 1, inner_place: 2, panel: "blood", code: "Zn", level: null },
            { id: expect.anything(), report, place: 3, inner_place: 1, panel: "blood", code: "Fe", level: 13 }
          ]))
          // overwritten by the third report
          const latest = yield* rows("latest_report")
          expect(latest).toMatchObject([
            { patient: "p1", report: "r-3", ward: "w3" },
            { patient: "p2", report: "r-2", ward: "w1", panels: [] }
          ])
          // the ledger has the parent before its children
          expect(yield* objectsOf(Report.identity, "r-3")).toEqual([
            { type: "clinic.Report", id: "r-3" },
            ...named("clinic.Panel", panels.slice(5)),
            ...named("clinic.Value", values.slice(3)),
            ...named("clinic.LatestReport", latest.slice(0, 1))
          ])
          expect(yield* objectsOf(Report.identity, "r-2")).toEqual([
            { type: "clinic.Report", id: "r-2" },
            ...named("clinic.LatestReport", latest.slice(1))
          ])
        }))

      it.effect("a row for each element and the rows of its children, which have that element's id", () =>
        Effect.gen(function*() {
          yield* record("e-1", yield* Panels.encode(answer("p1")))
          yield* record("e-2", yield* Panels.encode({ patient: "p2", panels: [] }))
          yield* record("e-3", yield* Panels.encode(answer("p3")))
          expect(yield* untilEmpty).toMatchObject({ claimed: 3, persisted: 2, nothingToCreate: 1 })
          for (const [callId, patient] of [["e-1", "p1"], ["e-3", "p3"]] as const) {
            const panels = (yield* rowsOf("panel", "call_id", callId)).toSorted((a, b) =>
              Number(a.place) - Number(b.place)
            )
            expect(panels.map(({ name }) => name)).toEqual(["blood", "urine", "blood", "skin", "hair"])
            const ids = panels.map(({ id }) => id)
            const values = yield* rowsOf("panel_value", "panel", ...ids)
            expect(values.map(({ code, panel, place }) => [panel, place, code])).toEqual([
              [ids[0], 1, "Fe"],
              [ids[0], 2, "Zn"],
              [ids[2], 1, "Fe"]
            ])
            const signs = yield* rowsOf("panel_sign", "panel", ...ids)
            expect(signs.map(({ panel, ...row }) => [panel, { ...row, id: 0 }])).toEqual(
              ids.map((id, index) => [id, { id: 0, place: index + 1, patient, signed: false }])
            )
            expect(yield* objectsOf(Panels.identity, callId)).toEqual([
              ...named("clinic.Panel", panels),
              ...named("clinic.Value", values),
              ...named("clinic.Sign", signs)
            ])
          }
        }))

      it.effect("a row for each element within each element", () =>
        Effect.gen(function*() {
          yield* record("v-1", yield* Values.encode(answer("p1")))
          yield* record("v-2", yield* Values.encode({ patient: "p2", panels: [{ name: "skin" }] }))
          yield* record("v-3", yield* Values.encode(answer("p3")))
          expect(yield* untilEmpty).toMatchObject({ claimed: 3, persisted: 2, nothingToCreate: 1 })
          const values = yield* rows("loose_value")
          const of = (call_id: string, patient: string) => [
            { call_id, place: 1, inner_place: 1, patient, panel: "blood", code: "Fe", level: 12.5 },
            { call_id, place: 1, inner_place: 2, patient, panel: "blood", code: "Zn", level: null },
            { call_id, place: 3, inner_place: 1, patient, panel: "blood", code: "Fe", level: 13 }
          ]
          expect(values).toMatchObject([...of("v-1", "p1"), ...of("v-3", "p3")])
          expect(yield* objectsOf(Values.identity, "v-1")).toEqual(named("clinic.Value", values.slice(0, 3)))
          expect(yield* objectsOf(Values.identity, "v-3")).toEqual(named("clinic.Value", values.slice(3)))
        }))
    }
  )
}

describe.each(["Postgres 18", "Postgres 15"] as const)("on %s", (name) => {
  const runOn = (more: ReadonlyArray<string>, test: Effect.Effect<void, unknown, Application>) =>
    Effect.provide(test, reports.application(declared.servers[name]([...reports.tables, ...more])))

  it.live("an answer with a row that a child's table refuses dies alone, without a row in any table", () =>
    runOn(
      [],
      Effect.gen(function*() {
        for (const id of ["a", "b", "c"]) {
          const given = answer(id)
          const panels = id === "b" ? [{ name: "blood", values: [{ code: "far too long", level: 1 }] }] : given.panels
          yield* record(id, yield* Report.encode({ ...given, panels }))
        }
        expect(yield* untilEmpty).toMatchObject({ claimed: 3, persisted: 2, dead: 1 })
        expect(yield* chunkOf("b")).toMatchObject({ state: "dead", attempts: 1, death: { reason: "exhausted" } })
        expect(JSON.stringify(yield* chunkOf("b"))).toContain("character varying(8)")
        expect((yield* rows("report")).map(({ number }) => number)).toEqual(["a", "c"])
        expect(yield* rowsOf("report_panel", "call_id", "b")).toEqual([])
      })
    ))

  it.live.each([
    ["the table", "drop table report_value", "table report_value", "there is no such table"],
    ["a column", "alter table report_value drop code", "table report_value", "it has no column \"code\""],
    [
      "the unique key",
      "alter table latest_report drop constraint latest_report_patient_key",
      "latest_report",
      "has no unique index"
    ]
  ])("nobody is charged when %s of a child is missing, also not for a row that the parent's table refuses", (
    [, statement = "", table = "", words = ""]
  ) =>
    runOn(
      [statement],
      Effect.gen(function*() {
        for (const id of ["a", "bad", "c"]) yield* record(id, yield* Report.encode(answer(id)))
        yield* record("v-1", yield* Values.encode(answer("p1")))
        expect(yield* untilEmpty).toMatchObject({ claimed: 4, persisted: 1, parked: 3 })
        for (const id of ["a", "bad"]) expect(yield* chunkOf(id)).toMatchObject({ state: "parked", attempts: 0 })
        expect(yield* rows("report")).toEqual([])
        const checked = yield* Effect.flip(
          Inspector.Inspector.use((inspector) => inspector.declaration(reports.report.declaration))
        )
        expect(checked.message).toContain(table)
        expect(checked.message).toContain(words)
      })
    ))

  it.live("nobody is charged when a child's column can never take the parent's id", () =>
    runOn(
      ["alter table panel_value drop panel, add panel bigint"],
      Effect.gen(function*() {
        yield* record("a", yield* Panels.encode(answer("p1")))
        expect(yield* untilEmpty).toMatchObject({ claimed: 1, parked: 1 })
        const checked = yield* Effect.flip(
          Inspector.Inspector.use((inspector) => inspector.declaration(reports.panels.declaration))
        )
        expect(checked.message).toContain("table panel_value")
        expect(checked.message).toContain("cannot cast type uuid to bigint")
      })
    ))

  it.live("a declaration is told as a statement for each table", () =>
    runOn(
      [],
      Effect.gen(function*() {
        const inspector = yield* Inspector.Inspector
        const told = yield* inspector.declaration(reports.panels.declaration)
        expect(told.split(";\n").map((statement) => statement.split(" (")[0])).toEqual([
          "insert into panel",
          "insert into panel_value",
          "insert into panel_sign"
        ])
        expect(told).toContain("(g.parents ->> (i.place - 1)::pg_catalog.int4)::uuid::uuid")
      })
    ))
})

describe("a declaration of several tables that contradicts itself is refused where it is made", () => {
  const base = { table: "report", object: "clinic.Report", columns: () => ({ patient: "p" }) }
  const each = ({ output }: { readonly output: TableHandler.Fields<typeof Report.schema.Encoded> }) => output.panels
  it.each([
    [
      "its child \"panel\": its rows are of the elements of its parent's each",
      () =>
        TableHandler.make(Report, {
          ...base,
          each,
          children: ({ child }) => [child({ ...base, table: "panel", each } as never)]
        })
    ],
    [
      "rows with inner have no children",
      () => TableHandler.make(Report, { ...base, each, inner: ({ item }) => item.values, children: () => [] })
    ],
    [
      // the compiler refuses it only where the object is written
      "its child \"panel\": a child has no children of its own",
      () => {
        const panel = { ...base, table: "panel", children: () => [] }
        return TableHandler.make(Report, { ...base, children: ({ child }) => [child(panel)] })
      }
    ],
    [
      "inner is of an item",
      () =>
        TableHandler.make(Report, {
          ...base,
          inner: ({ item }) => (item as unknown as { readonly values: never }).values
        })
    ],
    [
      "there is no inner",
      () => TableHandler.make(Report, { ...base, columns: ({ innerPlace }) => ({ place: innerPlace as never }) })
    ],
    [
      "its child \"panel\": columns gives no column a value",
      () =>
        TableHandler.make(Report, {
          ...base,
          children: ({ child }) => [child({ ...base, table: "panel", columns: () => ({}) })]
        })
    ]
  ])("%s", (words, make) => {
    expect(make).toThrow(words)
  })
})
