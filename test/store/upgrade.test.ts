/**
 * From the version before call facts, on a database full of its data: its programs go on recording and draining while the
 * tables are changed and afterwards, and wait for nothing.
 */
import { it } from "@effect/vitest"
import { CallRecorder, Inspector, Settings } from "effect-sluice"
import * as Migrations from "effect-sluice/store/Migrations"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { migrationFiles } from "../../src/store/pg/migrationFiles.ts"
import { fromFiles } from "../../src/store/pg/statements.ts"
import { call, reply, settle } from "../contract/operators/dialogues.ts"
import { client, freshDatabase } from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

const before = fromFiles(
  Object.fromEntries(Object.entries(migrationFiles).filter(([name]) => name < "0006")),
  "sluice"
)
const many = 20_000

const service = "services.chatlab.standardized_patient.generate-reply"

/** As the version before recorded: a begun call is completed, one that has succeeded stays. */
const recordAsBefore = (callId: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql`
      with recorded as (
        insert into sluice.service_call as c (
          call_id, namespace, service, correlation_id, status, context, input, details, trace, outputs, ordering_key,
          priority, not_before, started_at, finished_at
        ) values (
          ${callId}, 'chatlab', ${service}, ${callId}, 'succeeded', '{"simulationId":"knee"}',
          '{"user_message":"Does it hurt?"}', '{"model":"m"}', null,
          array[${
      JSON.stringify({ schema: reply, version: 1, data: { text: `Ouch, ${callId}.` } })
    }::json], null, 0, null, null, now()
        )
        on conflict (call_id) do update set
          namespace = excluded.namespace, service = excluded.service, correlation_id = excluded.correlation_id,
          status = 'succeeded', context = excluded.context, input = excluded.input, details = excluded.details,
          trace = excluded.trace, outputs = excluded.outputs, error = null,
          ordering_key = excluded.ordering_key, priority = excluded.priority, not_before = excluded.not_before,
          run_token = null, run_until = null, started_at = excluded.started_at, finished_at = excluded.finished_at,
          recorded_at = now()
        where c.status <> 'succeeded'
        returning call_id, namespace, ordering_key, priority, greatest(now(), not_before) as due_at
      )
      insert into sluice.chunk_queue (
        call_id, namespace, ordering_key, priority, due_at, rank, state, schema_identity, schema_version, part, bytes,
        shared_bytes
      )
      select call_id, namespace, ordering_key, priority, due_at, due_at, 'ready', ${reply}, 1, '', 100, 50 from recorded
      returning call_id`)

/**
 * As the version before claimed and persisted, in short: fenced by a token, the ledger's line in one statement with the end.
 */
const drainAsBefore = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql.withTransaction(Effect.gen(function*() {
    yield* sql`set local lock_timeout = '2s'`
    yield* sql`
      update sluice.chunk_queue set lease_token = '00000000-0000-0000-0000-000000000001', lease_until = now() + interval '1 minute'
      where seq in (
        select seq from sluice.chunk_queue where state = 'ready' and lease_token is null
        order by rank, seq limit 5 for update skip locked
      )`
  }))
  const claimed = yield* sql<{ seq: string }>`
    select q.seq, c.service, c.context, c.input, c.outputs[q.position + 1] as output, c.trace
    from sluice.chunk_queue q join sluice.service_call c using (call_id)
    where q.lease_token = '00000000-0000-0000-0000-000000000001'`
  yield* sql`
    with gone as (
      delete from sluice.chunk_queue where lease_token = '00000000-0000-0000-0000-000000000001' returning *
    )
    insert into sluice.persisted_chunk (
      call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects
    )
    select call_id, schema_identity, part, namespace, schema_version, 'chatlab/patient-reply', 1, '[]' from gone`
  return claimed.length
})

