/**
 * Declared handlers: the same rows on every store, and what becomes of answers and tables that do not fit.
 */
import { describe, expect, it, layer } from "@effect/vitest"
import { ChunkStore, DomainEvents, Drain, Inspector, Output, TableHandler } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as declared from "./support/declared.ts"
import { Card, Finding, finding, Order, record } from "./support/declared.ts"
import { chunkOf, untilEmpty } from "./support/drain.ts"

/**
 * Drains until a chunk is parked, and no attempt was charged. A beat that began before its worker knew that the handler
 * cannot run takes up what is parked once more; then the next cycle parks it again.
 */
const untilParked = (callId: string) =>
  Effect.gen(function*() {
    const { attempts, state } = yield* chunkOf(callId)
    expect(attempts).toBe(0)
    if (state === "parked") return true
    yield* untilEmpty
    return false
  }).pipe(Effect.repeat({ until: (isParked) => isParked }))

const keyOf = (callId: string, schemaIdentity: string) => ({ callId, schemaIdentity, part: "" })
const ledgerOf = (schemaIdentity: string, ...callIds: ReadonlyArray<string>) =>
  ChunkStore.ChunkStore.use((store) => store.ledger(callIds.map((callId) => keyOf(callId, schemaIdentity))))
/** The rows of a table that are of calls whose id begins like this, or of all. */
const rowsOf = (name: string, of = "") =>
  Effect.map(
    declared.Read.use((read) => read.rows(name)),
    (rows) => rows.filter((row) => String(row.call_id ?? "").startsWith(of))
  )

/** Of rows, the columns that are compared: memory leaves out what is missing, and has texts for times. */
const plain = (rows: ReadonlyArray<Readonly<Record<string, unknown>>>, ...columns: ReadonlyArray<string>) =>
  rows.map((row) =>
    Object.fromEntries(columns.map((column) => {
      const value = row[column] ?? null
      const isTime = column === "finished" || column === "at"
      return [column, isTime ? new Date(String(value)).toISOString() : column === "big" ? String(value) : value]
    }))
  )

const columns = [
  "call_id",
  "namespace",
  "service",
  "correlation",
  "part",
  "ordering",
  "finished",
  "ward",
  "hint",
  "text",
  "level",
  "count",
  "amount",
  "sure",
  "at",
  "day",
  "tags",
  "places",
  "whole",
  "word",
  "maybe",
  "odd",
  "kind",
  "one",
  "nothing"
]

const expected = (callId: string, text: string, more: object = {}) => ({
  call_id: callId,
  namespace: "clinic",
  service: "services.clinic.laboratory.examine",
  correlation: callId,
  part: "",
  ordering: null,
  finished: "2026-05-05T05:05:05.500Z",
  ward: "w1",
  hint: null,
  text,
  level: "low",
  count: 7,
  amount: 1.25,
  sure: true,
  at: "2026-01-02T03:04:05.678Z",
  day: "2026-02-28",
  tags: ["a", "b,c", "\"q\""],
  places: [1, null, 3],
  whole: { deep: { word: "w" }, list: [{ a: 1 }] },
  word: "w",
  maybe: null,
  odd: null,
  kind: "it's \\ fixed",
  one: 1,
  nothing: null,
  ...more
})

type Application = Layer.Success<ReturnType<typeof declared.application<SqlClient.SqlClient>>>

