/**
 * Recorded and persisted in one commit, on real Postgres: what is written, and what becomes of an answer when something
 * happens to it before it is recorded.
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
import { untilIt } from "../support/until.ts"

class Note extends Output.make("schemas.clinic.ward.note", {
  schema: Schema.Struct({
    text: Schema.String,
    trouble: Schema.optionalKey(Schema.Literals(["waits", "waits and fails", "cut once", "swallows"])),
    /** What the handler sends after its rows. */
    sends: Schema.optionalKey(Schema.Array(Schema.String))
  })
}) {}

const runs = new Map<string, number>()
const may = Latch.makeUnsafe(false)

const notes = HandlerPlugin.layer("clinic", Note, {
  persist: Effect.fnUntraced(function*({ call, output: { sends = [], text, trouble } }) {
    const sql = yield* SqlClient.SqlClient
    const run = (runs.get(call.callId) ?? 0) + 1
    runs.set(call.callId, run)
    const rows = yield* sql<{ id: number }>`
      insert into note (call_id, text) values (${call.callId}, ${text}) returning id`
    for (const statement of sends) yield* sql.unsafe(statement)
    if (trouble === "waits" || trouble === "waits and fails") yield* may.await
    if (trouble === "waits and fails") return yield* Effect.fail(new Error("the ward is closed"))
    if (trouble === "cut once" && run === 1) yield* sql`select pg_terminate_backend(pg_backend_pid())`
    if (trouble === "swallows") yield* Effect.ignore(sql`select 1 / 0`)
    return rows.map(({ id }) => DomainObject.make("clinic.Note", id))
  })
})

class Order extends Output.make("schemas.clinic.ward.order", {
  schema: Schema.Struct({ item: Schema.String, fails: Schema.optionalKey(Schema.Boolean) })
}) {}

