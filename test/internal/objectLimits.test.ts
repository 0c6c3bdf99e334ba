/**
 * How many rows a handler may name: measured as the ledger holds them, and below what every reader takes.
 */
import { layer } from "@effect/vitest"
import * as DomainObject from "effect-sluice/DomainObject"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { expect, it as plain } from "vitest"
import { objectsProblem } from "../../src/internal/objectLimits.ts"
import * as Postgres from "../support/Postgres.ts"

const named = (count: number, type: string, id: string) =>
  Array.from({ length: count }, (_, n) => DomainObject.make(type, `${id}${n}`))

plain("as many rows as there may be, and no more", () => {
  expect(objectsProblem([])).toBeUndefined()
  expect(objectsProblem(named(DomainObject.maxObjects, "a", ""))).toBeUndefined()
  expect(objectsProblem(named(DomainObject.maxObjects + 1, "a", ""))).toMatch(/names 50001 rows, more than 50000/)
  expect(objectsProblem(named(200_000, "clinic.ward.Observation", "018f2b5a-0000-7000-8000-"))).toMatch(/more than/)
  expect(objectsProblem(named(30_000, "clinic.Message", "018f2b5a-0000-7000-8000-000000000000"))).toBeUndefined()
})

layer(Layer.unwrap(Effect.sync(() => Postgres.layer())), { excludeTestServices: true })("on Postgres", (it) => {
  const texts = ["id", "\u00fc\u20ac😀", "\u0001\u001f\u007f", "\"\\/\b\f\n\r\t", "\u2028", "x".repeat(1000)]
  for (const text of texts) {
    it.effect(`what is let through is no longer than that in the ledger, with ${JSON.stringify(text.slice(0, 9))}`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const bytesOf = (count: number) =>
          Effect.map(
            sql<{ bytes: number }>`
              select octet_length(${JSON.stringify(named(count, text, text))}::jsonb::text) as bytes`,
            ([row]) => row!.bytes
          )
        // the most that are let through, found by halves
        let [good, bad] = [1, DomainObject.maxObjects + 1]
        while (bad - good > 1) {
          const middle = Math.floor((good + bad) / 2)
          if (objectsProblem(named(middle, text, text)) === undefined) good = middle
          else bad = middle
        }
        const bytes = yield* bytesOf(good)
        expect(bytes).toBeLessThanOrEqual(DomainObject.maxObjectBytes)
        // and nearly as long as it may be
        expect(bad > DomainObject.maxObjects || bytes > 0.95 * DomainObject.maxObjectBytes).toBe(true)
      }))
  }
})
