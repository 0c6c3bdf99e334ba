/**
 * Recorded and persisted in one commit, on real Postgres: what is written, and what becomes of an answer when something happens
 * to it before it is recorded.
 */
import { layer } from "@effect/vitest"
import {
  CallRecorder,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  Settings
} from "effect-sluice"
import * as Pglite from "effect-sluice/store/Pglite"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import * as Postgres from "../support/Postgres.ts"

class Note extends Output.make("schemas.clinic.ward.note", {
  schema: Schema.Struct({
    text: Schema.String,
    trouble: Schema.optionalKey(Schema.Literals(["waits", "waits and fails", "cut once", "swallows"]))
  })
}) {}

const runs = new Map<string, number>()
const may = Latch.makeUnsafe(false)

const notes = HandlerPlugin.layer("clinic", Note, {
  persist: Effect.fnUntraced(function*({ call, output: { text, trouble } }) {
    const sql = yield* SqlClient.SqlClient
    const run = (runs.get(call.callId) ?? 0) + 1
    runs.set(call.callId, run)
    const rows = yield* sql<{ id: number }>`
      insert into note (call_id, text) values (${call.callId}, ${text}) returning id`
    if (trouble === "waits" || trouble === "waits and fails") yield* may.await
    if (trouble === "waits and fails") return yield* Effect.fail(new Error("the ward is closed"))
    if (trouble === "cut once" && run === 1) yield* sql`select pg_terminate_backend(pg_backend_pid())`
    if (trouble === "swallows") yield* Effect.ignore(sql`select 1 / 0`)
    return rows.map(({ id }) => DomainObject.make("clinic.Note", id))
  })
})

const table = Layer.effectDiscard(
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`create table note (id serial primary key, call_id text not null, text text not null)`
  )
)

const postgres = Layer.unwrap(Effect.sync(() => Postgres.layer()))

const application = (
  options: Settings.Options,
  database: Layer.Layer<SqlClient.SqlClient, unknown> = postgres
) =>
  Layer.merge(Drain.layer, CallRecorder.layer).pipe(
    Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(notes), Layer.fresh)),
    Layer.provide(DomainEvents.layer),
    Layer.provideMerge(Layer.merge(PgStore.layer, table)),
    Layer.provideMerge(Settings.layer(options)),
    Layer.provideMerge(database)
  )

type Trouble = NonNullable<typeof Note.schema.Type["trouble"]>
const call = (callId: string, trouble?: Trouble, fields: object = {}) => ({
  callId,
  namespace: "clinic",
  service: "services.clinic.ward.ask",
  outputs: [{
    schema: Note.identity,
    version: 1,
    data: { text: callId, ...(trouble === undefined ? {} : { trouble }) }
  }],
  ...fields
})
const recordNow = (...args: Parameters<typeof call>) => Drain.Drain.use((drain) => drain.recordNow(call(...args)))

/** What there is of a call. */
const found = Effect.fnUntraced(function*(callId: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<Readonly<Record<"calls" | "queued" | "attempts" | "held" | "ledger" | "notes", number>>>`
    select (select count(*)::int from sluice.service_call where call_id = ${callId}) as calls,
      (select count(*)::int from sluice.chunk_queue where call_id = ${callId}) as queued,
      (select sum(attempts)::int from sluice.chunk_queue where call_id = ${callId}) as attempts,
      (select count(*)::int from sluice.chunk_queue where call_id = ${callId} and lease_token is not null) as held,
      (select count(*)::int from sluice.persisted_chunk where call_id = ${callId}) as ledger,
      (select count(*)::int from note where call_id = ${callId}) as notes`
  return { ...row!, runs: runs.get(callId) ?? 0 }
})
const persisted = { calls: 1, queued: 0, attempts: null, held: 0, ledger: 1, notes: 1 }
const recorded = { calls: 1, queued: 1, attempts: 0, held: 0, ledger: 0, notes: 0 }
const untilRecorded = (callId: string) => Effect.repeat(found(callId), { until: ({ calls }) => calls === 1 })

