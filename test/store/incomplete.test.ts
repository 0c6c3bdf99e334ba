/**
 * Tables of which a part is missing, as after a partial restore: nothing starts on them, and it is said what is missing.
 * Where only the list of migrations is lost, they run again and harm nothing.
 */
import { it } from "@effect/vitest"
import { Settings } from "effect-sluice"
import * as Migrations from "effect-sluice/store/Migrations"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { run } from "../cli/inProcess.ts"
import { call, claim, idsOf, record, settle } from "../contract/operators/dialogues.ts"
import { client, migratedDatabase } from "../support/Postgres.ts"

const start = (url: string, layer: typeof PgStore.layer) =>
  Layer.build(
    Layer.fresh(layer).pipe(
      Layer.provide(Settings.layer({ notify: false, listen: false })),
      Layer.provide(Layer.fresh(client(url, { maxConnections: 4 })))
    )
  ).pipe(Effect.scoped)

describe.each([15, 18] as const)("a database that was restored in part, on Postgres %i", (version) => {
  const cases: ReadonlyArray<readonly [lost: string, statement: string, mendable: boolean]> = [
    ["table worker", "drop table sluice.worker", true],
    ["column chunk_queue.fingerprint", "alter table sluice.chunk_queue drop column fingerprint", true],
    ["sequence chunk_seq", "drop sequence sluice.chunk_seq cascade", false],
    [
      "primary key of persisted_chunk",
      "alter table sluice.persisted_chunk drop constraint persisted_chunk_pkey",
      false
    ]
  ]

  for (const [lost, statement, mendable] of cases) {
    it.live(`without the ${lost}: nothing starts, and what is missing is named`, () =>
      Effect.gen(function*() {
        const url = yield* migratedDatabase(version)
        yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* record(call("a")).pipe(Effect.provide(Layer.fresh(PgStore.layer)))
          yield* sql.unsafe(statement)
          for (const layer of [PgStore.layer, PgStore.layerStorage, PgStore.layerAsItIs]) {
            const error = yield* Effect.flip(start(url, layer))
            expect(error).toMatchObject({ _tag: "DatabaseUnfit", problem: "incomplete" })
            expect(error.message).toContain(lost)
          }
          const doctor = yield* Effect.promise(() => run("doctor", "--url", url))
          expect(doctor.stdout).toContain(
            `X   tables: missing, although the migrations that make them are applied: ${lost}`
          )
          // and what the error and the doctor advise
          yield* sql`delete from sluice.migration`
          if (!mendable) return
          yield* Migrations.run
          const { chunks } = yield* claim.pipe(Effect.provide(Layer.fresh(PgStore.layer)))
          expect(idsOf(chunks)).toEqual(["a"])
        }).pipe(Effect.provide(client(url)))
      }).pipe(Effect.scoped), 60_000)
  }

  it.live(
    "without the list of migrations: they run again, and change nothing of what is there",
    () =>
      Effect.gen(function*() {
        const url = yield* migratedDatabase(version)
        yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const stores = Layer.fresh(PgStore.layer)
          yield* Effect.gen(function*() {
            yield* record(call("persisted"), call("dies"), call("waits"))
            yield* settle(({ key }) =>
              key.callId === "dies" ? { dead: "exhausted" } : key.callId === "waits" ? { retry: "1 hour" } : "persisted"
            )
          }).pipe(Effect.provide(stores))
          // as after a move to another cluster
          yield* sql`alter table sluice.persisted_chunk alter column xact
          set default ('1000000'::bigint + pg_catalog.pg_current_xact_id()::pg_catalog.text::bigint)::pg_catalog.text::pg_catalog.xid8`
          yield* sql`update sluice.subscription_log set base = 1000000, witness = default`
          const state = sql`
          select (select json_agg(q order by seq) from sluice.chunk_queue q) as queue,
            (select json_agg(l) from sluice.persisted_chunk l) as ledger,
            (select json_agg(d) from sluice.dead_letter d) as dead,
            (select json_agg(c order by call_id) from sluice.service_call c) as calls,
            (select json_agg(s) from sluice.subscription_log s) as log,
            (
              select json_agg(format('%s.%s %s', attrelid::regclass, attname, pg_get_expr(adbin, adrelid)) order by attrelid, attnum)
              from pg_attrdef join pg_attribute on attrelid = adrelid and attnum = adnum
              where attrelid in (select oid from pg_class where relnamespace = 'sluice'::regnamespace)
            ) as defaults,
            (
              select json_agg(format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) order by conname)
              from pg_constraint where connamespace = 'sluice'::regnamespace
            ) as constraints,
            (select json_agg(indexdef order by indexname) from pg_indexes where schemaname = 'sluice') as indexes`
          const before = yield* state
          yield* sql`delete from sluice.migration`
          expect((yield* Migrations.run).length).toBe(Migrations.list("sluice").length)
          expect(yield* state).toEqual(before)
        }).pipe(Effect.provide(client(url)))
      }).pipe(Effect.scoped),
    60_000
  )
})
