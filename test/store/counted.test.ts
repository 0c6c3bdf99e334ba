/**
 * What operators ask beside a ledger and a queue of many rows: how much of them is read, by the server's own count, and that
 * the answers are right, whatever is counted already.
 */
import { it } from "@effect/vitest"
import { ChunkStore, Inspector, Retention, Settings } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { plansOf, readBy, watched } from "../support/plans.ts"
import * as Postgres from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

/** How many lines are counted at a time. */
const portion = 5000
const many = 100_000

/** Lines of two kinds; each tenth became a note and two orders, each eleventh nothing. */
const persist = (from: number, to: number) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql`
      insert into sluice.persisted_chunk (
        call_id, namespace, schema_identity, schema_version, handler, handler_version, objects
      )
      select 'call-' || n, 'clinic', 'schemas.clinic.ward.' || case when n % 3 = 0 then 'note' else 'letter' end, 1, 'h', 1,
        case when n % 11 = 0 then '[]'
          when n % 10 = 0 then jsonb_build_array(
            jsonb_build_object('type', 'ward.Note', 'id', n::text),
            jsonb_build_object('type', 'ward.Order', 'id', 'a:' || n),
            jsonb_build_object('type', 'ward.Order', 'id', 'b:' || n)
          )
          else jsonb_build_array(jsonb_build_object('type', 'ward.Note', 'id', n::text)) end
      from generate_series(${from}::int, ${to}::int) n`)

/** Whether status says what the ledger has. */
const expectRight = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const kinds = yield* Inspector.Inspector.use((inspector) => inspector.status)
  const found = yield* sql<{ schemaIdentity: string; persisted: number }>`
    select schema_identity as "schemaIdentity", count(*)::int as persisted from sluice.persisted_chunk
    group by 1 order by 1`
  expect(kinds.map(({ persisted, schemaIdentity }) => ({ persisted, schemaIdentity }))).toEqual(found)
})

const made = (type: string, id: string) => Inspector.Inspector.use((one) => one.callsThatMade([{ type, id }]))
const rollUp = Retention.Retention.use((retention) => retention.rollUp)
/** How many lines are counted. */
const counted = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql<{ lines: number }>`select coalesce(sum(chunks), 0)::int as lines from sluice.ledger_total`,
    ([row]) => row?.lines
  ))

/** Counts until so many lines are: transactions of other tests, on the same server, hold it up. */
const countTo = (lines: number) => untilIt(Effect.andThen(rollUp, counted), (now) => now === lines)

/** Rows of a table that an effect's statements read; fails where one of them reads all of it. */
const rowsRead = Effect.fnUntraced(function*<A, E, R>(table: string, effect: Effect.Effect<A, E, R>) {
  const { sent } = yield* watched(effect)
  let most = 0
  for (const statement of sent.filter(([text]) => !text.startsWith("explain"))) {
    for (const [, steps] of yield* plansOf(statement)) {
      const ofTable = steps.filter((step) => step["Relation Name"] === table)
      expect.soft(ofTable.filter((step) => step["Node Type"].includes("Seq Scan")), statement[0]).toEqual([])
      most = Math.max(most, ofTable.map(readBy).reduce((sum, rows) => sum + rows, 0))
    }
  }
  return most
})

