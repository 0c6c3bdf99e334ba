/**
 * What recording costs, beside the bare inserts that it must do: the same rows into the same tables by the same client, once
 * for calls that never come twice, and once so that a call that comes twice has no effect.
 */
import { CallRecorder } from "effect-sluice"
import * as Settings from "effect-sluice/Settings"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { createDatabase, dropDatabase } from "./harness/database.ts"
import { machine, progress, type Result } from "./harness/output.ts"
import { inTurns, median, ofRounds, percentile } from "./harness/rounds.ts"
import { startServer } from "./harness/server.ts"
import { type BenchOptions, wanted } from "./harness/settings.ts"
import { client, PatientReply, toCall } from "./systems/sluice.ts"
import { type Call, calls } from "./work.ts"

const text = ({ payload }: Call) => JSON.stringify({ schema: PatientReply.identity, version: 1, data: payload })

/** The ways to record. */
type Way = "bare" | "idempotent" | "sluice"

/** A call and its queue row, inserted without any check. */
const bareOne = (sql: SqlClient.SqlClient, call: Call, way: Way) => {
  const outputs = text(call)
  return sql`
    with recorded as (
      insert into sluice.service_call (
        call_id, namespace, service, correlation_id, status, outputs, finished_at
      ) values (
        ${call.callId}, 'chatlab', 'services.chatlab.standardized_patient.generate-reply', ${call.callId}, 'succeeded',
        array[${outputs}::json], now()
      )
      ${way === "bare" ? sql`` : sql`on conflict (call_id) do nothing returning call_id`}
    )
    insert into sluice.chunk_queue (schema_version, bytes, namespace, schema_identity, call_id)
    ${
    way === "bare"
      ? sql`values (1, ${outputs.length}::int, 'chatlab', ${PatientReply.identity}, ${call.callId})`
      : sql`select 1, ${outputs.length}::int, 'chatlab', ${PatientReply.identity}, call_id from recorded returning call_id`
  }`
}

const bareMany = (sql: SqlClient.SqlClient, some: ReadonlyArray<Call>, way: Way) => {
  const outputs = some.map(text)
  return sql`
    with given as (
      select * from unnest(
        ${some.map((call) => call.callId)}::text[], ${outputs}::text[], ${outputs.map((one) => one.length)}::int[]
      ) with ordinality as g(call_id, outputs, bytes, n)
    ), recorded as (
      insert into sluice.service_call (
        call_id, namespace, service, correlation_id, status, outputs, finished_at
      )
      select call_id, 'chatlab', 'services.chatlab.standardized_patient.generate-reply', call_id, 'succeeded',
        array[outputs::json], now()
      from given order by n
      ${way === "bare" ? sql`` : sql`on conflict (call_id) do nothing returning call_id`}
    )
    insert into sluice.chunk_queue (schema_version, bytes, namespace, schema_identity, call_id)
    select 1, bytes, 'chatlab', ${PatientReply.identity}, call_id
    from given ${way === "bare" ? sql`order by n` : sql`join recorded using (call_id) order by n returning call_id`}`
}

/** One way to record: by Sluice, and bare. */
interface Case {
  /** Its name for `--only`. */
  readonly part: string
  readonly name: string
  readonly calls: number
  readonly inFlight: number
  /** How many calls one recording takes. */
  readonly size: number
  readonly inTransaction: boolean
}

const cases: ReadonlyArray<Case> = [
  { part: "one", name: "one at a time", calls: 1, inFlight: 1, size: 1, inTransaction: false },
  { part: "20", name: "20 in flight", calls: 4, inFlight: 20, size: 1, inTransaction: false },
  { part: "64", name: "64 in flight", calls: 4, inFlight: 64, size: 1, inTransaction: false },
  {
    part: "transaction",
    name: "in the caller's transaction, 20 in flight",
    calls: 4,
    inFlight: 20,
    size: 1,
    inTransaction: true
  },
  { part: "many", name: "recordMany of 100, 2 in flight", calls: 12, inFlight: 2, size: 100, inTransaction: false }
]

/** The row of the application that is committed with the call. */
const applicationRow = (sql: SqlClient.SqlClient, call: Call) =>
  sql`insert into bench_turn (call_id) values (${call.callId})`

