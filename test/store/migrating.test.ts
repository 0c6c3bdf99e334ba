/**
 * Migrations beside recorders, workers and others' long transactions: nobody waits for them, and whatever interrupts them,
 * the next run goes on.
 */
import { it } from "@effect/vitest"
import { Settings } from "effect-sluice"
import * as Migrations from "effect-sluice/store/Migrations"
import * as Pglite from "effect-sluice/store/Pglite"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { migrationFiles } from "../../src/store/pg/migrationFiles.ts"
import { fromFiles, list } from "../../src/store/pg/statements.ts"
import { call, record, settle } from "../contract/operators/dialogues.ts"
import { startCluster } from "../support/cluster.ts"
import { startPooler } from "../support/pooler.ts"
import { client, freshDatabase } from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

/** What a later version brings: a column on the busiest table, and an index on the largest. */
const later = fromFiles({
  ...migrationFiles,
  "0900_beds.sql": "alter table sluice.chunk_queue add column if not exists bed text;\n",
  "0901_handlers.sql": `-- For looking up what a handler did.
create index concurrently if not exists persisted_chunk_handler on sluice.persisted_chunk (handler);
drop index concurrently if exists sluice.dead_letter_age;
`
}, "sluice")

const onFresh = <A, E>(
  test: (url: string) => Effect.Effect<A, E, SqlClient.SqlClient | Settings.Settings>,
  version: 15 | 18 = 18
) =>
  Effect.scoped(
    Effect.flatMap(freshDatabase(version), (url) => Effect.provide(test(url), client(url, { maxConnections: 20 })))
  )

/** A transaction of somebody else's that has done this, and does nothing more until the scope ends or it is told to. */
const held = Effect.fnUntraced(function*(statement: string, begin = "begin") {
  const sql = yield* SqlClient.SqlClient
  const connection = yield* sql.reserve
  const run = (text: string) => connection.executeValuesUnprepared(text, [])
  yield* run(begin)
  yield* run(statement)
  const [[pid] = []] = yield* run("select pg_backend_pid()")
  return { pid: Number(pid), end: Effect.asVoid(run("rollback")) }
})

const indexOf = (name: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(
      sql<{ oid: number; valid: boolean }>`
        select i.indexrelid::int as oid, i.indisvalid as valid from pg_index i join pg_class c on c.oid = i.indexrelid
        where c.relname = ${name}`,
      ([found]) => found
    ))

/** All that is logged is kept. */
const logged = () => {
  const lines: Array<string> = []
  return { lines, layer: Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))]) }
}

const until = <E, R>(is: Effect.Effect<boolean, E, R>) => untilIt(is, (done) => done)

/** Records so many calls and settles them, as old versions do. */
const work = (name: string, count: number) =>
  Effect.gen(function*() {
    for (let n = 0; n < count; n++) yield* record(call(`${name}-${n}`))
    expect(yield* settle("persisted")).toHaveLength(count)
  })
const store = Layer.fresh(PgStore.layerStorage)

