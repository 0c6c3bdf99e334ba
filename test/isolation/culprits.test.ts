/**
 * Handlers that harm the transaction or the connection they run on: the culprit is found, charged and buried in the end,
 * and its mates persist in the same cycle or the next.
 */
import { it } from "@effect/vitest"
import { CallRecorder, ChunkLedger, DomainObject, Drain, DrainWorker } from "effect-sluice"
import type * as Handler from "effect-sluice/Handler"
import type * as Settings from "effect-sluice/Settings"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as RequestResolver from "effect/RequestResolver"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlResolver from "effect/sql/SqlResolver"
import * as Stream from "effect/Stream"
import { describe, expect } from "vitest"
import { keyOf, note, record } from "../support/clinic.ts"
import { chunkOf, cycle, persistNow, untilEmpty } from "../support/drain.ts"
import { untilIt } from "../support/until.ts"
import { application, type Deed, strays } from "./clinic.ts"

const live = (name: string, test: Effect.Effect<unknown, unknown>) => it.live(name, () => test, 120_000)

const mates = ["a", "b", "d", "e"]

/** The third of five does the deed. */
const third = (deed: Deed): Deed => (sql, input) => input.call.callId === "c" ? deed(sql, input) : Effect.void

const harmful = (deed: Deed, options: {
  readonly last?: Deed
  readonly handler?: Handler.Options
  readonly settings?: Partial<Settings.Values>
  readonly version?: 18 | 15
} = {}) =>
  application({
    ...options,
    deed: third(deed),
    ...(options.last === undefined ? {} : { last: third(options.last) }),
    handler: { maxAttempts: 1, ...options.handler },
    settings: { handlerTimeout: Duration.seconds(5), ...options.settings }
  })

/** Runs the five, and sees to it that the mates are persisted and the third is dead of what it did. */
const costsNobody = (message: RegExp, cycles = 1) =>
  Effect.gen(function*() {
    yield* record(...["a", "b", "c", "d", "e"].map((id) => note(id)))
    for (let n = 0; n < cycles; n++) yield* cycle
    for (const id of mates) expect(yield* chunkOf(id)).toMatchObject({ state: "persisted", attempts: 0, failures: [] })
    const culprit = yield* chunkOf("c")
    expect(culprit).toMatchObject({ state: "dead", attempts: 1, crashes: 0 })
    expect(culprit.death?.message).toMatch(message)
    expect(yield* strays).toEqual({ missing: null, unnamed: null })
  })

/** A trigger that raises an error of this code when the transaction commits. */
const refusing = (code: string): Deed => (sql) =>
  Effect.gen(function*() {
    yield* sql`create table if not exists refused (code text)`
    yield* sql`create or replace function refuse() returns trigger language plpgsql as $$
      begin raise exception 'the ward refuses' using errcode = new.code; end $$`
    yield* sql`drop trigger if exists refuses on refused`
    yield* sql`create constraint trigger refuses after insert on refused deferrable initially deferred
      for each row execute function refuse()`
    yield* sql`insert into refused values (${code})`
  })

/** An error whose field throws when it is read. */
const unreadable = (field: string) =>
  Object.defineProperty(new Error("and fails"), field, {
    get: () => {
      throw new Error("no")
    }
  })

