/**
 * A declared handler whose table was dropped or changed under a running worker, and repaired; or whose row security lets its
 * role write no row.
 */
import { describe, expect, it } from "@effect/vitest"
import { Inspector } from "effect-sluice"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as SqlClient from "effect/sql/SqlClient"
import * as declared from "../support/declared.ts"
import { Card, Order, record } from "../support/declared.ts"
import { chunkOf, untilEmpty } from "../support/drain.ts"
import * as Postgres from "../support/Postgres.ts"

const card = (patient: string) => Card.encode({ patient, ward: "w1", note: "rests" })
const [, , cardTable = ""] = declared.tables.filter((statement) => statement.includes("create table"))

describe.each(["Postgres 18", "PGlite"] as const)("on %s", (name) => {
  for (const declaredInside of [true, false]) {
    it.live(`its answers are parked, and continue without a restart, ${declaredInside ? "inside" : "claimed"}`, () => {
      const lines: Array<string> = []
      const reasons: Array<unknown> = []
      return Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* record("before", yield* card("p0"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
        yield* sql`drop table card`
        yield* record("a", yield* card("p1"))
        yield* record("b", yield* card("p2"))
        yield* record("order", yield* Order.encode({ items: [] }))
        expect(yield* untilEmpty).toMatchObject({ parked: 2, nothingToCreate: 1, retried: 0, dead: 0 })
        // not taken up in vain
        expect(yield* untilEmpty).toMatchObject({ claimed: 0 })
        expect(yield* chunkOf("a")).toMatchObject({ state: "parked", parkedFor: "no-handler", attempts: 0 })
        const unfit = Effect.map(
          Inspector.Inspector.use((inspector) => inspector.workers()),
          ([worker]) => worker?.inside.find(({ handler }) => handler === "clinic/card")?.unfit
        )
        expect(yield* unfit).toContain("there is no such table")
        yield* sql.unsafe(cardTable)
        yield* record("c", yield* card("p3"))
        expect(yield* untilEmpty).toMatchObject({ claimed: 3, persisted: 3 })
        yield* untilEmpty
        expect(yield* unfit).toBe(null)
        expect((yield* sql`select patient from card order by patient`).map((row) => row.patient)).toEqual([
          "p1",
          "p2",
          "p3"
        ])
        expect(new Set(reasons)).toEqual(new Set(["table-unfit"]))
        expect(lines).toEqual([
          expect.stringMatching(/^handler clinic\/card cannot run here: table card .* continues by itself/),
          "the table of handler clinic/card fits its declaration again: its chunks continue"
        ])
      }).pipe(
        Effect.provide(
          // each cycle beats, and nothing else does
          declared.application(declared.servers[name](), { declaredInside, beatInterval: Duration.zero }).pipe(
            Layer.provideMerge(Logger.layer([Logger.make(({ fiber, logLevel, message }) => {
              if (String(message) === "chunks are parked") {
                reasons.push(fiber.getRef(References.CurrentLogAnnotations)["sluice.reason"])
              }
              if (logLevel !== "Debug" && String(message).includes("clinic/card")) lines.push(String(message))
            })]))
          )
        )
      )
    })
  }

  for (const declaredInside of [true, false]) {
    it.live(`a column that it does not write refuses null from now on, ${declaredInside ? "inside" : "claimed"}`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* record("before", yield* card("p0"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
        yield* sql`alter table card add bed text`
        yield* sql`update card set bed = 'b0'`
        yield* sql`alter table card alter bed set not null`
        // alone: its handler makes one attempt
        yield* record("a", yield* card("p1"))
        expect(yield* untilEmpty).toMatchObject({ claimed: 1, parked: 1, dead: 0 })
        expect(yield* chunkOf("a")).toMatchObject({ state: "parked", parkedFor: "no-handler", attempts: 0 })
        yield* sql`alter table card alter bed set default 'b1'`
        expect(yield* untilEmpty).toMatchObject({ claimed: 1, persisted: 1 })
        // what the answer gives as null is the answer's fault
        yield* sql`alter table card alter note set not null`
        yield* record("b", { ...yield* card("p2"), data: { patient: "p2", ward: "w1", note: null } })
        expect(yield* untilEmpty).toMatchObject({ claimed: 1, dead: 1 })
      }).pipe(
        Effect.provide(
          declared.application(declared.servers[name](), { declaredInside, beatInterval: Duration.zero })
        )
      ))
  }
  for (const declaredInside of [true, false]) {
    it.live(`a rule that it gets under the worker parks the answers, ${declaredInside ? "inside" : "claimed"}`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const items = Order.encode({ items: [{ name: "iron", dose: 1 }] })
        yield* record("before", yield* items)
        expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
        yield* sql`create rule told as on insert to lab_order do also notify orders`
        yield* record("a", yield* items)
        expect(yield* untilEmpty).toMatchObject({ claimed: 1, parked: 1, dead: 0 })
        expect(yield* chunkOf("a")).toMatchObject({ state: "parked", attempts: 0 })
        yield* sql`drop rule told on lab_order`
        expect(yield* untilEmpty).toMatchObject({ claimed: 1, persisted: 1 })
      }).pipe(
        Effect.provide(
          declared.application(declared.servers[name](), { declaredInside, beatInterval: Duration.zero })
        )
      ))
  }
})

/** A store whose role owns its database. */
const owned = declared.withTables(Layer.unwrap(Effect.gen(function*() {
  const url = yield* Postgres.freshDatabase(18)
  const { role, url: address } = yield* Postgres.asRole(url, "owner")
  yield* Postgres.runAt(url, `alter database ${new URL(url).pathname.slice(1)} owner to ${role}`)
  return Postgres.client(address)
})))

describe("row security", () => {
  for (const declaredInside of [true, false]) {
    it.live(`that lets the role write no row parks the answers, ${declaredInside ? "inside" : "claimed"}`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* record("before", yield* card("p0"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
        yield* sql`alter table card enable row level security, force row level security`
        yield* sql`create policy may_write on card for insert with check (ward <> 'w2')`
        yield* sql`create policy may_update on card for update using (true)`
        yield* record("a", yield* card("p1"))
        expect(yield* untilEmpty).toMatchObject({ claimed: 1, parked: 1, dead: 0 })
        expect(yield* chunkOf("a")).toMatchObject({ state: "parked", attempts: 0 })
        // the ids of the rows are read
        yield* sql`create policy may_read on card for select using (true)`
        expect(yield* untilEmpty).toMatchObject({ claimed: 1, persisted: 1 })
        // a row that a policy refuses is the answer's fault
        yield* record("b", { ...yield* card("p2"), data: { patient: "p2", ward: "w2", note: "rests" } })
        yield* record("c", yield* card("p3"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1, dead: 1 })
        expect(yield* chunkOf("c")).toMatchObject({ state: "persisted" })
      }).pipe(
        Effect.provide(declared.application(owned, { declaredInside, beatInterval: Duration.zero })),
        Effect.scoped
      ))
  }
})