for (const [name, store] of Object.entries({ memory: () => declared.memory, ...declared.servers })) {
  layer(declared.application(store()), { timeout: 60_000, excludeTestServices: true })(`on ${name}`, (it) => {
    it.effect("the rows of an answer, with everything that a column can take", () =>
      Effect.gen(function*() {
        yield* record("row-1", yield* finding("it hurts"))
        yield* record(
          "row-2",
          {
            ...yield* finding("at night", { maybe: { word: "yes" }, "odd'\\key": "o'd\\d", tags: [], places: [] }),
            part: "left"
          },
          { correlationId: "visit-1", orderingKey: "k", context: { ward: "w2", hint: "look again" } }
        )
        // null in the answer is null in the row
        yield* record("row-3", yield* finding("never", { maybe: null, "odd'\\key": null }))
        yield* record("row-old", { schema: Finding.identity, version: 1, data: { text: "of version 1" } })
        expect(yield* untilEmpty).toMatchObject({ claimed: 4, persisted: 4 })
        const rows = yield* rowsOf("finding", "row-")
        expect(plain(rows, ...columns)).toEqual([
          expected("row-1", "it hurts"),
          expected("row-2", "at night", {
            part: "left",
            correlation: "visit-1",
            ordering: "k",
            ward: "w2",
            hint: "look again",
            maybe: "yes",
            odd: "o'd\\d",
            tags: [],
            places: []
          }),
          expected("row-3", "never"),
          expected("row-old", "of version 1")
        ])
        const [line] = yield* ledgerOf(Finding.identity, "row-1")
        expect(line).toMatchObject({
          handler: "clinic/finding",
          handlerVersion: 3,
          objects: [{ type: "clinic.Finding", id: String(rows[0]?.id) }]
        })
      }))

    it.effect("a row for each element, named in their order, and none for none", () =>
      Effect.gen(function*() {
        const items = [{ name: "iron", dose: 1.5 }, { name: "zinc", dose: null }, { name: "iron", dose: 2 }]
        yield* record("o-1", yield* Order.encode({ items }))
        yield* record("o-2", yield* Order.encode({ items: [] }))
        yield* record("o-3", yield* Order.encode({ items: items.toReversed() }))
        const events = yield* (yield* DomainEvents.DomainEvents).subscribe
        const heard = yield* Effect.forkChild(Stream.runCollect(Stream.take(events, 6)))
        expect(yield* untilEmpty).toMatchObject({ claimed: 3, persisted: 2, nothingToCreate: 1 })
        const rows = yield* rowsOf("lab_order")
        expect(plain(rows, "call_id", "place", "name", "dose")).toEqual([
          ...items.map((item, index) => ({ call_id: "o-1", place: index + 1, ...item })),
          ...items.toReversed().map((item, index) => ({ call_id: "o-3", place: index + 1, ...item }))
        ])
        const ids = rows.map(({ id }) => String(id))
        const lines = yield* ledgerOf(Order.identity, "o-1", "o-2", "o-3")
        expect(Object.fromEntries(lines.map(({ key, objects }) => [key.callId, objects.map(({ id }) => id)])))
          .toEqual({
            "o-1": ids.slice(0, 3),
            "o-2": [],
            "o-3": ids.slice(3)
          })
        expect((yield* Fiber.join(heard)).map(({ object }) => object.id)).toEqual(ids)
      }).pipe(Effect.scoped))

    it.effect("answers with the same key overwrite a row in their order, also within one batch", () =>
      Effect.gen(function*() {
        const card = (patient: string, ward: string, note: string) => Card.encode({ patient, ward, note })
        yield* record("c-1", yield* card("p1", "w1", "one"))
        yield* record("c-2", yield* card("p2", "w1", "two"))
        yield* record("c-3", yield* card("p1", "w2", "three"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 3 })
        yield* record("c-4", yield* card("p2", "w2", "four"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
        const rows = yield* rowsOf("card")
        // the ward is not among what is overwritten
        expect(plain(rows, "patient", "ward", "note")).toEqual([
          { patient: "p1", ward: "w1", note: "three" },
          { patient: "p2", ward: "w1", note: "four" }
        ])
        const [p1, p2] = rows.map(({ id }) => String(id))
        const lines = yield* ledgerOf(Card.identity, "c-1", "c-2", "c-3", "c-4")
        expect(Object.fromEntries(lines.map(({ key, objects }) => [key.callId, objects[0]?.id]))).toEqual({
          "c-1": p1,
          "c-2": p2,
          "c-3": p1,
          "c-4": p2
        })
      }))

    it.effect("an answer that cannot be persisted dies alone, and its mates arrive", () =>
      Effect.gen(function*() {
        yield* record("mate-first", yield* finding("one"))
        yield* record("homeless", yield* finding("two"), { context: {} })
        yield* record("misfit", { schema: Finding.identity, version: 2, data: { text: 4 } })
        yield* record("mate-last", yield* finding("three"))
        expect(yield* untilEmpty).toMatchObject({ claimed: 4, persisted: 2, dead: 2 })
        expect((yield* rowsOf("finding", "mate-")).map((row) => row.call_id)).toEqual(["mate-first", "mate-last"])
        const homeless = yield* chunkOf("homeless")
        expect(homeless).toMatchObject({ state: "dead", death: { reason: "rejected" } })
        expect(JSON.stringify(homeless)).toContain("ward")
        expect(yield* chunkOf("misfit")).toMatchObject({ state: "dead", death: { reason: "undecodable" } })
      }))

    it.effect("persisted inline", () =>
      Effect.gen(function*() {
        yield* record("now-1", yield* finding("now"))
        const created = yield* Drain.Drain.use((drain) => drain.persistNow("now-1"))
        expect(created).toEqual([{ type: "clinic.Finding", id: String((yield* rowsOf("finding", "now-"))[0]?.id) }])
      }))
  })
}

describe.each(["Postgres 18", "Postgres 15"] as const)("on %s", (name) => {
  const runOn = (more: ReadonlyArray<string>, test: Effect.Effect<void, unknown, Application>) =>
    Effect.provide(test, declared.application(declared.servers[name](more)))

  it.live("a row that the table refuses is told apart by its chunk and its message", () =>
    runOn(
      [],
      Effect.gen(function*() {
        for (const text of ["a", "b", "bad", "c"]) yield* record(text, yield* finding(text))
        yield* record("long", yield* finding("x".repeat(41)))
        yield* record("many", yield* finding("many", { count: 100 }))
        yield* record("no-day", yield* finding("no day", { day: "yesterday week" }))
        yield* record("d", yield* finding("d"))
        expect(yield* untilEmpty).toMatchObject({ claimed: 8, persisted: 4, dead: 4 })
        expect((yield* rowsOf("finding")).map((row) => row.call_id).sort()).toEqual(["a", "b", "c", "d"])
        for (
          const [callId, words] of [
            ["bad", "finding_text_check"],
            ["long", "character varying(40)"],
            ["many", "finding_count_check"],
            ["no-day", "yesterday week"]
          ] as const
        ) {
          const chunk = yield* chunkOf(callId)
          expect(chunk).toMatchObject({ state: "dead", attempts: 1, death: { reason: "exhausted" } })
          expect(JSON.stringify(chunk)).toContain(words)
        }
      })
    ))

  it.live("a field that is missing leaves the column to its default, and null does not", () =>
    runOn(
      ["alter table finding alter maybe set default 'by default', alter hint set default upper('none'), alter odd set default 'even'"],
      Effect.gen(function*() {
        yield* record("missing", yield* finding("one"))
        yield* record("null", yield* finding("two", { maybe: null, "odd'\\key": null }), {
          context: { ward: "w1", hint: null }
        })
        expect(yield* untilEmpty).toMatchObject({ persisted: 2 })
        expect(plain(yield* rowsOf("finding"), "call_id", "hint", "maybe", "odd")).toEqual([
          { call_id: "missing", hint: "NONE", maybe: "by default", odd: "even" },
          // what is within null is missing
          { call_id: "null", hint: null, maybe: "by default", odd: null }
        ])
      })
    ))

  it.live("the ids are those that a trigger made", () =>
    runOn(
      [
        "create function rename_row() returns trigger language plpgsql as $$ begin new.id := new.id + 1000; return new; end $$",
        "create trigger rename_row before insert on finding for each row execute function rename_row()"
      ],
      Effect.gen(function*() {
        for (const id of ["a", "b", "c"]) yield* record(id, yield* finding(id))
        yield* untilEmpty
        const rows = yield* rowsOf("finding")
        expect(rows.every(({ id }) => Number(id) > 1000)).toBe(true)
        const lines = yield* ledgerOf(Finding.identity, "a", "b", "c")
        expect(Object.fromEntries(lines.map(({ key, objects }) => [key.callId, objects[0]?.id]))).toEqual(
          Object.fromEntries(rows.map((row) => [row.call_id, String(row.id)]))
        )
      })
    ))

  it.live("an answer whose row a trigger leaves out dies alone", () =>
    runOn(
      [
        "create function leave_out() returns trigger language plpgsql as $$ begin return case when new.text <> 'b' then new end; end $$",
        "create trigger leave_out before insert on finding for each row execute function leave_out()"
      ],
      Effect.gen(function*() {
        for (const id of ["a", "b", "c"]) yield* record(id, yield* finding(id))
        expect(yield* untilEmpty).toMatchObject({ persisted: 2, dead: 1 })
        expect(JSON.stringify(yield* chunkOf("b"))).toContain("a trigger leaves rows out")
      })
    ))

  it.live.each([
    ["the table", "alter table finding rename to findings", "there is no such table"],
    ["a column", "alter table finding drop ward", "it has no column \"ward\""],
    ["a type", "alter table finding alter one type date using null", "invalid input syntax for type date"],
    ["the column of the id", "alter table finding rename id to number", "it has no column \"id\""],
    [
      "a column that can be written",
      "alter table finding drop one, add one int generated always as (2) stored",
      "generated"
    ]
  ])("nobody is charged when %s is missing", ([, statement = "", words = ""]) =>
    runOn(
      [statement],
      Effect.gen(function*() {
        for (const id of ["a", "b", "c"]) yield* record(id, yield* finding(id))
        yield* record("c-1", yield* Card.encode({ patient: "p1", ward: "w1", note: "one" }))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1, retried: 0, dead: 0 })
        yield* untilParked("a")
        const checked = yield* Effect.flip(
          Inspector.Inspector.use((inspector) => inspector.declaration(declared.findings.declaration))
        )
        expect(checked.message).toContain(words)
      })
    ))

  it.live.each([true, false])(
    "nobody is charged when the table changes while the program runs (inside: %s)",
    (inside) =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* record("before", yield* finding("before"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
        yield* sql`alter table finding rename column text to words`
        yield* record("after", yield* finding("after"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 0, retried: 0, dead: 0 })
        yield* untilParked("after")
      }).pipe(Effect.provide(declared.application(declared.servers[name]([]), { declaredInside: inside })))
  )

  it.live("a row is refused only after the declaration was compiled for the table as it is now", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`alter table finding alter odd set default 'even'`
      yield* record("before", yield* finding("before"))
      expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
      yield* sql`alter table finding alter odd set default 'uneven', add check (odd <> 'even') not valid`
      yield* record("after", yield* finding("after"))
      expect(yield* untilEmpty).toMatchObject({ persisted: 1, dead: 0 })
      expect(plain(yield* rowsOf("finding"), "call_id", "odd")).toEqual([
        { call_id: "after", odd: "uneven" },
        { call_id: "before", odd: "even" }
      ])
    }).pipe(Effect.provide(declared.application(declared.servers[name]([]), { declaredInside: true }))))

  it.live("nobody is charged when a key has no unique index", () =>
    runOn(
      ["alter table card drop constraint card_patient_key"],
      Effect.gen(function*() {
        yield* record("c-1", yield* Card.encode({ patient: "p1", ward: "w1", note: "one" }))
        yield* record("f-1", yield* finding("one"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1, retried: 0, dead: 0 })
        yield* untilParked("c-1")
      })
    ))

  it.live("a declaration is told as the statement that it becomes", () =>
    runOn(
      [],
      Effect.gen(function*() {
        const inspector = yield* Inspector.Inspector
        const statement = yield* inspector.declaration(declared.findings.declaration)
        expect(statement).toContain(`insert into finding ("call_id"`)
        expect(statement).toContain(`(g.data ->> 'text')::character varying`)
        expect(yield* rowsOf("finding")).toEqual([])
      })
    ))
})