const fill = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    insert into sluice.service_call (
      call_id, namespace, service, correlation_id, status, context, input, details, outputs, error, finished_at
    )
    select 'old-' || n, 'chatlab', ${service}, 'old-' || n, case when n % 10 = 0 then 'failed' else 'succeeded' end,
      '{"simulationId":"knee"}', '{"user_message":"Does it hurt?"}', '{"model":"m"}',
      case when n % 10 <> 0 then array[json_build_object('schema', ${reply}::text, 'version', 1, 'data', n)] end,
      case when n % 10 = 0 then 'the model was down' end, now()
    from generate_series(1, ${many}) n`
  yield* sql`
    insert into sluice.chunk_queue (call_id, namespace, schema_identity, schema_version, bytes)
    select call_id, namespace, ${reply}, 1, 100 from sluice.service_call where status = 'succeeded' limit 200`
})

/** Where the tables' rows are kept: another place after a table was rewritten, under a lock that all wait for. */
const files = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  sql`
    select relname, relfilenode from pg_class
    where relnamespace = 'sluice'::regnamespace and relname in (
      'service_call', 'chunk_queue', 'persisted_chunk', 'dead_letter', 'chunk_failure'
    ) order by relname`)

const until = <E, R>(is: Effect.Effect<boolean, E, R>) => untilIt(is, (done) => done)

describe("from the version before call facts", () => {
  for (const version of [15, 18] as const) {
    it.live(
      `its programs record and drain while the tables change, and afterwards: Postgres ${version}`,
      () =>
        Effect.scoped(Effect.flatMap(freshDatabase(version), (url) =>
          Effect.gen(function*() {
            const sql = yield* SqlClient.SqlClient
            yield* Migrations.runAll(before)
            yield* fill
            const filesBefore = yield* files
            expect(filesBefore).toHaveLength(5)
            let n = 0
            let slowest = 0
            const one = Effect.gen(function*() {
              const began = performance.now()
              yield* recordAsBefore(`beside-${n++}`)
              yield* drainAsBefore
              slowest = Math.max(slowest, performance.now() - began)
            })
            yield* one
            // somebody's report of all calls holds up what changes their table
            const report = yield* sql.reserve
            yield* report.executeValuesUnprepared("begin", [])
            yield* Effect.addFinalizer(() => Effect.ignore(report.executeValuesUnprepared("rollback", [])))
            yield* report.executeValuesUnprepared("select count(*) from sluice.service_call", [])
            const lines: Array<string> = []
            const log = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
            const migrating = yield* Effect.forkChild(Effect.provide(Migrations.run, log))
            const beside = yield* Effect.forkChild(Effect.forever(one))
            /** Fails as soon as one of its statements does. */
            const going = (is: () => boolean) => Effect.raceFirst(until(Effect.sync(is)), Fiber.join(beside))
            yield* going(() => lines.length > 0)
            expect(lines[0]).toContain("migration 0006_call_facts: \"alter table sluice.service_call")
            const atThatTime = n
            yield* going(() => n > atThatTime + 20)
            expect(migrating.pollUnsafe()).toBeUndefined()
            yield* report.executeValuesUnprepared("rollback", [])
            expect((yield* Fiber.join(migrating))[0]).toEqual([6, "call_facts"])
            const migrated = n
            yield* going(() => n > migrated + 20)
            // none of its statements has failed
            expect(beside.pollUnsafe()).toBeUndefined()
            yield* Fiber.interrupt(beside)
            // a statement that waits gives up after a quarter of a second, and so does whoever stands behind it
            expect(slowest).toBeLessThan(20_000)
            expect(yield* Migrations.missing).toEqual([])
            expect(yield* files).toEqual(filesBefore)

            // new and old programs side by side
            yield* Effect.gen(function*() {
              const inspector = yield* Inspector.Inspector
              const recorder = yield* CallRecorder.CallRecorder
              const { outputs, ...spec } = call("new")
              const answered = (run: CallRecorder.Run) => run.answered({ text: "{", facts: { inputTokens: 3 } })
              yield* Effect.exit(recorder.run(spec, (run) => Effect.andThen(answered(run), Effect.fail("no"))))
              expect(Option.getOrThrow(yield* inspector.call("new"))).toMatchObject({ status: "invalid" })
              // an old program completes it, as it does a call that was begun
              expect(yield* recordAsBefore("new")).toHaveLength(1)
              expect(Option.getOrThrow(yield* recorder.find("new"))).toMatchObject({
                status: "succeeded",
                attempts: [{ outcome: "invalid", text: "{" }]
              })
              // what it failed, a new one runs again
              const again = { ...spec, callId: "old-10" }
              expect(yield* recorder.run(again, Effect.succeed(outputs))).toMatchObject({ ran: true })
              expect(Option.getOrThrow(yield* inspector.call("old-1"))).toMatchObject({ facts: {}, attempts: [] })
              expect(yield* recorder.record(call("beside-0", { details: { other: 1 } }))).toBe("unchanged")
              yield* recorder.record(call("facts", { facts: { requestModel: "m", inputTokens: 4 } }))
              yield* settle("persisted")
              expect(yield* inspector.usage({ by: "model" })).toMatchObject([
                { key: "m", calls: 1, inputTokens: 4 },
                { key: "", calls: 1, invalid: 1, inputTokens: 3 }
              ])
            }).pipe(Effect.provide(CallRecorder.layer.pipe(Layer.provideMerge(Layer.fresh(PgStore.layerStorage)))))
            const odd = sql`update sluice.service_call set status = 'odd' where call_id = 'old-1'`
            expect(yield* Effect.flip(odd)).toMatchObject({ _tag: "SqlError" })
            // what old programs persisted is counted as well
            const [ledger] = yield* sql<{ lines: number }>`select count(*)::int as lines from sluice.persisted_chunk`
            const kinds = yield* Effect.provide(
              Inspector.Inspector.use((inspector) => inspector.status),
              Layer.fresh(PgStore.layerStorage)
            )
            expect(kinds.reduce((sum, kind) => sum + kind.persisted, 0)).toBe(ledger?.lines)
            // the constraint holds for what is written; what was there is not read for it
            const [check] = yield* sql<{ valid: boolean }>`
              select convalidated as valid from pg_constraint where conname = 'service_call_status_check'`
            expect(check).toEqual({ valid: false })
          }).pipe(
            Effect.scoped,
            Effect.provide(client(url, { maxConnections: 20 })),
            Effect.provide(Settings.layer())
          ))),
      45_000
    )
  }
})