describe.each([15, 18] as const)("what operators ask, on Postgres %i", (version) => {
  const layer = (maxConnections: number, settings: Partial<Settings.Values> = {}) =>
    Layer.fresh(PgStore.layer).pipe(
      Layer.provide(Settings.layer(settings)),
      Layer.provideMerge(Postgres.layer(version, { maxConnections }))
    )

  it.live("reads no more of a large ledger than is not counted yet", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const inspector = yield* Inspector.Inspector
      yield* persist(1, many + 100)
      yield* sql.unsafe("vacuum analyze sluice.persisted_chunk")
      yield* countTo(many)
      yield* expectRight
      expect(yield* rowsRead("persisted_chunk", inspector.status)).toBeLessThanOrEqual(100)
      const search = inspector.callsThatMade([{ type: "ward.Note", id: "31234" }])
      expect(yield* search).toEqual(["call-31234"])
      const ofSearch = yield* rowsRead("persisted_chunk", search)
      expect(ofSearch).toBeGreaterThan(portion)
      // the portion that has it, and what is in none
      expect(ofSearch).toBeLessThanOrEqual(portion + 100)
      expect(yield* rowsRead("persisted_chunk", inspector.callsThatMade([{ type: "ward.Note", id: "none" }])))
        .toBeLessThanOrEqual(100)
      // and what has nothing to count does not read what is not counted for it
      expect(yield* rowsRead("persisted_chunk", rollUp)).toBeLessThanOrEqual(100)
    }).pipe(Effect.provide(layer(1))), 120_000)

  it.live("is right whatever is counted, and whoever counts it", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* persist(1, portion - 1)
      yield* rollUp
      // a portion that is not full is not counted
      expect(yield* counted).toBe(0)
      yield* expectRight
      expect(yield* made("ward.Order", "b:20")).toEqual(["call-20"])
      yield* persist(portion, 3 * portion)
      const store = yield* ChunkStore.ChunkStore
      // workers' beats, at the same time
      yield* Effect.forEach(["w1", "w2", "w3"], (worker) => store.beat(worker, []), { concurrency: "unbounded" })
      yield* countTo(3 * portion)
      yield* expectRight
      for (
        const [type, id, call] of [
          ["ward.Note", "20", "call-20"],
          ["ward.Order", "a:20", "call-20"],
          ["ward.Order", "b:20", "call-20"],
          ["ward.Note", String(3 * portion), `call-${3 * portion}`]
        ] as const
      ) {
        expect(yield* made(type, id), id).toEqual([call])
      }
      expect(yield* made("ward.Order", "20")).toEqual([])

      // edited manually: what is no list of objects
      yield* persist(20_001, 20_002)
      yield* sql`update sluice.persisted_chunk set objects = '7' where call_id = 'call-20001'`
      yield* sql`update sluice.persisted_chunk set objects = '{"1":2}' where call_id = 'call-20002'`
      yield* persist(20_003, 20_000 + portion)
      yield* countTo(4 * portion)
      yield* expectRight
    }).pipe(Effect.provide(layer(5))), 120_000)

  it.live("counts nothing behind a transaction that has not ended, and then everything", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const held = yield* sql.reserve
      yield* held.executeValuesUnprepared("begin", [])
      yield* Effect.addFinalizer(() => Effect.ignore(held.executeValuesUnprepared("rollback", [])))
      yield* held.executeValuesUnprepared("select pg_current_xact_id()::text", [])
      yield* persist(1, portion)
      yield* rollUp
      expect(yield* counted).toBe(0)
      yield* expectRight
      const late =
        "insert into sluice.persisted_chunk (call_id, namespace, schema_identity, schema_version, handler, " +
        "handler_version, objects) values ('late', 'clinic', 'schemas.clinic.ward.note', 1, 'h', 1, " +
        "'[{\"type\":\"ward.Note\",\"id\":\"late\"}]')"
      yield* held.executeValuesUnprepared(late, [])
      yield* held.executeValuesUnprepared("commit", [])
      yield* countTo(portion)
      yield* expectRight
      expect(yield* made("ward.Note", "late")).toEqual(["late"])
    }).pipe(Effect.scoped, Effect.provide(layer(5))), 120_000)

  it.live("counts anew where lines were renumbered, or numbers are another cluster's", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* persist(1, portion)
      yield* countTo(portion)
      for (
        const change of [
          sql`update sluice.ledger_place set base = base - 1`,
          sql`update sluice.ledger_place set xact = '1000000000000'`,
          sql`delete from sluice.ledger_place`
        ]
      ) {
        // a line more, which the totals do not have
        yield* sql`update sluice.ledger_total set chunks = chunks + 1`
        yield* change
        yield* expectRight
        expect(yield* made("ward.Note", "31")).toEqual(["call-31"])
        yield* countTo(portion)
        yield* expectRight
        expect(yield* made("ward.Note", "31")).toEqual(["call-31"])
      }
    }).pipe(Effect.provide(layer(5))), 120_000)

  it.live(
    "counts a deep queue up to a limit, and says about how many there are beyond it",
    () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const inspector = yield* Inspector.Inspector
        yield* sql`
        insert into sluice.chunk_queue (call_id, namespace, schema_identity, schema_version, state, lease_until)
        select 'call-' || n, 'clinic', 'schemas.clinic.ward.' || case when n % 4 = 0 then 'note' else 'letter' end, 2,
          case when n % 1000 = 0 then 'scheduled' else 'ready' end, case when n <= 60 then now() + interval '1 hour' end
        from generate_series(1, ${many}) n`
        yield* sql`
        insert into sluice.chunk_queue (call_id, namespace, schema_identity, schema_version)
        select 'first', 'archive', 'schemas.clinic.ward.note', 1`
        // the oldest of all
        yield* sql`update sluice.chunk_queue set rank = '2020-01-01', recorded_at = '2020-01-01' where namespace = 'archive'`
        yield* sql.unsafe("vacuum analyze sluice.chunk_queue")
        const all = yield* inspector.exactStatus
        expect(all.map(({ about, inFlight, ready, scheduled }) => [about, ready, inFlight, scheduled])).toEqual([
          [false, 1, 0, 0],
          [false, 74_955, 45, 0],
          [false, 24_885, 15, 100]
        ])
        const found = yield* inspector.status
        // about the ready, of which there are many; all else is exact
        const aside = { about: true, due: 0, ready: 0 }
        expect(found.map((kind) => ({ ...kind, ...aside }))).toEqual(all.map((kind) => ({ ...kind, ...aside })))
        expect(found.map(({ about }) => about)).toEqual([true, true, true])
        found.forEach(({ due, namespace, ready, scheduled }, index) => {
          // one of a sample stands for several
          if (namespace === "archive") expect(ready).toBeGreaterThanOrEqual(1)
          else expect(Math.abs(ready / (all[index]?.ready ?? 0) - 1)).toBeLessThan(0.25)
          expect(due).toBe(ready + scheduled)
        })
        expect(yield* rowsRead("chunk_queue", inspector.status)).toBeLessThan(0.6 * many)
        // few are counted
        yield* sql`delete from sluice.chunk_queue where seq % 10 <> 0`
        expect(yield* inspector.status).toEqual(yield* inspector.exactStatus)
      }).pipe(Effect.provide(layer(1))),
    120_000
  )

  it.live("is counted beside a worker's beats, which do not wait for it", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const store = yield* ChunkStore.ChunkStore
      yield* persist(1, portion)
      // nobody can count as long as this is locked
      const held = yield* sql.reserve
      yield* held.executeValuesUnprepared("begin", [])
      yield* Effect.addFinalizer(() => Effect.ignore(held.executeValuesUnprepared("rollback", [])))
      yield* held.executeValuesUnprepared("lock table sluice.ledger_place in access exclusive mode", [])
      expect(yield* store.beat("w", [])).toMatchObject({ unparked: 0 })
      yield* held.executeValuesUnprepared("rollback", [])
      // by the beats alone
      yield* Effect.repeat(Effect.andThen(store.beat("w", []), Effect.delay(counted, 20)), {
        until: (now) => now === portion
      })
      yield* expectRight
      // a beat that waited for the lock would wait for so long
    }).pipe(Effect.scoped, Effect.provide(layer(5, { statementTimeout: Duration.minutes(10) }))), 120_000)

  it.live(
    "reads some thousands of the calls that may be pruned, and says about how many there are",
    () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const retention = yield* Retention.Retention
        // of each ten one is outstanding
        yield* sql`
        insert into sluice.service_call (call_id, namespace, service, correlation_id, status, outputs, recorded_at)
        select 'call-' || n, 'clinic', 'services.clinic.ward.take-notes', 'call-' || n, 'succeeded', array['{}'::json],
          now() - interval '2 days' + n * interval '1 second'
        from generate_series(1, 30000) n`
        yield* sql`
        insert into sluice.chunk_queue (call_id, namespace, schema_identity, schema_version)
        select 'call-' || n, 'clinic', 'schemas.clinic.ward.note', 1 from generate_series(1, 30000) n where n % 10 = 0`
        yield* sql`
        insert into sluice.chunk_failure (call_id, schema_identity, attempt, handler, kind, message, at)
        select 'call-' || n, 'schemas.clinic.ward.note', 1, 'h', 'rejected', 'no bed', now() - interval '2 days'
        from generate_series(1, 100) n`
        yield* sql.unsafe("vacuum analyze sluice.service_call, sluice.chunk_queue, sluice.chunk_failure")
        const policy = { payloads: "1 day", failures: "1 day" } as const
        const preview = retention.preview(policy)
        expect(yield* retention.preview(policy, { exact: true }))
          .toEqual({ payloads: 27_000, discarded: 0, failures: 90, answers: 0, ends: 0 })
        const found = yield* preview
        expect(found).toMatchObject({ about: ["payloads"], discarded: 0, failures: 90, answers: 0, ends: 0 })
        expect(Math.abs(found.payloads / 27_000 - 1)).toBeLessThan(0.1)
        expect(yield* rowsRead("service_call", preview)).toBeLessThanOrEqual(portion + 1)
        expect(yield* rowsRead("chunk_queue", preview)).toBeLessThanOrEqual(portion + 1)
        // few are counted
        yield* sql`update sluice.service_call set recorded_at = now() where call_id not like 'call-1__'`
        expect(yield* preview).toEqual({ payloads: 90, discarded: 0, failures: 90, answers: 0, ends: 0 })
      }).pipe(Effect.provide(layer(1))),
    120_000
  )
})