const measure = (server: string, one: Case, way: Way, total: number) =>
  Effect.gen(function*() {
    const url = yield* Effect.promise(() => createDatabase(server, "bench"))
    const measured = yield* Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const recorder = yield* CallRecorder.CallRecorder
      const millis: Array<number> = []
      yield* sql`create table bench_turn (call_id text primary key)`
      const record = (some: ReadonlyArray<Call>) => {
        const [first] = some
        if (first === undefined) return Effect.void
        const write: Effect.Effect<unknown, unknown> = way !== "sluice"
          ? some.length === 1 ? bareOne(sql, first, way) : bareMany(sql, some, way)
          : some.length === 1
          ? recorder.record(toCall(first))
          : recorder.recordMany(some.map(toCall))
        const work = one.inTransaction ? sql.withTransaction(Effect.andThen(applicationRow(sql, first), write)) : write
        return Effect.suspend(() => {
          const at = performance.now()
          return Effect.map(work, () => void millis.push(performance.now() - at))
        })
      }
      const run = (from: number, count: number) => {
        const portions = Array.from(
          { length: Math.ceil(count / one.size) },
          (_, n) => calls(from + n * one.size, one.size)
        )
        return Effect.forEach(portions, record, { concurrency: one.inFlight, discard: true })
      }
      yield* run(0, Math.min(2000, total))
      millis.length = 0
      const began = performance.now()
      yield* run(1_000_000, total)
      return { rate: total / ((performance.now() - began) / 1000), p50: percentile(millis, 50) }
    }).pipe(
      Effect.provide(
        CallRecorder.layer.pipe(
          Layer.provideMerge(PgStore.layer),
          Layer.provideMerge(Settings.layer()),
          Layer.provideMerge(client(url, one.inFlight + 2))
        ),
        { local: true }
      )
    )
    yield* Effect.promise(() => dropDatabase(server, "bench"))
    return measured
  }).pipe(Effect.runPromise)

/** The bench. */
export const record = async (options: BenchOptions): Promise<Result> => {
  const records = options.records ?? 5000
  const chosen = cases.filter(({ part }) => wanted(options, part))
  const ways = ["bare", "idempotent", "sluice"] as const
  const subjects = chosen.flatMap((one) => ways.map((way) => ({ one, way })))
  const server = await startServer(options.postgres)
  try {
    const runs = await inTurns(subjects, options.rounds, async ({ one, way }, round) => {
      const measured = await measure(server.url(), one, way, records * one.calls)
      progress(
        `round ${round}: ${one.name}, ${way}: ${Math.round(measured.rate)} a second, p50 ${measured.p50.toFixed(2)} ms`
      )
      return measured
    })
    const figureOf = (name: string, way: Way, figure: "rate" | "p50") =>
      median(
        [...runs].flatMap(([subject, measured]) =>
          subject.one.name === name && subject.way === way ? measured.map((run) => run[figure]) : []
        )
      )
    const rateOf = (name: string, way: Way) => figureOf(name, way, "rate")
    return {
      bench: "record",
      ground: [machine(), server.description],
      tables: [{
        title: `Recording calls of 1 KB, ${ofRounds(options.rounds)}`,
        columns: [
          { field: "case", heading: "case" },
          { field: "bare", heading: "bare inserts/s" },
          { field: "idempotent", heading: "that may come twice/s" },
          { field: "perSecond", heading: "CallRecorder/s" },
          { field: "ofBare", heading: "of bare", digits: 2 },
          { field: "ofIdempotent", heading: "of those that may", digits: 2 },
          { field: "bareP50", heading: "bare p50 ms", digits: 2 },
          { field: "p50", heading: "CallRecorder p50 ms", digits: 2 }
        ],
        rows: chosen.map(({ name }) => ({
          case: name,
          bare: rateOf(name, "bare"),
          idempotent: rateOf(name, "idempotent"),
          perSecond: rateOf(name, "sluice"),
          ofBare: rateOf(name, "sluice") / rateOf(name, "bare"),
          ofIdempotent: rateOf(name, "sluice") / rateOf(name, "idempotent"),
          bareP50: figureOf(name, "bare", "p50"),
          p50: figureOf(name, "sluice", "p50")
        }))
      }]
    }
  } finally {
    await server.remove()
  }
}
