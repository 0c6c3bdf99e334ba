/**
 * Whatever a handler does in its transaction: the tables, the ledger and what each run is given are those of runs that had
 * a transaction each.
 */
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { describe, expect } from "vitest"
import { note, record } from "../support/clinic.ts"
import { untilEmpty } from "../support/drain.ts"
import { application, type Deed, strays } from "./clinic.ts"

const count = 40
const ids = Array.from({ length: count }, (_, n) => `call-${n}`)
const numberOf = (callId: string) => Number(callId.split("-")[1])

/** Runs a test on a server, beside the tests of others. */
const live = (name: string, test: Effect.Effect<unknown, unknown>) => it.live(name, () => test, 60_000)

const nothingStrays = Effect.gen(function*() {
  expect(yield* strays).toEqual({ missing: null, unnamed: null })
})

/** What of a handler's habits a row lock, an advisory lock or a session's memory holds up among transactions. */
const readModifyWrite: Readonly<
  Record<string, { readonly deed: Deed; readonly result: string; readonly want: unknown }>
> = {
  "select for update, compute, update": {
    deed: (sql) =>
      Effect.flatMap(
        sql<{ given: number }>`select given from dose where patient = 'knee' for update`,
        ([row]) => sql`update dose set given = ${row!.given + 1} where patient = 'knee'`
      ),
    result: "select given::int as found from dose",
    want: count
  },
  "the next place behind an advisory lock": {
    deed: (sql, { call }) =>
      Effect.gen(function*() {
        yield* sql`select pg_advisory_xact_lock(1)`
        const [row] = yield* sql<{ next: number }>`select coalesce(max(place), 0) + 1 as next from place`
        yield* sql`insert into place values (${row!.next}, ${call.callId})`
      }),
    result: "select count(distinct place)::int as found from place",
    want: count
  },
  "an insert, and the id it drew": {
    deed: (sql, { call }) =>
      Effect.gen(function*() {
        yield* sql`insert into note (call_id) values (${`first of ${call.callId}`})`
        const [row] = yield* sql<{ id: string }>`select lastval()::text as id`
        yield* sql`insert into place values (${Number(row!.id)}, ${call.callId})`
      }),
    result: `select count(*)::int as found from place p join note n on n.id = p.place
      where n.call_id = 'first of ' || p.call_id`,
    want: count
  },
  "a look whether it is there, and an insert if it is not": {
    deed: (sql) =>
      Effect.flatMap(
        sql`select from place where call_id = 'once'`,
        (rows): Effect.Effect<unknown, unknown> =>
          rows.length > 0 ? Effect.void : sql`insert into place values (1, 'once')`
      ),
    result: "select count(*)::int as found from place",
    want: 1
  },
  "fibers of its own, each with a statement": {
    deed: (sql) =>
      Effect.forEach(
        [1, 2, 3],
        () => sql`update dose set given = given + 1 where patient = 'knee'`,
        { concurrency: "unbounded" }
      ),
    result: "select given::int as found from dose",
    want: 3 * count
  },
  "a stream that is read while it writes": {
    deed: (sql) =>
      Effect.gen(function*() {
        const seen = yield* Stream.runCollect(
          sql<{ given: number }>`select given from dose, generate_series(1, 3)`.stream
        )
        yield* sql`update dose set given = ${seen.at(-1)!.given + 1} where patient = 'knee'`
      }),
    result: "select given::int as found from dose",
    want: count
  }
}

for (const version of [18, 15] as const) {
  describe(`on Postgres ${version}, mates of one batch`, () => {
    for (const [habit, { deed, result, want }] of Object.entries(readModifyWrite)) {
      live(
        `do not lose each other's effects by: ${habit}`,
        Effect.gen(function*() {
          yield* record(...ids.map((id) => note(id)))
          expect(yield* untilEmpty).toMatchObject({ persisted: count })
          const sql = yield* SqlClient.SqlClient
          expect(yield* sql.unsafe(result)).toEqual([{ found: want }])
        }).pipe(Effect.provide(application({ version, deed })))
      )
    }

    live(
      "keep their rows beside one that rolls back to a savepoint of its own",
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* record(...ids.map((id) => note(id)))
        expect(yield* untilEmpty).toMatchObject({ persisted: count })
        yield* nothingStrays
        expect(yield* sql`select count(*)::int as found from note`).toEqual([{ found: count }])
      }).pipe(Effect.provide(application({
        version,
        deed: (sql, { call }) =>
          numberOf(call.callId) % 3 === 0
            ? sql.withTransaction(
              Effect.andThen(
                sql`insert into note (call_id) values ('undone')`,
                Effect.andThen(Effect.sleep("2 millis"), Effect.fail("tried in vain"))
              )
            ).pipe(Effect.retry(Schedule.recurs(1)), Effect.ignore)
            : Effect.sleep("1 millis")
      })))
    )
  })
}

