/**
 * Recorded and persisted by one statement, on real Postgres: what becomes of an answer whose statement fails, waits or is
 * cut off.
 */
import { layer } from "@effect/vitest"
import {
  CallRecorder,
  DomainEvents,
  Drain,
  Erasure,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  Settings,
  TableHandler
} from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import * as Postgres from "../support/Postgres.ts"

class Note extends Output.make("schemas.clinic.ward.note", { schema: Schema.Struct({ text: Schema.String }) }) {}
class Card extends Output.make("schemas.clinic.ward.card", { schema: Schema.Struct({ bed: Schema.String }) }) {}

const handlers = Layer.merge(
  HandlerPlugin.layer(
    "clinic",
    Note,
    TableHandler.make(Note, {
      table: "note",
      object: "clinic.Note",
      columns: ({ call, output }) => ({ call_id: call.callId, text: output.text })
    })
  ),
  HandlerPlugin.layer(
    "clinic",
    Card,
    TableHandler.make(Card, {
      table: "card",
      object: "clinic.Card",
      id: "bed",
      key: ["bed"],
      columns: ({ call, output }) => ({ bed: output.bed, call_id: call.callId })
    })
  )
)

const tables = Layer.effectDiscard(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table note (
    id serial primary key, call_id text not null, text text not null check (text <> 'refused')
  )`
  yield* sql`create table card (bed text primary key, call_id text not null)`
  yield* sql`create function leave_out() returns trigger language plpgsql as
    'begin if new.text = ''left out'' then return null; end if; return new; end'`
  yield* sql`create trigger leave_out before insert on note for each row execute function leave_out()`
}))

const application = (options: Settings.Options) =>
  Layer.merge(Drain.layer, CallRecorder.layer).pipe(
    Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handlers), Layer.fresh)),
    Layer.provide(DomainEvents.layer),
    Layer.provideMerge(Layer.merge(PgStore.layer, tables)),
    Layer.provideMerge(Settings.layer(options)),
    Layer.provideMerge(Layer.unwrap(Effect.sync(() => Postgres.layer())))
  )

const recordNow = Effect.fnUntraced(function*(callId: string, text = callId) {
  const drain = yield* Drain.Drain
  const outputs = [yield* Note.encode({ text })]
  return yield* drain.recordNow({ callId, namespace: "clinic", service: "services.clinic.ward.ask", outputs })
})

/** What there is of a call. */
const found = Effect.fnUntraced(function*(callId: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<Readonly<Record<"calls" | "queued" | "attempts" | "failures" | "ledger" | "notes", number>>>`
    select (select count(*)::int from sluice.service_call where call_id = ${callId}) as calls,
      (select count(*)::int from sluice.chunk_queue where call_id = ${callId}) as queued,
      (select sum(attempts)::int from sluice.chunk_queue where call_id = ${callId}) as attempts,
      (select count(*)::int from sluice.chunk_failure where call_id = ${callId}) as failures,
      (select count(*)::int from sluice.persisted_chunk where call_id = ${callId}) as ledger,
      (select count(*)::int from note where call_id = ${callId}) as notes`
  return row!
})
const persisted = { calls: 1, queued: 0, attempts: null, failures: 0, ledger: 1, notes: 1 }
const charged = { calls: 1, queued: 1, attempts: 1, failures: 1, ledger: 0, notes: 0 }

/** Runs an effect while a transaction holds the table. */
const whileHeld = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
  const sql = yield* SqlClient.SqlClient
  const isHeld = yield* Deferred.make<void>()
  const may = yield* Deferred.make<void>()
  const holder = yield* Effect.forkChild(sql.withTransaction(
    sql`lock table note in exclusive mode`.pipe(
      Effect.andThen(Deferred.succeed(isHeld, undefined)),
      Effect.andThen(Deferred.await(may))
    )
  ))
  yield* Deferred.await(isHeld)
  const result = yield* effect
  yield* Deferred.succeed(may, undefined)
  yield* Fiber.join(holder)
  return result
})

/** Waits until a statement waits for the table, and returns its backend. */
const untilItWaits = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const rows = sql<{ pid: number }>`
    select pid from pg_locks where relation = 'note'::regclass and not granted`
  return (yield* Effect.repeat(rows, { until: ({ length }) => length > 0 }))[0]!.pid
})

layer(
  application({ recordWithin: "10 minutes" }),
  { excludeTestServices: true, timeout: 60_000 }
)("recordNow by a declared handler", (it) => {
  it.effect("is one statement's commit, and nothing was ever in the queue", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const seqs = sql<{ seq: string }>`select last_value::text as seq from sluice.chunk_seq`
      expect(yield* recordNow("a")).toMatchObject([{ type: "clinic.Note" }])
      expect(yield* found("a")).toEqual(persisted)
      const [row] = yield* sql<{ transactions: number; commands: number }>`
        select count(distinct xmin::text)::int as transactions, count(distinct cmin::text)::int as commands from (
          select xmin, cmin from sluice.service_call where call_id = 'a'
          union all select xmin, cmin from sluice.persisted_chunk where call_id = 'a'
          union all select xmin, cmin from note where call_id = 'a'
        ) rows`
      expect(row).toEqual({ transactions: 1, commands: 1 })
      const [line] = yield* sql<{ seq: string }>`select seq::text from sluice.persisted_chunk where call_id = 'a'`
      expect((yield* seqs)[0]).toEqual(line)
    }))

  it.effect("overwrites the row of its key; two answers of one call with one key are written in their order", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const drain = yield* Drain.Drain
      const card = yield* Card.encode({ bed: "7" })
      const call = (callId: string, outputs: ReadonlyArray<typeof card>) =>
        drain.recordNow({ callId, namespace: "clinic", service: "services.clinic.ward.ask", outputs })
      for (const callId of ["one", "two"]) {
        expect(yield* call(callId, [card])).toMatchObject([{ id: "7" }])
        expect(yield* sql`select * from card`).toEqual([{ bed: "7", call_id: callId }])
      }
      expect(yield* call("both", [{ ...card, part: "1" }, { ...card, part: "2" }])).toHaveLength(2)
      expect(yield* sql`select * from card`).toEqual([{ bed: "7", call_id: "both" }])
    }))

  for (const [what, text] of [["the table refuses", "refused"], ["a trigger leaves out", "left out"]] as const) {
    it.effect(`an answer whose row ${what} is recorded, and charged one attempt`, () =>
      Effect.gen(function*() {
        expect(yield* Effect.flip(recordNow(text))).toMatchObject({ _tag: "HandlerFailed", attempt: 1 })
        expect(yield* found(text)).toEqual(charged)
      }))
  }

  it.effect("an erased call stays erased", () =>
    Effect.gen(function*() {
      yield* recordNow("erased")
      yield* Erasure.Erasure.use((erasure) =>
        erasure.erase({ _tag: "Call", callId: "erased" }, { because: "the patient asked for it", by: "records office" })
      )
      expect(yield* Effect.flip(recordNow("erased"))).toMatchObject({ _tag: "CallErased" })
    }))

  it.effect("its backend is killed while it waits for a lock: it is persisted once, and nobody is charged", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const one = yield* whileHeld(Effect.gen(function*() {
        const one = yield* Effect.forkChild(recordNow("killed"))
        const pid = yield* untilItWaits
        yield* sql`select pg_terminate_backend(${pid})`
        return one
      }))
      expect(yield* Fiber.join(one)).toHaveLength(1)
      expect(yield* found("killed")).toEqual(persisted)
    }))

  it.effect("its caller is gone while it waits for a lock: the answer is recorded, and left to the workers", () =>
    Effect.gen(function*() {
      yield* whileHeld(Effect.gen(function*() {
        const one = yield* Effect.forkChild(recordNow("gone"))
        yield* untilItWaits
        yield* Fiber.interrupt(one)
        expect(yield* found("gone")).toEqual({ ...charged, attempts: 0, failures: 0 })
      }))
      yield* Drain.Drain.use((drain) => drain.untilEmpty)
      expect(yield* found("gone")).toEqual(persisted)
    }))

  it.effect("a table that no longer fits charges nobody: the answer is recorded, and parked", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* recordNow("fits")
      yield* sql`alter table note rename column text to words`
      expect(yield* Effect.flip(recordNow("misfit"))).toMatchObject({ _tag: expect.stringMatching(/./) })
      yield* sql`alter table note rename column words to text`
      expect(yield* found("misfit")).toEqual({ ...charged, attempts: 0, failures: 0 })
    }))
})

layer(
  application({ recordWithin: "50 millis", statementTimeout: "10 minutes", handlerTimeout: "10 minutes" }),
  { excludeTestServices: true, timeout: 60_000 }
)("recordNow by a declared handler that waits longer than an answer may stay unrecorded", (it) => {
  for (const [what, callId] of [["to compile", "compiles"], ["to plan", "plans"]] as const) {
    it.effect(`has recorded the call while it waits ${what} the statement`, () =>
      Effect.gen(function*() {
        if (callId === "plans") yield* recordNow("compiled before")
        const slow = yield* whileHeld(Effect.gen(function*() {
          const slow = yield* Effect.forkChild(recordNow(callId))
          yield* Effect.repeat(found(callId), { until: ({ calls }) => calls === 1 })
          expect(yield* found(callId)).toMatchObject({ queued: 1, notes: 0 })
          return slow
        }))
        expect(yield* Fiber.join(slow)).toHaveLength(1)
        expect(yield* found(callId)).toEqual(persisted)
      }))
  }
})
