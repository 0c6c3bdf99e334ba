/**
 * Databases on which Sluice must not start: it says what is wrong and what to do, before anything is written.
 */
import { it } from "@effect/vitest"
import { CallRecorder, DeadLetters, Settings } from "effect-sluice"
import * as Migrations from "effect-sluice/store/Migrations"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { examine } from "../../src/cli/examine.ts"
import * as sequences from "../../src/store/pg/sequences.ts"
import { reserve } from "../../src/store/pg/session.ts"
import { list } from "../../src/store/pg/statements.ts"
import { call, claim, record, settle } from "../contract/operators/dialogues.ts"
import * as inspect from "../support/inspect.ts"
import { asRole, client, freshDatabase, runAt } from "../support/Postgres.ts"

/** A program that starts: whether it migrates first, or not. */
const start = (url: string, layer: typeof PgStore.layer = PgStore.layer, settings: Settings.Options = {}) =>
  Layer.build(
    Layer.fresh(layer).pipe(
      Layer.provide(Settings.layer(settings)),
      Layer.provide(Layer.fresh(client(url, { maxConnections: 4 })))
    )
  ).pipe(Effect.scoped, Effect.asVoid)

const diagnosis = (url: string, check: string) =>
  examine({ alone: false }).pipe(
    Effect.map((findings) => findings.find((one) => one.check === check)),
    Effect.provide(Layer.fresh(PgStore.layerUnchecked).pipe(Layer.provideMerge(Layer.fresh(client(url)))), {
      local: true
    })
  )

const relations = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`select relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where nspname = 'sluice'`
)

describe("a search path", () => {
  for (const version of [15, 18] as const) {
    it.live(`that names pg_catalog behind another schema stops all, and nothing of that schema is called: Postgres ${version}`, () =>
      Effect.gen(function*() {
        const url = yield* freshDatabase(version)
        const { role, url: own } = yield* asRole(url, "ward")
        const database = new URL(url).pathname.slice(1)
        // each would be taken for the server's own where pg_catalog comes second
        const types = ["text, text", "name, name", "int4, int4", "int8, int8", "oid, oid", "\"char\", \"char\""]
        yield* runAt(
          url,
          "create schema ward",
          `grant usage on schema ward to ${role}`,
          `grant create on database ${database} to ${role}`,
          `alter role ${role} set search_path = ward, pg_catalog`,
          ...types.flatMap((pair, n) => [
            `create function ward.equal_${n}(${pair}) returns bool language plpgsql as
              $$ begin raise 'a function of others was called'; end $$`,
            `create operator ward.= (leftarg = ${pair.split(",")[0]}, rightarg = ${
              pair.split(",")[1]
            }, function = ward.equal_${n})`
          ])
        )
        yield* Effect.gen(function*() {
          for (const starting of [Effect.asVoid(Migrations.run), start(own), start(own, PgStore.layerStorage)]) {
            const error = yield* Effect.flip(starting)
            expect(error).toMatchObject({ _tag: "DatabaseUnfit", problem: "search-path" })
            expect(error.message).toContain("names pg_catalog behind ward")
            expect(error.message).toContain("leave pg_catalog out of the search_path")
          }
          expect(yield* diagnosis(own, "search path")).toMatchObject({ severity: "broken" })
        }).pipe(Effect.provide(client(own)))
        // temporary schemas are not searched for operators, and a path without pg_catalog has it first
        for (const path of ["pg_temp, pg_catalog, ward", "''", "ward, nowhere"]) {
          yield* runAt(url, `alter role ${role} set search_path = ${path}`)
          yield* start(own)
        }
      }).pipe(Effect.scoped))
  }
})

describe("an encoding", () => {
  for (const version of [15, 18] as const) {
    for (const encoding of ["SQL_ASCII", "LATIN1"]) {
      it.live(`that is ${encoding} stops migrations, the start, and is the doctor's first word: Postgres ${version}`, () =>
        Effect.gen(function*() {
          const url = yield* freshDatabase(version, `encoding '${encoding}' locale 'C' template template0`)
          yield* Effect.gen(function*() {
            for (const starting of [Effect.asVoid(Migrations.run), start(url), start(url, PgStore.layerStorage)]) {
              const error = yield* Effect.flip(starting)
              expect(error).toMatchObject({ _tag: "DatabaseUnfit", problem: "encoding" })
              expect(error.message).toContain(`encoding is ${encoding}, not UTF8`)
              expect(error.message).toContain("create database … encoding 'UTF8' template template0")
            }
            expect(yield* relations).toEqual([])
            expect(yield* diagnosis(url, "encoding")).toMatchObject({
              severity: "broken",
              found: expect.stringContaining(encoding)
            })
          }).pipe(Effect.provide(client(url)))
        }).pipe(Effect.scoped))
    }
  }
})

