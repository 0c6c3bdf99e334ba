/**
 * The drain on a real Postgres, where transactions and locks are what matters: errors of the database that are nobody's
 * fault, errors that are somebody's, and what a handler may do to the transaction it runs in.
 */
import { layer } from "@effect/vitest"
import {
  CallRecorder,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Settings
} from "effect-sluice"
import type { HandlerInput } from "effect-sluice/Handler"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import { Note, note, record } from "./support/clinic.ts"
import { chunkOf, counting, drainWith, persistNow, type Seen, untilEmpty } from "./support/drain.ts"
import * as inspect from "./support/inspect.ts"
import * as Postgres from "./support/Postgres.ts"
import { untilIt } from "./support/until.ts"

type Input = HandlerInput<typeof Note.schema.Type>

/** What a note's text makes its handler do, after it has written. */
const deeds: Readonly<
  Record<string, (sql: SqlClient.SqlClient, call: Input["call"]) => Effect.Effect<unknown, unknown>>
> = {
  "meets an error and lets it pass": (sql) => sql`select 1 / 0`,
  "swallows an error": (sql) => Effect.ignore(sql`select 1 / 0`),
  "swallows an error within a savepoint": (sql) => Effect.ignore(sql.withTransaction(sql`select 1 / 0`)),
  "breaks a constraint": (sql) => sql`insert into visit (id) values (1), (1)`,
  "breaks a constraint at the end": (sql) => sql`insert into visit (id, ward) values (2, 4711)`,
  "says that it was a serialization failure": (sql) => sql`do $$ begin raise exception using errcode = '40001'; end $$`,
  "says that the server stops": (sql) => sql`do $$ begin raise exception using errcode = '57P01'; end $$`,
  "writes in a transaction of its own": (sql, call) =>
    sql.withTransaction(sql`insert into note (call_id) values (${call.callId})`),
  "runs into a time limit of its own": (sql) =>
    Effect.andThen(sql`set local statement_timeout = 50`, sql`select pg_sleep(600)`),
  "does not get a lock in the time it gives itself": (sql) =>
    sql`do $$ begin raise exception using errcode = '55P03'; end $$`,
  "is refused at the end, in the application's own words": (sql) => sql`insert into refused values ('SL001')`,
  "is refused at the end, by a bug": (sql) => sql`insert into refused values ('42P01')`,
  "is refused at the end, for a conflict": (sql) => sql`insert into refused values ('40001')`,
  "is refused by a trigger on the ledger": (sql) => sql`set local test.ledger = 'refuses'`,
  "leaves a time limit that its settlement runs into": (sql) =>
    Effect.andThen(sql`set local test.ledger = 'sleeps'`, sql`set local statement_timeout = 50`)
}

/** How often each deed is done before it is left alone. */
const times = new Map<string, number>()

const handler = HandlerPlugin.layer(
  "clinic",
  Note,
  Effect.map(SqlClient.SqlClient, (sql) => ({
    persist: Effect.fnUntraced(function*({ call, output }: Input) {
      const [row] = yield* sql<{ id: number }>`insert into note (call_id) values (${call.callId}) returning id`
      const left = times.get(call.callId) ?? Infinity
      times.set(call.callId, left - 1)
      if (left > 0) yield* deeds[output.text]?.(sql, call) ?? Effect.void
      return DomainObject.make("clinic.Note", row?.id ?? 0)
    })
  }))
)

const application = Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
  Layer.provideMerge(HandlerRegistry.layer().pipe(Layer.provide(handler))),
  Layer.provideMerge(DomainEvents.layer),
  Layer.provideMerge(PgStore.layer),
  Layer.provideMerge(Settings.layer({ maxAttempts: 1 })),
  Layer.provideMerge(Layer.unwrap(Effect.sync(() => Postgres.layer())))
)

/** Who waits for a lock in this database; other tests of the server have their own. What says so anew in one transaction. */
const waitingHere = (sql: SqlClient.SqlClient) =>
  sql<{ pid: number }>`
    select w.pid from pg_locks w where not w.granted and exists (
      select from pg_locks h join pg_database d on d.oid = h.database
      where h.pid = w.pid and h.granted and d.datname = current_database()
    )`