const deeds: Readonly<Record<string, readonly [deed: Deed, message: RegExp, options?: Parameters<typeof harmful>[1]]>> =
  {
    "removes its own chunk from the queue": [
      (sql) => sql`delete from sluice.chunk_queue where call_id = 'c'`,
      /has removed chunks of its batch/
    ],
    "resets all settings": [(sql) => sql`reset all`, /or reset all settings/],
    "ends its own backend": [(sql) => sql`select pg_terminate_backend(pg_backend_pid())`, /terminat|closed|57P01/],
    "takes longer than idle_in_transaction_session_timeout": [
      (sql) => Effect.andThen(sql`set local idle_in_transaction_session_timeout = '50ms'`, Effect.sleep("300 millis")),
      /25P03|closed/
    ],
    "takes longer than transaction_timeout": [
      (sql) => Effect.andThen(sql`set local transaction_timeout = '50ms'`, Effect.sleep("300 millis")),
      /25P04|closed/
    ],
    "takes longer than statement_timeout": [
      (sql) => Effect.andThen(sql`set local statement_timeout = '50ms'`, sql`select pg_sleep(10)`),
      /57014/
    ],
    "makes its transaction read-only": [(sql) => sql`set transaction read only`, /25006|read-only/],
    "makes a session read-only, and the next claim with it": [
      (sql) => Effect.andThen(sql`set default_transaction_read_only = on`, Effect.fail("and fails")),
      /and fails/
    ],
    "is refused at the commit as if the server stopped": [refusing("57P01"), /ward refuses/],
    "is refused at the commit as if the disk were full": [refusing("53100"), /ward refuses/],
    "is refused at the commit as if the connection were lost": [refusing("08006"), /ward refuses/],
    "is refused at the commit for a missing right": [refusing("42501"), /ward refuses/],
    "drops the right that the settlement needs": [
      (sql) =>
        Effect.andThen(
          sql`alter table sluice.persisted_chunk add constraint none check (call_id <> 'c')`,
          Effect.void
        ),
      /none|23514/
    ],
    "locks out everybody by a stale lock_timeout": [
      (sql) => Effect.andThen(sql`set local lock_timeout = '1ms'`, Effect.fail("and fails")),
      /and fails/
    ],
    "commits": [(sql) => sql`commit`, /ended a transaction: commit/],
    "rolls back": [(sql) => sql`rollback`, /ended a transaction: rollback/],
    "begins, writes and commits, as texts it was ported with": [
      (sql) =>
        sql.unsafe("begin").pipe(
          Effect.andThen(sql`insert into note (call_id) values ('ported')`),
          Effect.andThen(sql.unsafe("commit")),
          Effect.ignoreCause
        ),
      /ended a transaction: begin/
    ],
    "lets its statements take no more than a millisecond": [
      (sql) => Effect.andThen(sql`set local statement_timeout = '1ms'`, sql`select pg_sleep(0.1)`),
      /57014/
    ],
    "hides its commit in a block": [(sql) => sql`do $$ begin commit; end $$`, /2D000|invalid transaction termination/],
    "hides its rollback in a procedure": [
      (sql) =>
        Effect.andThen(
          sql`create procedure undo() language plpgsql as $$ begin rollback; end $$`,
          sql`call undo()`
        ),
      /2D000|invalid transaction termination/
    ],
    "vacuums": [(sql) => sql`vacuum note`, /25001|cannot run inside/],
    "replicates, so that no trigger fires, and fails": [
      (sql) => Effect.andThen(sql`set session_replication_role = replica`, Effect.fail("and fails")),
      /and fails/
    ],
    "hides tables of Sluice behind temporary ones, and fails": [
      (sql) =>
        Effect.gen(function*() {
          yield* sql`create temporary table persisted_chunk (id int)`
          yield* sql`create temporary table chunk_queue (id int)`
          yield* sql`set search_path = pg_temp, sluice, public`
          return yield* Effect.fail("and fails")
        }),
      /and fails/
    ],
    "fails with an error that has a field which cannot be read": [
      () => Effect.void,
      /and fails/,
      { last: () => Effect.fail(unreadable("ward")) }
    ],
    "aborts its transaction, and fails with an error whose reason cannot be read": [
      (sql) => Effect.mapError(sql`select 1 / 0`, () => unreadable("reason")),
      /and fails/
    ],
    "aborts its transaction by an error that it swallows": [
      (sql) => Effect.ignore(sql`select 1 / 0`),
      /aborted|25P02/
    ]
  }