describe("a migration beside recorders and workers", () => {
  for (const version of [15, 18] as const) {
    it.live(
      `waits for a lock without making them wait, and says whose it is: Postgres ${version}`,
      () =>
        onFresh(() =>
          Effect.gen(function*() {
            yield* Migrations.run
            const { layer, lines } = logged()
            yield* Effect.gen(function*() {
              yield* work("before", 5)
              // a report that read the queue, and was forgotten
              const report = yield* held("select count(*) from sluice.chunk_queue")
              const migrating = yield* Effect.forkChild(Migrations.runAll(later))
              yield* until(Effect.sync(() => lines.length > 0))
              // were it to hold them up, they would wait for the report's end, which waits for them
              yield* work("meanwhile", 40)
              expect(migrating.pollUnsafe()).toBeUndefined()
              expect(lines[0]).toMatch(
                new RegExp(
                  `^migration 0900_beds: "alter table .* waits for a lock, held by session ${report.pid} \\(role postgres, .*`
                )
              )
              expect(lines[0]).toContain("idle in transaction")
              yield* report.end
              expect(yield* Fiber.join(migrating)).toEqual([[900, "beds"], [901, "handlers"]])
              yield* work("after", 5)
            }).pipe(Effect.provide(store), Effect.provide(layer))
            expect(yield* indexOf("persisted_chunk_handler")).toMatchObject({ valid: true })
            expect(yield* indexOf("dead_letter_age")).toBeUndefined()
            expect(yield* Migrations.runAll(later)).toEqual([])
          }).pipe(Effect.scoped), version),
      60_000
    )
  }

  it.live(
    "gives up when it has waited long enough, names who was in the way, and goes on when run again",
    () =>
      onFresh(() =>
        Effect.gen(function*() {
          yield* Migrations.run
          const report = yield* held("select count(*) from sluice.chunk_queue")
          const impatient = Effect.provide(
            Migrations.runAll(later),
            Settings.layer({ migrationWait: Duration.seconds(1) })
          )
          const error = yield* Effect.flip(impatient)
          expect(error).toMatchObject({ _tag: "MigrationFailed", migration: "0900_beds" })
          expect(error.message).toContain(`session ${report.pid}`)
          expect(yield* Migrations.missing).toEqual([])
          yield* report.end
          expect(yield* impatient).toHaveLength(2)
        }).pipe(Effect.scoped)
      ),
    60_000
  )

  it.live("an index is made beside writers, and told what it waits for", () =>
    onFresh(() =>
      Effect.gen(function*() {
        yield* Migrations.run
        const { layer, lines } = logged()
        yield* Effect.gen(function*() {
          const report = yield* held("select count(*) from sluice.pause", "begin isolation level repeatable read")
          const migrating = yield* Effect.forkChild(Migrations.runAll(later))
          yield* until(Effect.sync(() => lines.length > 0))
          yield* work("meanwhile", 20)
          expect(lines[0]).toMatch(/^migration 0901_handlers: "create index concurrently/)
          expect(lines[0]).toContain(`waits for the end of session ${report.pid}`)
          yield* report.end
          yield* Fiber.join(migrating)
        }).pipe(Effect.provide(store), Effect.provide(layer))
        expect(yield* indexOf("persisted_chunk_handler")).toMatchObject({ valid: true })
      }).pipe(Effect.scoped)
    ), 60_000)
})

describe("a vacuum of the server's own", () => {
  it.live("makes way to a migration, as it does to whoever waits for a second", () =>
    Effect.gen(function*() {
      const cluster = yield* Effect.acquireRelease(
        Effect.promise(() => startCluster({ settings: { autovacuum_naptime: 1, autovacuum_max_workers: 1 } })),
        (cluster) => Effect.promise(() => cluster.remove())
      )
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* Migrations.run
        // so slow that it would take an hour
        yield* sql`alter table sluice.chunk_queue set (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
          autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)`
        yield* sql`insert into sluice.chunk_queue (schema_version, namespace, schema_identity, call_id)
          select 1, 'clinic', 'schemas.clinic.ward.note', 'call-' || n from generate_series(1, 50000) n`
        yield* sql`delete from sluice.chunk_queue`
        const vacuuming = sql<{ count: number }>`
          select count(*)::int as count from pg_stat_progress_vacuum where relid = 'sluice.chunk_queue'::regclass`
        yield* until(Effect.map(vacuuming, ([row]) => row?.count === 1))
        expect(yield* Migrations.runAll(later.slice(0, -1))).toEqual([[900, "beds"]])
      }).pipe(Effect.provide(client(cluster.url())))
    }).pipe(Effect.scoped), 120_000)
})

