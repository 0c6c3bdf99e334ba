/**
 * A declared handler whose table was dropped under a running worker, and made again.
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
})