describe("one of five", () => {
  for (const [what, [deed, message, options]] of Object.entries(deeds)) {
    live(`that ${what}`, costsNobody(message).pipe(Effect.provide(harmful(deed, options))))
  }

  live(
    "that makes the session forget what the client has prepared leaves no connection in an aborted transaction",
    Effect.gen(function*() {
      yield* record(...["a", "b", "c", "d", "e"].map((id) => note(id)))
      yield* cycle
      for (const id of mates) {
        expect(yield* chunkOf(id)).toMatchObject({ state: "persisted", attempts: 0, failures: [] })
      }
      // in a session that has prepared nothing before, it harms nobody
      expect(["persisted", "dead"]).toContain((yield* chunkOf("c")).state)
      yield* record(note("f"))
      yield* cycle
      expect(yield* chunkOf("f")).toMatchObject({ state: "persisted", attempts: 0, failures: [] })
      expect(yield* strays).toEqual({ missing: null, unnamed: null })
    }).pipe(
      Effect.provide(application({
        deed: third((sql) => sql`deallocate all`),
        handler: { maxAttempts: 1 },
        maxConnections: 2
      }))
    )
  )

  live(
    "that speaks and fails is not heard",
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`create table if not exists heard (word text)`
      yield* costsNobody(/and fails/)
    }).pipe(
      Effect.provide(harmful((sql) => Effect.andThen(sql`select pg_notify('ward', 'help')`, Effect.fail("and fails"))))
    )
  )

  live(
    "that hangs and cannot be interrupted keeps neither its mates nor the rest of the queue",
    Effect.gen(function*() {
      const hanging = ["c", "c2", "c3"]
      yield* record(...mates.slice(0, 2).map((id) => note(id)), ...hanging.map((id) => note(id)))
      yield* record(...Array.from({ length: 10 }, (_, n) => note(`rest-${n}`)))
      const worker = yield* Layer.build(DrainWorker.layer())
      yield* untilIt(chunkOf("rest-9"), ({ state }) => state === "persisted")
      yield* untilIt(chunkOf("c3"), ({ state }) => state === "dead")
      for (const id of ["a", "b", "rest-0", "rest-5"]) {
        expect(yield* chunkOf(id)).toMatchObject({ state: "persisted", failures: [] })
      }
      for (const id of hanging) {
        const chunk = yield* chunkOf(id)
        expect(chunk).toMatchObject({ state: "dead", crashes: 0 })
        expect(chunk.death?.message).toContain("could not be interrupted")
      }
      // and keeps no connection either
      const sql = yield* SqlClient.SqlClient
      yield* Effect.all(Array.from({ length: 4 }, () => sql`select pg_sleep(0.05)`), { concurrency: "unbounded" })
      expect(yield* sql`select from pg_stat_activity where datname = current_database() and state like 'idle in%'`)
        .toEqual([])
      return worker
    }).pipe(
      Effect.scoped,
      Effect.provide(application({
        deed: (sql, { call }) =>
          call.callId.startsWith("c")
            ? Effect.uninterruptible(Effect.andThen(sql`select 1`, Effect.never))
            : Effect.void,
        handler: { maxAttempts: 1, timeout: "1 second" },
        settings: { inFlight: 2, batchSize: 5 },
        maxConnections: 4
      }))
    )
  )

  live(
    "that interrupts the fiber which it shares with the others, where they go together",
    costsNobody(/interrupted/).pipe(
      Effect.provide(harmful(
        () =>
          Effect.withFiber((fiber) => {
            fiber.interruptUnsafe()
            return Effect.never
          }),
        { handler: { isolation: "together" } }
      ))
    )
  )

  live(
    "that hangs in a statement and cannot be interrupted loses its connection, and nobody else theirs",
    costsNobody(/could not be interrupted/).pipe(
      Effect.provide(harmful((sql) => Effect.uninterruptible(sql`select pg_sleep(600)`), {
        handler: { timeout: "1 second" }
      }))
    )
  )
})