const orders = HandlerPlugin.layer("clinic", Order, {
  persist: Effect.fnUntraced(function*({ call, output: { fails = false, item } }) {
    const sql = yield* SqlClient.SqlClient
    const run = (runs.get(`${call.callId} order`) ?? 0) + 1
    runs.set(`${call.callId} order`, run)
    const rows = yield* sql<{ id: number }>`
      insert into note (call_id, text) values (${call.callId}, ${item}) returning id`
    if (fails) return yield* Effect.fail(new Error("the pharmacy is closed"))
    return rows.map(({ id }) => DomainObject.make("clinic.Order", id))
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
    Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(Layer.merge(notes, orders)), Layer.fresh)),
    Layer.provide(DomainEvents.layer),
    Layer.provideMerge(Layer.merge(PgStore.layer, table)),
    Layer.provideMerge(Settings.layer(options)),
    Layer.provideMerge(database)
  )

type Trouble = NonNullable<typeof Note.schema.Type["trouble"]>
const call = (callId: string, trouble?: Trouble, fields: object = {}, sends?: ReadonlyArray<string>) => ({
  callId,
  namespace: "clinic",
  service: "services.clinic.ward.ask",
  outputs: [{
    schema: Note.identity,
    version: 1,
    data: { text: callId, ...(trouble === undefined ? {} : { trouble }), ...(sends === undefined ? {} : { sends }) }
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
const untilRecorded = (callId: string) => untilIt(found(callId), ({ calls }) => calls === 1)

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

  it.effect("is one commit of all that several handlers write", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { outputs } = call("several")
      const order = { schema: Order.identity, version: 1, data: { item: "x-ray" } }
      expect(
        (yield* recordNow("several", undefined, { outputs: [...outputs, order] })).map(({ type }) => type)
      ).toEqual(["clinic.Note", "clinic.Order"])
      const [row] = yield* sql<{ transactions: number; rows: number }>`
        select count(distinct xmin::text)::int as transactions, count(*)::int as rows from (
          select xmin from sluice.service_call where call_id = 'several'
          union all select xmin from sluice.persisted_chunk where call_id = 'several'
          union all select xmin from note where call_id = 'several'
        ) rows`
      expect(row).toEqual({ transactions: 1, rows: 5 })
      expect([runs.get("several"), runs.get("several order")]).toEqual([1, 1])
    }))

  it.effect("persists what does not fail of several handlers, and charges the other one attempt", () =>
    Effect.gen(function*() {
      const { outputs } = call("half")
      const order = { schema: Order.identity, version: 1, data: { item: "x-ray", fails: true } }
      expect(yield* Effect.flip(recordNow("half", undefined, { outputs: [...outputs, order] }))).toMatchObject({
        _tag: "HandlerFailed",
        schemaIdentity: Order.identity,
        attempt: 1
      })
      expect(yield* found("half")).toMatchObject({ calls: 1, queued: 1, attempts: 1, held: 0, ledger: 1, notes: 1 })
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

/** What a handler may change of its transaction and session, and what Sluice's own statements must not run under. */
const changes: Readonly<Record<string, ReadonlyArray<string>>> = {
  "a role without rights": ["set local role ward_guest"],
  "the session's role": ["set role ward_guest"],
  "the session's user": ["set local session authorization ward_guest"],
  "a search path with operators of its own": ["select set_config('search_path', 'ward_traps, pg_catalog', true)"],
  "the session's search path": ["set search_path to ward_traps, pg_catalog"],
  "constraints": ["set constraints all deferred"],
  "time limits": ["set local lock_timeout = '1ms'", "set local idle_in_transaction_session_timeout = '1min'"],
  "row security": ["set local row_security = off"],
  "temporary tables named like Sluice's, and like types": [
    "create temporary table service_call (hostile int)",
    "create temporary table persisted_chunk (hostile int)",
    "create temporary table text (hostile int)",
    "create temporary table jsonb (hostile int)"
  ],
  "an open savepoint": ["savepoint ward"],
  "an open cursor": ["declare ward cursor with hold for select 1"]
}

layer(
  application({ recordWithin: "10 minutes" }),
  { excludeTestServices: true, timeout: 60_000 }
)("recordNow of a handler that changes", (it) => {
  const prepare = Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(`do $$ begin create role ward_guest; exception when duplicate_object then null; end $$`)
    yield* sql`create schema if not exists ward_traps`
    yield* sql.unsafe(`create or replace function ward_traps.trap(text, text) returns boolean language plpgsql
      as $$ begin raise exception 'trapped'; end $$`)
    yield* sql.unsafe(`create operator ward_traps.= (function = ward_traps.trap, leftarg = text, rightarg = text)`)
    yield* sql.unsafe(`create operator ward_traps.<> (function = ward_traps.trap, leftarg = text, rightarg = text)`)
  })

  for (const [name, sends] of Object.entries(changes)) {
    it.effect(`${name}: it is persisted at its first run, and the next use of the connection finds nothing of it`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* Effect.ignore(prepare)
        const settings = sql`select current_user, session_user, current_setting('search_path') as path`
        const before = yield* settings
        expect(yield* recordNow(name, undefined, {}, sends)).toHaveLength(1)
        expect(yield* found(name)).toEqual({ ...persisted, runs: 1 })
        expect(yield* Effect.all([settings, settings], { concurrency: 2 })).toEqual([before, before])
      }))
  }

  it.effect("the mark of its transaction: it is charged once, and nothing is half done", () =>
    Effect.gen(function*() {
      const sends = ["select set_config('sluice.transaction', '', true)"]
      expect(yield* Effect.flip(recordNow("mark", undefined, {}, sends))).toMatchObject({
        _tag: "HandlerFailed",
        attempt: 1
      })
      expect(yield* found("mark")).toEqual({ ...recorded, attempts: 1, runs: 1 })
    }))
})

layer(
  application({ recordWithin: "10 minutes" }),
  { excludeTestServices: true, timeout: 60_000 }
)("recordNow of a call with an ordering key", (it) => {
  const keyed = { orderingKey: "knee" }

  it.effect("has recorded it before its handler runs: a later call of the key waits for it", () =>
    Effect.gen(function*() {
      yield* may.close
      const first = yield* Effect.forkChild(recordNow("first", "waits", keyed))
      yield* Effect.repeat(Effect.sync(() => runs.get("first")), { until: (run) => run === 1 })
      expect(yield* found("first")).toEqual({ ...recorded, held: 1, runs: 1 })
      expect(yield* CallRecorder.CallRecorder.use((recorder) => recorder.record(call("second", undefined, keyed))))
        .toBe(
          "recorded"
        )
      expect(yield* Drain.Drain.use((drain) => drain.cycle)).toMatchObject({ claimed: 0 })
      const third = yield* Effect.forkChild(recordNow("third", undefined, keyed))
      yield* untilRecorded("third")
      expect([runs.get("second"), runs.get("third")]).toEqual([undefined, undefined])
      yield* may.open
      expect(yield* Fiber.join(first)).toHaveLength(1)
      expect(yield* Drain.Drain.use((drain) => drain.untilEmpty)).toMatchObject({ dead: 0, retried: 0 })
      expect(yield* Fiber.join(third)).toHaveLength(1)
      const sql = yield* SqlClient.SqlClient
      expect((yield* sql<{ call_id: string }>`
        select call_id from note where call_id in ('first', 'second', 'third') order by id
      `).map((row) => row.call_id)).toEqual(["first", "second", "third"])
    }))

  it.effect("claims it with its recording: two commits, and no claim between them", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* recordNow("alone", undefined, { orderingKey: "hip" })
      expect(yield* found("alone")).toEqual({ ...persisted, runs: 1 })
      const [row] = yield* sql<{ transactions: number }>`
        select count(distinct xmin::text)::int as transactions from (
          select xmin from sluice.service_call where call_id = 'alone'
          union all select xmin from sluice.persisted_chunk where call_id = 'alone'
        ) rows`
      expect(row).toEqual({ transactions: 2 })
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
  application(
    { recordWithin: "10 minutes", lease: "1 second", statementTimeout: "10 minutes" },
    Layer.unwrap(Effect.sync(() => Postgres.layer(18, { maxConnections: 1 })))
  ),
  { excludeTestServices: true, timeout: 60_000 }
)("recordNow on a pool of one connection, whose lease is due to be renewed", (it) => {
  for (const fields of [{}, { orderingKey: "knee" }]) {
    it.effect(`waits for no connection but its own: ${JSON.stringify(fields)}`, () =>
      Effect.gen(function*() {
        yield* may.close
        const callId = `renewed ${JSON.stringify(fields)}`
        const slow = yield* Effect.forkChild(recordNow(callId, "waits", fields))
        yield* Effect.repeat(Effect.sync(() => runs.get(callId)), { until: (run) => run === 1 })
        // a renewal begins meanwhile
        yield* Effect.sleep("450 millis")
        yield* may.open
        expect(yield* Fiber.join(slow)).toHaveLength(1)
        expect(yield* found(callId)).toEqual({ ...persisted, runs: 1 })
      }))
  }
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