/** What a run may leave in its transaction or session; each is set for every second chunk, and no other may see it. */
const leftovers: Readonly<Record<string, { readonly deed: Deed; readonly seen: string }>> = {
  "a tenant, by set_config for the transaction": {
    deed: (sql, { call }) => sql`select set_config('app.tenant', ${call.callId}, true)`,
    // to a session that has once known the name it is empty from then on, whoever runs
    seen: "nullif(current_setting('app.tenant', true), '')"
  },
  "a tenant, by set_config for the session": {
    deed: (sql, { call }) => sql`select set_config('app.tenant', ${call.callId}, ${false})`,
    // to a session that has once known the name it is empty from then on, whoever runs
    seen: "nullif(current_setting('app.tenant', true), '')"
  },
  "a tenant, by set local": {
    deed: (sql) => sql`set local app.tenant = 'knee'`,
    // to a session that has once known the name it is empty from then on, whoever runs
    seen: "nullif(current_setting('app.tenant', true), '')"
  },
  "a tenant, by a function of the application's": {
    deed: (sql, { call }) => sql`select become_tenant(${call.callId})`,
    // to a session that has once known the name it is empty from then on, whoever runs
    seen: "nullif(current_setting('app.tenant', true), '')"
  },
  "a tenant, by a column with a name": {
    deed: (sql, { call }) => sql`select 1 as one, set_config('app.tenant', ${call.callId}, true) as tenant`,
    // to a session that has once known the name it is empty from then on, whoever runs
    seen: "nullif(current_setting('app.tenant', true), '')"
  },
  "a tenant, by a function of the application's that sets it for the session": {
    deed: (sql, { call }) => sql`select move_to_tenant(${call.callId})`,
    // to a session that has once known the name it is empty from then on, whoever runs
    seen: "nullif(current_setting('app.tenant', true), '')"
  },
  "a temporary table, by its schema": {
    deed: (sql) => sql`create table pg_temp.scratch (id int)`,
    seen: "to_regclass('pg_temp.scratch')::text"
  },
  "a role, for the transaction": { deed: (sql) => sql`set local role tenant_a`, seen: "current_user" },
  "a role, for the session": { deed: (sql) => sql`set role tenant_a`, seen: "current_user" },
  "a search path": {
    deed: (sql) => sql`set local search_path = public, pg_temp`,
    seen: "current_setting('search_path')"
  },
  "a time zone, for the session": {
    deed: (sql) => sql`set time zone 'Asia/Tokyo'`,
    seen: "current_setting('timezone')"
  },
  "a temporary table": {
    deed: (sql) => sql`create temporary table scratch (id int)`,
    seen: "to_regclass('pg_temp.scratch')::text"
  },
  "a lock of the session": {
    deed: (sql) => sql`select pg_advisory_lock(7)`,
    seen: `(select count(*)::text from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())`
  },
  "a cursor": {
    deed: (sql) => sql`declare rounds cursor with hold for select 1`,
    seen: "(select count(*)::text from pg_cursors where name = 'rounds')"
  },
  "a statement prepared by name": {
    deed: (sql) => sql`prepare rounds as select 1`,
    seen: "(select count(*)::text from pg_prepared_statements where name = 'rounds')"
  },
  "a channel that it listens on": {
    deed: (sql) => sql`listen rounds`,
    seen: "(select count(*)::text from pg_listening_channels() c where c = 'rounds')"
  }
}

describe("what a run leaves in its transaction or session reaches no other run", () => {
  for (const [what, { deed, seen }] of Object.entries(leftovers)) {
    for (const isolation of [undefined, "transaction"] as const) {
      live(
        `${what}${isolation === undefined ? "" : ", where the handler says isolation: \"transaction\""}`,
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* sql`create or replace function become_tenant(tenant text) returns void language plpgsql as $$
            begin perform set_config('app.tenant', tenant, true); end $$`
          yield* sql`create or replace function move_to_tenant(tenant text) returns void language plpgsql as $$
            begin perform set_config('app.tenant', tenant, false); end $$`
          yield* record(...ids.map((id) => note(id)))
          // one by one afterwards as well: whoever gets the connection next
          expect(yield* untilEmpty).toMatchObject({ persisted: count })
          yield* record(note("late-1"))
          expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
          const views = yield* sql<{ seen: string | null; found: number }>`
            select seen, count(*)::int as found from looked group by seen`
          expect(views).toHaveLength(1)
          yield* nothingStrays
        }).pipe(Effect.provide(application({
          handler: isolation === undefined ? {} : { isolation },
          deed: (sql, input) =>
            Effect.gen(function*() {
              if (numberOf(input.call.callId) % 2 === 0) return yield* deed(sql, input)
              yield* sql.unsafe(`insert into looked select ${seen}`)
            }),
          maxConnections: 3,
          settings: { inFlight: 1 }
        })))
      )
    }
  }
})

describe("what the text of no statement shows", () => {
  live(
    "a tenant that a trigger sets for the session reaches no other run, where the handler says isolation: \"transaction\"",
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`create or replace function move() returns trigger language plpgsql as $$
        begin
          if new.call_id not like '%1' then perform set_config('app.tenant', new.call_id, false); end if;
          return new;
        end $$`
      yield* sql`create trigger move after insert on note for each row execute function move()`
      yield* record(...ids.map((id) => note(id)))
      expect(yield* untilEmpty).toMatchObject({ persisted: count })
      expect(yield* sql`select distinct nullif(tenant, '') as tenant from note`).toEqual([{ tenant: null }])
    }).pipe(Effect.provide(application({
      handler: { isolation: "transaction" },
      deed: () => Effect.void,
      maxConnections: 3,
      settings: { inFlight: 1 }
    })))
  )

  live(
    "a role that a trigger takes on does not keep the chunk from being settled",
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`create or replace function take_role() returns trigger language plpgsql as $$
        begin perform set_config('role', 'tenant_a', true); return new; end $$`
      yield* sql`create trigger take_role after insert on note for each row execute function take_role()`
      yield* record(...ids.map((id) => note(id)))
      expect(yield* untilEmpty).toMatchObject({ persisted: count, retried: 0 })
      yield* nothingStrays
    }).pipe(Effect.provide(application({ handler: { isolation: "transaction" }, deed: () => Effect.void })))
  )
})