layer(application, { excludeTestServices: true, timeout: 60_000 })("on Postgres", (it) => {
  const tables = Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.all([
      sql`create table if not exists note (id serial primary key, call_id text not null)`,
      sql`create table if not exists visit (
        id int primary key, ward int references visit deferrable initially deferred
      )`,
      sql`create table if not exists refused (code text not null)`,
      // refuses at the commit what is in the table
      sql`create or replace function refuse() returns trigger language plpgsql as $$
        begin raise exception 'refused' using errcode = new.code; end $$`,
      sql`drop trigger if exists refuses on refused`,
      sql`create constraint trigger refuses after insert on refused deferrable initially deferred
        for each row execute function refuse()`,
      // does to the ledger as the transaction says
      sql`create or replace function meddle() returns trigger language plpgsql as $$
        begin
          case current_setting('test.ledger', true)
            when 'refuses' then raise exception 'refused' using errcode = 'SL002';
            when 'sleeps' then perform pg_sleep(600);
            else null;
          end case;
          return new;
        end $$`,
      sql`create or replace trigger meddles before insert on sluice.persisted_chunk
        for each row execute function meddle()`
    ]))
  const notesOf = (callId: string) =>
    Effect.flatMap(
      SqlClient.SqlClient,
      (sql) => Effect.map(sql`select id from note where call_id = ${callId}`, (rows) => rows.length)
    )

  /** A deed among mates, and how it ends: how its chunk is charged, and how many rows of its own it leaves. */
  const table: ReadonlyArray<readonly [deed: string, kind: string | undefined, rows: number]> = [
    ["meets an error and lets it pass", "failed", 0],
    ["swallows an error", "spoiled", 0],
    ["swallows an error within a savepoint", undefined, 1],
    ["breaks a constraint", "failed", 0],
    ["breaks a constraint at the end", "spoiled", 0],
    ["writes in a transaction of its own", undefined, 2],
    ["runs into a time limit of its own", "failed", 0],
    ["does not get a lock in the time it gives itself", "failed", 0],
    ["is refused at the end, in the application's own words", "spoiled", 0],
    ["is refused at the end, by a bug", "spoiled", 0],
    ["is refused by a trigger on the ledger", "spoiled", 0]
  ]
  const apart = /time limit|does not get a lock|trigger on the ledger/
  for (const [index, [deed, kind, rows]] of table.entries()) {
    it.effect(`a handler that ${deed}`, () =>
      Effect.gen(function*() {
        yield* tables
        const id = (n: number) => `${index}-${n}`
        yield* record(...Array.from({ length: 20 }, (_, n) => note(id(n), n === 11 ? { text: deed } : {})))
        const seen: Seen = { transactions: 0, sizes: [] }
        const report = yield* Effect.provide(untilEmpty, drainWith(counting(seen)))
        expect(report).toMatchObject(kind === undefined ? { persisted: 20, dead: 0 } : { persisted: 19, dead: 1 })
        // in halves; or each apart, from the first statement on that may change what the others see
        expect(seen.transactions).toBeLessThanOrEqual(apart.test(deed) ? 1 + 20 : 1 + 2 * 5)
        const culprit = yield* chunkOf(id(11))
        expect(culprit.failures.map((failure) => failure.kind)).toEqual(kind === undefined ? [] : [kind])
        if (deed === "breaks a constraint at the end") {
          expect(culprit.failures[0]?.message).toContain("23503). A deferred constraint does not take the rows")
        }
        expect(yield* notesOf(id(11))).toBe(rows)
        for (const n of [0, 10, 12, 19]) {
          expect(yield* chunkOf(id(n))).toMatchObject({ state: "persisted", attempts: 0, failures: [] })
          expect(yield* notesOf(id(n))).toBe(1)
        }
      }))
  }

  for (const deed of ["says that it was a serialization failure", "says that the server stops"]) {
    it.effect(`a handler to whom the database ${deed}: nobody is charged, all come to their end in the same cycle`, () =>
      Effect.gen(function*() {
        yield* tables
        const ids = Array.from({ length: 5 }, (_, n) => `${deed.length}-${n}`)
        times.set(ids[2]!, 2)
        yield* record(...ids.map((id, n) => note(id, n === 2 ? { text: deed } : {})))
        expect(yield* Drain.Drain.use((drain) => drain.cycle)).toMatchObject({ claimed: 5, persisted: 5 })
        for (const id of ids) {
          expect(yield* chunkOf(id)).toMatchObject({ attempts: 0, failures: [] })
          expect(yield* notesOf(id)).toBe(1)
        }
      }))
  }

  // what passes by itself is tried again first; what never passes must not be tried for ever
  for (
    const [deed, kind] of [
      ["says that it was a serialization failure", "failed"],
      ["says that the server stops", "failed"],
      ["is refused at the end, for a conflict", "spoiled"],
      ["leaves a time limit that its settlement runs into", "spoiled"]
    ] as const
  ) {
    it.effect(`a handler that always ${deed} is charged in the end, and its mates commit in the same cycle`, () =>
      Effect.gen(function*() {
        yield* tables
        const ids = ["a", "b", "c"].map((name) => `${kind} ${deed.length} ${name}`)
        yield* record(...ids.map((id, n) => note(id, n === 2 ? { text: deed } : {})))
        expect(yield* Drain.Drain.use((drain) => drain.cycle)).toMatchObject({ claimed: 3, persisted: 2, dead: 1 })
        const chunks = yield* Effect.forEach(ids, chunkOf)
        expect(chunks.map(({ attempts, failures }) => [attempts, failures.map((failure) => failure.kind)]))
          .toEqual([[0, []], [0, []], [1, [kind]]])
        expect(yield* Effect.forEach(ids, notesOf)).toEqual([1, 1, 0])
      }))
  }

  it.effect("many that always meet a conflict are not tried all over again for each half, and each time they come back", () =>
    Effect.gen(function*() {
      yield* tables
      const ids = Array.from({ length: 8 }, (_, n) => `conflicting ${n}`)
      yield* record(...ids.map((id) => note(id, { text: "says that it was a serialization failure" })))
      const seen: Seen = { transactions: 0, sizes: [] }
      const patient = drainWith(counting(seen)).pipe(Layer.provide(Settings.layer({ maxAttempts: 2 })))
      expect(yield* Effect.provide(Drain.Drain.use((drain) => drain.cycle), patient)).toMatchObject({
        claimed: 8,
        retried: 8
      })
      // the whole once, as far as the statement that asks for a transaction of its own; then each three times
      expect(seen.transactions).toBe(1 + 3 * 8)
      const sql = yield* SqlClient.SqlClient
      yield* sql`update sluice.chunk_queue set due_at = now() where call_id like 'conflicting%'`
      expect(yield* Effect.provide(Drain.Drain.use((drain) => drain.cycle), patient)).toMatchObject({
        claimed: 8,
        dead: 8
      })
      expect(seen.transactions).toBe(1 + 3 * 8 + 3 * 8)
    }))

  it.effect("a deadlock charges no chunk", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`create table bed (id int primary key, call_id text)`
      yield* sql`insert into bed values (1), (2)`
      const take = (id: number, callId: string) => sql`update bed set call_id = ${callId} where id = ${id}`
      const first = yield* Deferred.make<void>()
      const second = yield* Deferred.make<void>()
      let runs = 0
      const nurse = HandlerPlugin.layer("beds", Note, ({ call }) =>
        Effect.gen(function*() {
          runs++
          yield* take(1, call.callId)
          yield* Deferred.succeed(first, undefined)
          yield* Deferred.await(second)
          // the other waits for bed 1 by now, and does not look for deadlocks itself
          if (runs === 1) {
            yield* untilIt(waitingHere(sql), (rows) => rows.length > 0)
          }
          yield* take(2, call.callId)
        }))
      const outside = sql.withTransaction(Effect.gen(function*() {
        yield* sql`set local deadlock_timeout = '1h'`
        yield* take(2, "outside")
        yield* Deferred.succeed(second, undefined)
        yield* Deferred.await(first)
        yield* take(1, "outside")
      }))
      yield* record(note("deadlock", {}, { namespace: "beds" }))
      const drain = Layer.fresh(Drain.layer).pipe(Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(nurse))))
      const both = Effect.all([Effect.provide(Drain.Drain.use((it) => it.cycle), drain), outside], { concurrency: 2 })
      const [report] = yield* both
      expect(report).toMatchObject({ claimed: 1, nothingToCreate: 1 })
      expect(runs).toBe(2)
      expect(yield* chunkOf("deadlock")).toMatchObject({ state: "nothing-to-create", attempts: 0, failures: [] })
      expect(yield* sql`select distinct call_id from bed`).toEqual([{ call_id: "deadlock" }])
    }))

  it.effect("a handler that hangs in a statement is timed out, leaves no rows, and holds up no other chunk", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const sleeping = HandlerPlugin.layer("asleep", Note, {
        timeout: "1 second",
        persist: ({ call }) =>
          Effect.andThen(
            sql`insert into note (call_id) values (${call.callId})`,
            Effect.asVoid(sql`select pg_sleep(600)`)
          )
      })
      yield* record(note("sleeps", {}, { namespace: "asleep" }))
      const drain = Layer.fresh(Drain.layer).pipe(Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(sleeping))))
      // the statement would have taken longer than the test may
      expect(yield* Effect.provide(untilEmpty, drain)).toMatchObject({ dead: 1 })
      expect((yield* chunkOf("sleeps")).failures).toMatchObject([{ kind: "timeout" }])
      expect(yield* notesOf("sleeps")).toBe(0)
      expect(
        yield* sql`select from pg_stat_activity where datname = current_database() and state = 'idle in transaction' and query like '%pg_sleep%'`
      )
        .toEqual([])
    }))

  it.effect("persistNow of one behind an older one of its key asks from time to time, and in the end says so", () =>
    Effect.gen(function*() {
      yield* tables
      yield* record(note("older", {}, { orderingKey: "knee" }), note("younger", {}, { orderingKey: "knee" }))
      let claims = 0
      const asked = drainWith((store) => ({
        claim: (request) => Effect.tap(store.claim(request), () => Effect.sync(() => claims++))
      }))
      const impatient = asked.pipe(
        Layer.provide(Settings.layer({ maxAttempts: 1, handlerTimeout: Duration.seconds(1) }))
      )
      const error = yield* Effect.flip(Effect.provide(persistNow("younger"), impatient))
      expect(error).toMatchObject({ _tag: "ChunkBusy", state: "waiting" })
      expect(claims).toBeLessThan(100)
      expect(yield* untilEmpty).toMatchObject({ persisted: 2 })
      expect(yield* persistNow("younger")).toHaveLength(1)
      expect(Option.isSome(yield* inspect.call("younger"))).toBe(true)
    }))
})