describe("a sequence behind the tables", () => {
  const asCopied = Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    // a chunk that waits, one that is dead with its failure, one in the ledger
    yield* record(call("waits"), call("dies"), call("lives"))
    yield* settle(({ key }) =>
      key.callId === "dies" ? { dead: "exhausted" } : key.callId === "waits" ? { retry: "1 hour" } : "persisted"
    )
    // rows are copied, sequences are not
    yield* sql`select setval('sluice.chunk_seq', 1, false), setval('sluice.chunk_failure_id_seq', 1, false)`
  }).pipe(Effect.provide(Layer.fresh(PgStore.layer)))

  it.live("stops a program that does not migrate, is named by the doctor, and put right by migrate", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      yield* Effect.gen(function*() {
        yield* asCopied
        const error = yield* Effect.flip(start(url, PgStore.layerStorage))
        expect(error).toMatchObject({ _tag: "DatabaseUnfit", problem: "sequence" })
        expect(error.message).toMatch(
          /sequence chunk_failure_id_seq stands at 0, behind 2; sequence chunk_seq .* behind \d+:/
        )
        expect(yield* diagnosis(url, "sequences")).toMatchObject({
          severity: "broken",
          advice: expect.stringContaining("sluice migrate")
        })
        expect(yield* Migrations.run).toEqual([])
        expect(yield* diagnosis(url, "sequences")).toMatchObject({ severity: "ok" })
        yield* start(url, PgStore.layerStorage)
        // what was recorded before comes first, and nothing meets a number that is taken
        yield* Effect.gen(function*() {
          yield* record(call("new"))
          yield* DeadLetters.DeadLetters.use((letters) => letters.redrive({}))
          yield* settle({ retry: "1 hour" })
        }).pipe(Effect.provide(PgStore.layerStorage))
        const sql = yield* SqlClient.SqlClient
        const order = yield* sql<{ call_id: string }>`select call_id from sluice.chunk_queue order by seq`
        expect(order.map((row) => row.call_id)).toEqual(["waits", "dies", "new"])
      }).pipe(Effect.provide(client(url)))
    }).pipe(Effect.scoped))

  it.live("is not moved back by those who mend it at once, while others draw from it", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      yield* Effect.gen(function*() {
        yield* asCopied
        const sql = yield* SqlClient.SqlClient
        const mend = Effect.scoped(
          Effect.flatMap(reserve(sql, Duration.infinity), (session) => sequences.mend(session, "sluice"))
        )
        const drawn: Array<string> = []
        const draw = Effect.map(
          sql<{ n: string }>`select nextval('sluice.chunk_seq')::text as n`,
          ([row]) => void drawn.push(row?.n ?? "")
        )
        const many = <A, E, R>(effect: Effect.Effect<A, E, R>, times: number) =>
          Effect.replicateEffect(effect, times, { concurrency: 4, discard: true })
        yield* Effect.all([many(draw, 300), many(mend, 50)], { concurrency: "unbounded" })
        expect(new Set(drawn).size).toBe(300)
        expect(yield* mend).toEqual([])
      }).pipe(Effect.provide(client(url, { maxConnections: 10 })))
    }).pipe(Effect.scoped))

  it.live("by a role that may not put it right, says so, and who may", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      yield* Effect.gen(function*() {
        yield* asCopied
        const sql = yield* SqlClient.SqlClient
        const { role, url: as } = yield* asRole(url, "reader")
        yield* sql.unsafe(`grant usage on schema sluice to ${role}`)
        yield* sql.unsafe(`grant select, insert on all tables in schema sluice to ${role}`)
        yield* sql.unsafe(`grant usage on all sequences in schema sluice to ${role}`)
        const error = yield* Effect.flip(start(as))
        expect(error.message).toMatch(
          /chunk_seq stands at 0, behind .* this role may not put it right: let a role that owns/
        )
      }).pipe(Effect.provide(client(url)))
    }).pipe(Effect.scoped))

  it.live("while a program runs: what cannot be recorded says what to do, and can be afterwards", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      yield* Effect.gen(function*() {
        yield* record(call("a"), call("b"))
        const sql = yield* SqlClient.SqlClient
        yield* sql`select setval('sluice.chunk_seq', 1, false)`
        const error = yield* Effect.flip(record(call("paid for")))
        expect(error.message).toMatch(
          /"chunk_queue_pkey": a sequence is behind the tables, .* `sluice migrate` corrects it/
        )
        yield* Migrations.run
        expect(yield* record(call("paid for"))).toEqual(["recorded"])
      }).pipe(Effect.provide(Layer.fresh(PgStore.layer).pipe(Layer.provideMerge(client(url)))))
    }).pipe(Effect.scoped))

  it.live("every numbered column is looked at", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      yield* Effect.gen(function*() {
        yield* Migrations.run
        const sql = yield* SqlClient.SqlClient
        const found = yield* sql<{ name: string }>`
          select c.relname || '.' || a.attname as name from pg_attribute a join pg_class c on c.oid = a.attrelid
          left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
          where c.relnamespace = 'sluice'::regnamespace and c.relkind = 'r'
            and (a.attidentity <> '' or pg_get_expr(d.adbin, d.adrelid) like 'nextval%')`
        const known = sequences.sources.map(({ columns, table }) => `${table}.${columns[0]}`)
        expect(found.map(({ name }) => name).filter((name) => !known.includes(name))).toEqual([])
        expect(found.length).toBeGreaterThan(2)
      }).pipe(Effect.provide(client(url)))
    }).pipe(Effect.scoped))
})