describe("a declaration that contradicts itself is refused where it is made", () => {
  class Note extends Output.make("schemas.clinic.laboratory.note", {
    schema: Schema.Struct({ text: Schema.String, other: Schema.optionalKey(Schema.String) })
  }) {}
  const base = { table: "note", object: "clinic.Note" }
  it.each([
    [
      "columns computes",
      () => TableHandler.make(Note, { ...base, columns: ({ output }) => ({ text: `${output.text}` }) })
    ],
    ["columns computes", () => TableHandler.make(Note, { ...base, columns: ({ output }) => ({ ...output }) as never })],
    [
      "in key or overwrite",
      () => TableHandler.make(Note, { ...base, columns: ({ output }) => ({ text: output.text }), key: ["txet"] })
    ],
    [
      "only for a declaration with a key",
      () => TableHandler.make(Note, { ...base, columns: ({ output }) => ({ text: output.text }), overwrite: ["text"] })
    ],
    ["gives no column a value", () => TableHandler.make(Note, { ...base, columns: () => ({}) })],
    ["there is no each", () => TableHandler.make(Note, { ...base, columns: ({ item }) => ({ item: item as never }) })],
    ["holds \\u0000", () => TableHandler.make(Note, { ...base, columns: () => ({ text: "a\0b" }) })],
    [
      "holds \\u0000",
      () => TableHandler.make(Note, { ...base, columns: ({ call }) => ({ text: call.context("a\0") }) })
    ],
    ["a lone surrogate", () => TableHandler.make(Note, { ...base, object: "\ud800", columns: () => ({ text: "a" }) })],
    ["neither a field nor", () => TableHandler.make(Note, { ...base, columns: () => ({ at: new Date(0) as never }) })]
  ])("%s", (words, make) => {
    expect(make).toThrow(words)
  })
})

it.effect("a declared handler without a drain says who carries it out", () =>
  Effect.gen(function*() {
    const handler = TableHandler.make(Card, {
      table: "card",
      object: "clinic.Card",
      columns: ({ output }) => ({ note: output.note })
    })
    const exit = yield* Effect.exit(handler.persistMany([]))
    expect(String(exit)).toContain("carried out by the store of a drain")
  }))