layer(
  application({ recordWithin: "10 minutes" }),
  { excludeTestServices: true, timeout: 60_000 }
)("recordNow", (it) => {
  it.effect("is one commit", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      expect(yield* recordNow("a")).toHaveLength(1)
      expect(yield* found("a")).toEqual({ ...persisted, runs: 1 })
      const [row] = yield* sql<{ transactions: number }>`
        select count(distinct xmin::text)::int as transactions from (
          select xmin from sluice.service_call where call_id = 'a'
          union all select xmin from sluice.persisted_chunk where call_id = 'a'
          union all select xmin from note where call_id = 'a'
        ) rows`
      expect(row).toEqual({ transactions: 1 })
    }))

  it.effect("runs a handler again whose connection was lost, and charges nobody", () =>
    Effect.gen(function*() {
      expect(yield* recordNow("cut", "cut once")).toHaveLength(1)
      expect(yield* found("cut")).toEqual({ ...persisted, runs: 2 })
    }))

  it.effect("charges a handler that swallows an error of the database for the one run there was", () =>
    Effect.gen(function*() {
      expect(yield* Effect.flip(recordNow("swallows", "swallows"))).toMatchObject({ _tag: "HandlerFailed", attempt: 1 })
      expect(yield* found("swallows")).toEqual({ ...recorded, attempts: 1, runs: 1 })
    }))

  it.effect("says what the database refuses, and records nothing", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`alter table sluice.service_call add constraint ward_is_open
        check (context ->> 'ward' is distinct from 'closed')`
      const refused = recordNow("refused", undefined, { context: { ward: "closed" } })
      expect(yield* Effect.flip(refused)).toMatchObject({
        _tag: "CallRefused",
        message: expect.stringContaining("ward_is_open")
      })
      expect(yield* found("refused")).toMatchObject({ calls: 0, queued: 0, notes: 0 })
    }))

  it.effect("yields to who has recorded the call meanwhile", () =>
    Effect.gen(function*() {
      const { drain, recorder } = yield* Effect.all({ drain: Drain.Drain, recorder: CallRecorder.CallRecorder })
      const slow = yield* Effect.forkChild(drain.recordNow(call("raced", "waits")), { startImmediately: true })
      yield* Effect.repeat(Effect.sync(() => runs.get("raced")), { until: (run) => run === 1 })
      expect(yield* recorder.record(call("raced", "waits"))).toBe("recorded")
      const other = yield* Effect.forkChild(drain.cycle)
      yield* Effect.repeat(Effect.sync(() => runs.get("raced")), { until: (run) => run === 2 })
      yield* may.open
      expect(yield* Fiber.join(slow)).toHaveLength(1)
      expect(yield* Fiber.join(other)).toMatchObject({ persisted: 1 })
      expect(yield* found("raced")).toEqual({ ...persisted, runs: 2 })
      // with other content it is a conflict
      yield* may.close
      const another = yield* Effect.forkChild(Effect.flip(drain.recordNow(call("taken", "waits"))))
      yield* Effect.repeat(Effect.sync(() => runs.get("taken")), { until: (run) => run === 1 })
      yield* recorder.record(call("taken"))
      yield* may.open
      expect(yield* Fiber.join(another)).toMatchObject({ _tag: "CallConflict" })
      expect(yield* found("taken")).toMatchObject({ calls: 1, notes: 0 })
    }))
})

layer(
  application({ recordWithin: "50 millis" }),
  { excludeTestServices: true, timeout: 60_000 }
)("recordNow of a handler that takes long", (it) => {
  it.effect("has recorded the call meanwhile, which nobody else claims, and runs once", () =>
    Effect.gen(function*() {
      yield* may.close
      const slow = yield* Effect.forkChild(recordNow("slow", "waits"))
      yield* untilRecorded("slow")
      expect(yield* found("slow")).toEqual({ ...recorded, held: 1, runs: 1 })
      expect(yield* Drain.Drain.use((drain) => drain.cycle)).toMatchObject({ claimed: 0 })
      yield* may.open
      expect(yield* Fiber.join(slow)).toHaveLength(1)
      expect(yield* found("slow")).toEqual({ ...persisted, runs: 1 })
    }))

  it.effect("charges it once when it fails after all", () =>
    Effect.gen(function*() {
      yield* may.close
      const slow = yield* Effect.forkChild(Effect.flip(recordNow("fails", "waits and fails")))
      yield* untilRecorded("fails")
      yield* may.open
      expect(yield* Fiber.join(slow)).toMatchObject({ _tag: "HandlerFailed", attempt: 1 })
      expect(yield* found("fails")).toEqual({ ...recorded, attempts: 1, runs: 1 })
    }))

  it.effect("gives it back when it is interrupted", () =>
    Effect.gen(function*() {
      yield* may.close
      const slow = yield* Effect.forkChild(recordNow("cut", "waits"))
      yield* untilRecorded("cut")
      yield* Fiber.interrupt(slow)
      expect(yield* found("cut")).toMatchObject(recorded)
      yield* may.open
      expect(yield* Drain.Drain.use((drain) => drain.cycle)).toMatchObject({ persisted: 1 })
    }))
})

layer(
  application({ recordWithin: "20 millis" }, Pglite.layer()),
  { excludeTestServices: true, timeout: 60_000 }
)("recordNow by a client of one connection", (it) => {
  it.effect("records the call in the handlers' transaction, however long that takes", () =>
    Effect.gen(function*() {
      yield* may.close
      const slow = yield* Effect.forkChild(recordNow("single", "waits"))
      yield* Effect.sleep("100 millis")
      yield* may.open
      expect(yield* Fiber.join(slow)).toHaveLength(1)
      expect(yield* found("single")).toMatchObject({ ...persisted, runs: 1 })
    }))
})
