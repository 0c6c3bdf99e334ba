/**
 * Triggers on the tables of declared handlers, and functions in their defaults, that change the session: its role, its
 * search path, a setting of the application.
 */
import { describe, expect, it } from "@effect/vitest"
import { ChunkStore, Drain, Inspector } from "effect-sluice"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as declared from "../support/declared.ts"
import { Card, finding, record } from "../support/declared.ts"
import { chunkOf, untilEmpty } from "../support/drain.ts"

/** Settings as all connections of the pool have them: more statements than connections, each of which takes a moment. */
const sessions = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const one = sql<{ role: string; path: string; ward: string }>`
    select current_setting('role') as role, current_setting('search_path') as path,
      coalesce(current_setting('app.ward', true), '') as ward
    from (select pg_sleep(0.02)) pause`
  const found = yield* Effect.all(Array.from({ length: 20 }, () => one), { concurrency: "unbounded" })
  return [...new Set(found.flat().map((row) => JSON.stringify(row)))].map((text) => JSON.parse(text))
})

/** Makes a role that may do nothing, as long as the scope is open. */
const nobody = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ name: string }>`select 'nobody_' || right(current_database(), 12) as name`
  const name = row?.name ?? ""
  yield* Effect.acquireRelease(
    sql.unsafe(`create role ${name}`),
    () => Effect.ignore(sql.unsafe(`drop owned by ${name}; drop role ${name}`))
  )
  return name
})

/** What changes the session when a row is written. */
const changes = {
  trigger: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const role = yield* nobody
    yield* sql.unsafe(`create function leave() returns trigger language plpgsql as $$ begin
      perform pg_catalog.set_config('app.ward', 'w1', false);
      perform pg_catalog.set_config('search_path', 'nowhere', false);
      perform pg_catalog.set_config('role', '${role}', false);
      return new;
    end $$`)
    yield* sql`create trigger leave after insert on finding for each row execute function leave()`
  }),
  default: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      create function leave() returns text language sql as $$ select pg_catalog.set_config('app.ward', 'w1', false) $$`
    yield* sql`alter table finding add column shift text`
    yield* sql`alter table finding alter column shift set default leave()`
  })
}

describe.each(["Postgres 18", "Postgres 15", "PGlite"] as const)("on %s, what writing a row sets", (name) => {
  for (
    const { change, declaredInside } of [true, false].flatMap((declaredInside) =>
      (["trigger", "default"] as const).map((change) => ({ change, declaredInside }))
    )
  ) {
    const way = declaredInside ? "inside" : "claimed"
    it.live(`does not outlive its batch: by a ${change}, ${way}`, () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const before = yield* sessions
        // before the first batch, or under a running worker
        yield* changes[change]
        for (const callId of ["a", "b", "c"]) yield* record(callId, yield* finding("plain"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 3, retried: 0, dead: 0, released: 0 })
        expect(yield* sessions).toEqual(before)
        const [inside] = yield* Inspector.Inspector.use((inspector) => inspector.workers())
        expect(inside?.alive).toBe(true)
        // and a table without such code is not concerned
        yield* record("card", yield* Card.encode({ patient: "p1", ward: "w1", note: "rests" }))
        yield* record("d", yield* finding("plain"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 2 })
        expect(yield* chunkOf("d")).toMatchObject({ state: "persisted", attempts: 0 })
        expect(yield* sessions).toEqual(before)
        // recorded and persisted at once
        yield* (yield* Drain.Drain).recordNow({
          callId: "e",
          namespace: "clinic",
          service: "services.clinic.laboratory.examine",
          context: { ward: "w1" },
          finishedAt: DateTime.makeUnsafe("2026-05-05T05:05:05.500Z"),
          outputs: [yield* finding("plain")]
        })
        expect(yield* sessions).toEqual(before)
        const keys = ["a", "b", "c", "d", "e"].map((callId) => ({
          callId,
          schemaIdentity: declared.Finding.identity,
          part: ""
        }))
        expect(yield* store.ledger(keys)).toHaveLength(5)
      }).pipe(
        Effect.scoped,
        Effect.provide(declared.application(declared.servers[name](), { declaredInside }))
      ), 240_000)
  }
})