describe("what a run leaves running", () => {
  const all = ["a", "b", "c", "d", "e"]
  const persistsAll = Effect.gen(function*() {
    yield* record(...all.map((id) => note(id)))
    yield* cycle
    for (const id of all) expect(yield* chunkOf(id)).toMatchObject({ state: "persisted", attempts: 0, failures: [] })
    expect(yield* strays).toEqual({ missing: null, unnamed: null })
  })

  const leavesOpen = (rows: number): Deed => (sql) =>
    Effect.andThen(
      Effect.forkDetach(Stream.runForEach(sql`select generate_series(1, ${rows}::int)`.stream, () => Effect.never)),
      Effect.sleep("50 millis")
    )

  const nothing: Deed = () => Effect.void

  live(
    "a stream that a fiber of its own holds open is closed at the run's end",
    persistsAll.pipe(Effect.provide(harmful(nothing, { last: leavesOpen(10) })))
  )

  live(
    "a statement that a fiber of its own has sent is part of the run",
    costsNobody(/did not finish within/).pipe(
      Effect.provide(harmful(
        nothing,
        {
          last: (sql) => Effect.andThen(Effect.forkDetach(sql`select pg_sleep(60)`), Effect.sleep("20 millis")),
          handler: { timeout: "1 second" }
        }
      ))
    )
  )

  live(
    "a stream that is too long to be read to its end costs nobody else",
    costsNobody(/aborted|25P02|57014/).pipe(Effect.provide(harmful(nothing, { last: leavesOpen(3_000_000) })))
  )

  live(
    "a request that a fiber of its own makes later is not merged with those of its mates",
    Effect.suspend(() => {
      let ask: ((word: string) => Effect.Effect<unknown, unknown>) | undefined
      const look: Deed = (sql, { call }) => {
        ask ??= SqlResolver.request(RequestResolver.setDelay(
          SqlResolver.ordered({
            Request: Schema.String,
            Result: Schema.Struct({ seen: Schema.String }),
            execute: (words) => sql`insert into looked select seen from unnest(${words}::text[]) seen returning seen`
          }),
          "50 millis"
        ))
        const { callId } = call
        const later = Effect.ignoreCause(ask(`later than ${callId}`))
        return callId === "c" ? Effect.forkDetach(later, { startImmediately: true }) : ask(callId)
      }
      return Effect.gen(function*() {
        yield* persistsAll
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`select seen from looked order by seen`).toEqual(mates.map((seen) => ({ seen })))
      }).pipe(Effect.provide(application({ deed: look, handler: { maxAttempts: 1 } })))
    })
  )

  live(
    "a fiber that records a call later does not do so in its mates' transaction",
    Effect.gen(function*() {
      yield* persistsAll
      const sql = yield* SqlClient.SqlClient
      expect(yield* sql`select call_id from sluice.service_call where call_id = 'late'`).toEqual([])
      expect(yield* sql`select call_id from note`).toHaveLength(5)
    }).pipe(
      Effect.provide(application({
        deed: (_, { call }) =>
          call.callId === "c"
            ? Effect.flatMap(
              Effect.serviceOption(CallRecorder.CallRecorder),
              (recorder) =>
                recorder._tag === "None"
                  ? Effect.die("no recorder")
                  : Effect.forkDetach(Effect.delay(recorder.value.record(note("late")), "20 millis"))
            )
            : Effect.sleep("50 millis")
      }))
    )
  )
})