describe("an interrupted migration", () => {
  it.live(
    "leaves an index that is of no use, which the next run drops and makes again",
    () =>
      onFresh(() =>
        Effect.gen(function*() {
          yield* Migrations.run
          const report = yield* held("select count(*) from sluice.pause", "begin isolation level repeatable read")
          const migrating = yield* Effect.forkChild(Migrations.runAll(later))
          yield* until(Effect.map(indexOf("persisted_chunk_handler"), (index) => index?.valid === false))
          yield* Fiber.interrupt(migrating)
          const left = yield* indexOf("persisted_chunk_handler")
          expect(left?.valid).toBe(false)
          yield* report.end
          expect(yield* Migrations.runAll(later)).toEqual([[901, "handlers"]])
          const made = yield* indexOf("persisted_chunk_handler")
          expect(made).toMatchObject({ valid: true })
          expect(made?.oid).not.toBe(left?.oid)
        }).pipe(Effect.scoped)
      ),
    60_000
  )

  it.live("whose server process is still at it is waited for", () =>
    onFresh(() =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* Migrations.run
        const report = yield* held("select count(*) from sluice.pause", "begin isolation level repeatable read")
        // what a killed process left running
        const [statement = ""] = later.at(-1)?.statements ?? []
        const orphan = yield* Effect.forkChild(sql.unsafe(statement))
        yield* until(Effect.map(indexOf("persisted_chunk_handler"), (index) => index !== undefined))
        const begun = yield* indexOf("persisted_chunk_handler")
        const migrating = yield* Effect.forkChild(Migrations.runAll(later))
        yield* until(Effect.map(
          sql<{ count: number }>`select count(*)::int as count from sluice.migration`,
          ([row]) => row?.count === list("sluice").length + 1
        ))
        yield* report.end
        yield* Fiber.join(orphan)
        yield* Fiber.join(migrating)
        expect(yield* indexOf("persisted_chunk_handler")).toEqual({ oid: begun?.oid, valid: true })
      }).pipe(Effect.scoped)
    ), 60_000)

  it.live("after any of its statements, goes on", () =>
    Effect.gen(function*() {
      const names = Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql`select c.relname, c.relkind::text from pg_class c where c.relnamespace = 'sluice'::regnamespace order by 1`)
      const whole = yield* onFresh(() =>
        Effect.andThen(Migrations.runAll(later), names)
      )
      const statements = Migrations.plan("sluice", later)
      for (const count of [1, 2, 3, 10, statements.length - 5, statements.length - 3, statements.length - 1]) {
        const resumed = yield* onFresh(() =>
          Effect.gen(function*() {
            const sql = yield* SqlClient.SqlClient
            for (const statement of statements.slice(0, count)) yield* sql.unsafe(statement)
            yield* Migrations.runAll(later)
            return yield* names
          })
        )
        expect(resumed).toEqual(whole)
      }
    }), 60_000)
})

describe("many processes that migrate at once", () => {
  const five = (url: string) =>
    Effect.all(
      Array.from({ length: 5 }, () =>
        Effect.provide(Migrations.runAll(later), Layer.fresh(client(url)), { local: true })),
      { concurrency: "unbounded" }
    )

  it.live(
    "one does it, also what is concurrent, and the others wait and find nothing to do",
    () =>
      onFresh((url) =>
        Effect.gen(function*() {
          expect((yield* five(url)).filter((applied) => applied.length > 0)).toEqual([
            later.map(({ id, name }) => [id, name])
          ])
          expect(yield* indexOf("persisted_chunk_handler")).toMatchObject({ valid: true })
        })
      ),
    60_000
  )

  it.live(
    "also through a pooler in transaction mode, with a client that would prepare statements",
    () =>
      onFresh((url) =>
        Effect.gen(function*() {
          const { port } = yield* Effect.acquireRelease(
            Effect.promise(() => startPooler(url, 4)),
            (pooler) => Effect.promise(() => pooler.close())
          )
          const through = `postgres://postgres@127.0.0.1:${port}/any`
          const start = Effect.provide(Migrations.runAll(later), Layer.fresh(client(through)), { local: true })
          const applied = yield* Effect.all([start, start], { concurrency: "unbounded" })
          expect(applied.filter((one) => one.length > 0)).toHaveLength(1)
          expect(yield* indexOf("persisted_chunk_handler")).toMatchObject({ valid: true })
          // nothing is left of the lock that kept the other away
          const sql = yield* SqlClient.SqlClient
          expect(
            yield* sql`select 1 from pg_locks where locktype = 'advisory' and database =
          (select oid from pg_database where datname = current_database())`
          ).toEqual([])
        }).pipe(Effect.scoped)
      ),
    60_000
  )
})