describe("what others made", () => {
  /** A database of a clinic's, and another role that may make schemas in it and nothing more. */
  const shared = Effect.gen(function*() {
    const url = yield* freshDatabase()
    const worker = yield* asRole(url, "worker")
    const other = yield* asRole(url, "other")
    const database = new URL(url).pathname.slice(1)
    yield* runAt(url, `alter database ${database} owner to ${worker.role}`)
    yield* runAt(url, `grant create on database ${database} to ${other.role}`)
    return { worker, other, url, admin: (...statements: ReadonlyArray<string>) => runAt(url, ...statements) }
  })
  const plan = Migrations.plan("sluice", list("sluice"))
  const refused = (error: { readonly _tag: string; readonly message: string }, ...words: ReadonlyArray<string>) => {
    expect(error).toMatchObject({ _tag: "DatabaseUnfit", problem: "strangers" })
    for (const word of words) expect(error.message).toContain(word)
  }

  for (
    const [what, made] of [
      ["all of it", plan],
      ["the schema alone", ["create schema sluice", "grant all on schema sluice to public"]],
      ["one table, as a view that runs its maker's function", [
        "create schema sluice",
        "create function sluice.f() returns int language plpgsql as 'begin raise exception ''ran as %'', current_user; end'",
        "create view sluice.migration as select sluice.f() as migration_id",
        "grant all on schema sluice to public",
        "grant all on all tables in schema sluice to public"
      ]]
    ] as const
  ) {
    it.live(`before the first migration, ${what}: nothing starts, and nothing of it is used`, () =>
      Effect.gen(function*() {
        const { other, worker } = yield* shared
        yield* runAt(other.url, ...made)
        for (const url of [worker.url, other.url.replace(other.role, "postgres")]) {
          for (const layer of [PgStore.layer, PgStore.layerStorage]) {
            refused(
              yield* Effect.flip(start(url, layer)),
              `schema sluice belongs to role ${other.role}`,
              `SLUICE_TRUSTED="role ${other.role}`
            )
          }
          const owners = yield* diagnosis(url, "owners")
          expect(owners).toMatchObject({ severity: "broken", found: expect.stringContaining(`role ${other.role}`) })
        }
        const trusted = { trusted: [`role ${other.role}`] }
        if (made === plan) {
          yield* runAt(
            other.url,
            "grant all on schema sluice to public",
            "grant all on all tables in schema sluice to public"
          )
          yield* start(worker.url, PgStore.layer, trusted)
        }
      }).pipe(Effect.scoped))
  }

  it.live("one that only comes first with a table, in a schema of the clinic's own", () =>
    Effect.gen(function*() {
      const { other, worker } = yield* shared
      yield* runAt(worker.url, "create schema sluice", `grant all on schema sluice to ${other.role}`)
      yield* runAt(other.url, "create table sluice.dead_letter (call_id text)")
      refused(yield* Effect.flip(start(worker.url)), `dead_letter belongs to role ${other.role}`)
    }).pipe(Effect.scoped))

  it.live("what acts on the tables is named, with its owner, and can be said to be meant", () =>
    Effect.gen(function*() {
      const { admin, other, worker } = yield* shared
      yield* start(worker.url)
      yield* runAt(worker.url, `grant usage, create on schema sluice to ${other.role}`)
      yield* runAt(worker.url, `grant trigger on sluice.persisted_chunk to ${other.role}`)
      const f = "returns trigger language plpgsql as 'begin return new; end'"
      const cases: ReadonlyArray<
        readonly [by: string, statements: ReadonlyArray<string>, entry: string, undo: string]
      > = [
        [
          other.url,
          [
            `create function sluice.t() ${f}`,
            "create trigger t before insert on sluice.persisted_chunk for each row execute function sluice.t()"
          ],
          "trigger persisted_chunk.t",
          "drop trigger t on sluice.persisted_chunk"
        ],
        [
          worker.url,
          ["create rule quiet as on delete to sluice.chunk_queue do instead nothing"],
          "rule chunk_queue.quiet",
          "drop rule quiet on sluice.chunk_queue"
        ],
        [
          worker.url,
          [
            "alter table sluice.service_call enable row level security",
            "create policy p on sluice.service_call using (false)"
          ],
          "row security service_call",
          "alter table sluice.service_call disable row level security"
        ],
        [
          worker.url,
          ["create table public.more () inherits (sluice.persisted_chunk)"],
          "inheritance persisted_chunk",
          "drop table public.more"
        ]
      ]
      for (const [by, statements, entry, undo] of cases) {
        yield* runAt(by, ...statements)
        refused(yield* Effect.flip(start(worker.url)), `SLUICE_TRUSTED="${entry}"`)
        refused(yield* Effect.flip(start(worker.url, PgStore.layerStorage)), entry.split(".").at(-1) ?? "")
        expect(yield* diagnosis(worker.url, "owners")).toMatchObject({
          severity: "broken",
          advice: expect.stringContaining(entry)
        })
        yield* start(worker.url, PgStore.layer, { trusted: [entry] })
        yield* admin(undo)
        yield* start(worker.url)
      }
      // a foreign key of the application's makes triggers as well, and those are the server's
      yield* runAt(
        worker.url,
        `create table public.note (call_id text collate "C" references sluice.service_call (call_id))`
      )
      yield* start(worker.url)
    }).pipe(Effect.scoped))

  it.live("is not what a superuser, the database's owner, or a role that the program's is a member of has migrated", () =>
    Effect.gen(function*() {
      const { admin, other, url, worker } = yield* shared
      const database = new URL(url).pathname.slice(1)
      const grants = (role: string) => [
        `grant usage on schema sluice to ${role}`,
        `grant select, insert, update, delete on all tables in schema sluice to ${role}`,
        `grant usage on all sequences in schema sluice to ${role}`
      ]
      const again = admin("drop schema sluice cascade")
      // a superuser
      yield* start(url)
      for (const grant of grants(other.role)) yield* admin(grant)
      yield* start(other.url)
      yield* again
      // the database's owner
      yield* start(worker.url)
      for (const grant of grants(other.role)) yield* admin(grant)
      yield* start(other.url)
      yield* again
      // the role that owns the application, of which its programs' are members
      yield* admin(`alter database ${database} owner to postgres`)
      yield* admin(`grant create on database ${database} to ${worker.role}`)
      yield* start(worker.url)
      for (const grant of grants(other.role)) yield* admin(grant)
      refused(yield* Effect.flip(start(other.url)), `role ${worker.role}`)
      yield* admin(`grant ${worker.role} to ${other.role}`)
      yield* start(other.url)
      // one that may become the program's role can do all of it anyway
      yield* admin(`revoke ${worker.role} from ${other.role}`)
      yield* admin(`grant ${other.role} to ${worker.role}`)
      yield* start(other.url)
    }).pipe(Effect.scoped))

  it.live("from Postgres 16 on, having made the role is no membership", () =>
    Effect.gen(function*() {
      const { admin, other, worker } = yield* shared
      yield* admin(`alter role ${worker.role} createrole`)
      yield* admin(`grant ${other.role} to ${worker.role} with admin true, inherit false, set false`)
      yield* runAt(other.url, ...plan)
      refused(yield* Effect.flip(start(worker.url)), `role ${other.role}`)
    }).pipe(Effect.scoped))
})

describe("a database that is fit", () => {
  it.live("is looked at without a statement that is prepared, or a lock that stays", () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      yield* Effect.gen(function*() {
        const recorder = yield* CallRecorder.CallRecorder
        yield* recorder.record(call("a"))
        expect((yield* claim).chunks).toHaveLength(1)
        yield* inspect.status
        const sql = yield* SqlClient.SqlClient
        // those of other databases are other tests'
        expect(
          yield* sql`select 1 from pg_locks where locktype = 'advisory'
            and database = (select oid from pg_database where datname = current_database())`
        ).toEqual([])
      }).pipe(
        Effect.provide(CallRecorder.layer.pipe(Layer.provideMerge(PgStore.layer), Layer.provideMerge(client(url))))
      )
    }).pipe(Effect.scoped))
})