describe("a handler that uses Sluice itself", () => {
  live(
    "persists its own chunk by once: the drain does that, once",
    Effect.gen(function*() {
      yield* record(note("a"), note("c"), note("b"))
      expect(yield* untilEmpty).toMatchObject({ persisted: 3, retried: 0 })
      const sql = yield* SqlClient.SqlClient
      expect(yield* sql`select count(*)::int as found from place where call_id = 'c'`).toEqual([{ found: 1 }])
    }).pipe(
      Effect.provide(application({
        deed: (sql, { call }) =>
          call.callId === "c"
            ? Effect.flatMap(
              Effect.serviceOption(ChunkLedger.ChunkLedger),
              (ledger) =>
                ledger._tag === "None" ? Effect.die("no ledger") : ledger.value.once(
                  call.key,
                  { namespace: "clinic" },
                  Effect.as(sql`insert into place values (1, ${call.callId})`, [DomainObject.make("place", 1)])
                )
            )
            : Effect.void
      }))
    )
  )

  live(
    "persists a batch-mate by once: each is persisted once, by one of the two",
    Effect.gen(function*() {
      yield* record(note("a"), note("c"), note("b"))
      const report = yield* untilEmpty
      expect(report.retried + report.dead).toBe(0)
      const sql = yield* SqlClient.SqlClient
      expect(yield* sql`select count(*)::int as found from sluice.persisted_chunk`).toEqual([{ found: 3 }])
      expect(yield* sql`select count(*)::int as found from sluice.chunk_queue`).toEqual([{ found: 0 }])
      const rows = yield* sql<{ found: number }>`select
        (select count(*) from note where call_id = 'b')::int + (select count(*) from place)::int as found`
      expect(rows).toEqual([{ found: 1 }])
    }).pipe(
      Effect.provide(application({
        deed: (sql, { call }) =>
          call.callId === "c"
            ? Effect.flatMap(
              Effect.serviceOption(ChunkLedger.ChunkLedger),
              (ledger) =>
                ledger._tag === "None" ? Effect.die("no ledger") : ledger.value.once(
                  keyOf("b"),
                  { namespace: "clinic" },
                  Effect.as(sql`insert into place values (1, 'b')`, [DomainObject.make("place", 1)])
                )
            )
            : Effect.void
      }))
    )
  )

  live(
    "persists another call inline, which commits with it",
    Effect.gen(function*() {
      yield* record(note("c"), note("inner"))
      expect(yield* persistNow("c")).toHaveLength(1)
      for (const id of ["c", "inner"]) expect((yield* chunkOf(id)).state).toBe("persisted")
      expect(yield* strays).toEqual({ missing: null, unnamed: null })
    }).pipe(
      Effect.provide(application({
        deed: (_, { call }) =>
          call.callId === "c"
            ? Effect.flatMap(
              Effect.serviceOption(Drain.Drain),
              (drain) => drain._tag === "None" ? Effect.die("no drain") : drain.value.persistNow("inner")
            )
            : Effect.void
      }))
    )
  )
})

describe("how runs share transactions", () => {
  const messagesOf = (deed: Deed, handler: Handler.Options) =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.make(({ message }) => void logged.push(String(message)))
      yield* record(...Array.from({ length: 20 }, (_, n) => note(`call-${n}`)))
      yield* Effect.provide(untilEmpty, Logger.layer([logger]))
      yield* record(...Array.from({ length: 20 }, (_, n) => note(`more-${n}`)))
      yield* Effect.provide(untilEmpty, Logger.layer([logger]))
      expect(yield* strays).toEqual({ missing: null, unnamed: null })
      return logged.filter((line) => line.includes("handler clinic/note"))
    }).pipe(Effect.provide(application({ deed, handler })))

  live(
    "is learnt from what they send, and told once",
    Effect.gen(function*() {
      const told = yield* messagesOf((sql) => sql`select set_config('app.tenant', 'a', true)`, {})
      expect(told).toHaveLength(1)
      expect(told[0]).toContain("from now on each of its runs has a transaction of its own")
    })
  )

  for (
    const [what, deed] of Object.entries<Deed>({
      "a second statement": (sql) => sql`select 1`,
      "a lock": (sql) => sql`select from dose for update`,
      "a setting": (sql) => sql`select set_config('app.tenant', 'a', true)`,
      "a savepoint": (sql) => sql.withTransaction(sql`select 1`),
      "a statement in a fiber of its own": (sql) => Effect.flatMap(Effect.forkChild(sql`select 1`), Fiber.join)
    })
  ) {
    live(
      `a promise to go together that is broken by ${what} is found out, and told once`,
      Effect.gen(function*() {
        const told = yield* messagesOf(deed, { isolation: "together" })
        expect(told.length).toBeGreaterThan(0)
        expect(told.length).toBeLessThanOrEqual(2)
        expect(told[0]).toContain("says isolation: \"together\"")
      })
    )
  }

  live(
    "who says isolation: \"batch\" keeps to it",
    Effect.gen(function*() {
      expect(yield* messagesOf((sql) => sql`select set_config('app.tenant', 'a', true)`, { isolation: "batch" }))
        .toEqual(
          []
        )
    })
  )
})