describe("the embedded database", () => {
  it.live(
    "is migrated by its one session, also what is concurrent, and by several fibers at once",
    () =>
      Effect.gen(function*() {
        const applied = yield* Effect.all([Migrations.runAll(later), Migrations.runAll(later)], { concurrency: 2 })
        expect(applied.flat().length).toBeGreaterThanOrEqual(later.length)
        expect(yield* indexOf("persisted_chunk_handler")).toMatchObject({ valid: true })
        expect(yield* indexOf("dead_letter_age")).toBeUndefined()
      }).pipe(Effect.provide(Layer.merge(Pglite.layer(), Settings.layer()))),
    60_000
  )
})

describe("a pooler with a single session", () => {
  it.live("is too little for a migration, which says so", () =>
    onFresh((url) =>
      Effect.gen(function*() {
        const { port } = yield* Effect.acquireRelease(
          Effect.promise(() => startPooler(url, 1)),
          (pooler) => Effect.promise(() => pooler.close())
        )
        const through = client(`postgres://postgres@127.0.0.1:${port}/any`)
        const error = yield* Effect.flip(
          Effect.provide(Migrations.runAll(later), Layer.fresh(through), { local: true })
        )
        expect(error.message).toBe("Sluice's tables: no connection for the statements within 10 seconds")
      }).pipe(Effect.scoped)
    ), 60_000)
})

describe("surroundings of a migration", () => {
  it.live(
    "no setting of the role and no function of others in its path matters",
    () =>
      onFresh((url) =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const role = `nasty_${new URL(url).pathname.slice(1)}`
          yield* sql.unsafe(`create role ${role} login`)
          yield* Effect.addFinalizer(() =>
            Effect.ignore(
              sql.unsafe(`drop owned by ${role} cascade`).pipe(Effect.andThen(sql.unsafe(`drop role ${role}`)))
            )
          )
          yield* sql.unsafe(`grant create on database ${new URL(url).pathname.slice(1)} to ${role}`)
          yield* sql.unsafe("create schema evil")
          yield* sql.unsafe("create function evil.now() returns timestamptz language sql as 'select null::timestamptz'")
          yield* sql.unsafe(`grant usage on schema evil to ${role}`)
          for (
            const setting of [
              "search_path = evil, public",
              "lock_timeout = '1ms'",
              "statement_timeout = '1min'",
              "default_transaction_isolation = serializable",
              "default_transaction_read_only = on",
              "idle_in_transaction_session_timeout = '100ms'"
            ]
          ) yield* sql.unsafe(`alter role ${role} set ${setting}`)
          const as = new URL(url)
          as.username = role
          const asNasty = Effect.provide(Layer.fresh(client(as.href)), { local: true })
          expect(yield* asNasty(Migrations.run)).toHaveLength(list("sluice").length)
          const report = yield* held("select 1", "begin isolation level repeatable read")
          const migrating = yield* Effect.forkChild(asNasty(Migrations.runAll(later)))
          // longer than its limits
          yield* until(Effect.map(indexOf("persisted_chunk_handler"), (index) => index?.valid === false))
          yield* Effect.sleep("300 millis")
          yield* report.end
          expect(yield* Fiber.join(migrating)).toHaveLength(later.length - list("sluice").length)
          expect(
            yield* sql`select 1 from pg_attrdef where adrelid = 'sluice.chunk_queue'::regclass
            and pg_get_expr(adbin, adrelid) like '%evil%'`
          ).toEqual([])
        }).pipe(Effect.scoped)
      ),
    60_000
  )

  it.live("within somebody's transaction it is refused", () =>
    onFresh(() =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const exit = yield* Effect.exit(sql.withTransaction(Migrations.run))
        expect(Exit.isFailure(exit) && String(exit.cause)).toContain("cannot be part of a transaction")
      })
    ))
})
