/**
 * The doctor on real Postgres: each thing that can be wrong is made so, and it finds that, and says what to do.
 */
import { PgClient } from "@effect/sql-pg"
import { it } from "@effect/vitest"
import {
  CallRecorder,
  ChunkStore,
  DeadLetters,
  EventLog,
  Inspector,
  Pauses,
  ServiceCall,
  Settings
} from "effect-sluice"
import * as Migrations from "effect-sluice/store/Migrations"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { examine } from "../../src/cli/examine.ts"
import { type Finding, usualLimits } from "../../src/cli/Finding.ts"
import { grants } from "../../src/store/Rights.ts"
import { startPooler } from "../support/pooler.ts"
import { asRole, client, freshDatabase, layer, layerAlone, runAt, serverAlone } from "../support/Postgres.ts"

const note = "schemas.clinic.ward.note"
const call = (callId: string) => ({
  callId,
  namespace: "clinic",
  service: "services.clinic.ward.take-notes",
  outputs: [{ schema: note, version: 1, data: "slept well" }]
})
const recordAll = (calls: ReadonlyArray<ServiceCall.ServiceCall>) =>
  CallRecorder.CallRecorder.use((recorder) => recorder.recordMany(calls)).pipe(Effect.provide(CallRecorder.layer))
const record = (...ids: ReadonlyArray<string>) => recordAll(ids.map(call))
const claim = ChunkStore.ChunkStore.use((store) =>
  store.claim({ worker: "w", limit: 10, maxBytes: 1e6, lease: Duration.minutes(1) })
)
/** Settles all that is due as dead. */
const buryAll = Effect.gen(function*() {
  const store = yield* ChunkStore.ChunkStore
  const { chunks, token } = yield* claim
  const failure = { handler: "", kind: "rejected", message: "no bed" } as const
  yield* store.settle(
    token,
    chunks.map((chunk) => ({ _tag: "Bury", chunk, reason: "rejected", charge: false, failure }))
  )
})

const find = (findings: ReadonlyArray<Finding>, check: string) => findings.find((one) => one.check === check)
const finding = (check: string, limits: Partial<typeof usualLimits> = {}) =>
  Effect.map(
    examine({ alone: false, limits: { ...usualLimits, ...limits } }),
    (findings) => find(findings, check)
  )
const run = <A, E>(
  effect: Effect.Effect<A, E, SqlClient.SqlClient | Settings.Settings | Layer.Success<typeof PgStore.layer>>,
  version: 15 | 18 = 18,
  settings: Settings.Options = {}
) =>
  effect.pipe(
    Effect.provide(PgStore.layer.pipe(Layer.provideMerge(Settings.layer(settings)), Layer.provideMerge(layer(version))))
  )
const sql = SqlClient.SqlClient

describe("the doctor", () => {
  for (const version of [15, 18] as const) {
    it.live(`finds nothing on a new database of Postgres ${version}`, () =>
      run(
        Effect.gen(function*() {
          const findings = yield* examine({ alone: false })
          expect(findings.filter((one) => one.severity !== "ok")).toEqual([])
          expect(find(findings, "server")?.found).toBe(`Postgres ${version}`)
          expect(findings.length).toBeGreaterThan(13)
        }),
        version
      ))
  }

  it.live("says when there are no tables", () =>
    Effect.gen(function*() {
      const findings = yield* examine({ alone: false })
      expect(findings.map((one) => one.check)).toEqual([
        "server",
        "encoding",
        "search path",
        "clock",
        "tables",
        "pooler"
      ])
      expect(find(findings, "tables")).toMatchObject({
        severity: "broken",
        advice: expect.stringMatching(/sluice migrate/)
      })
    }).pipe(Effect.provide(PgStore.layerStorage.pipe(
      Layer.provideMerge(Layer.unwrap(Effect.map(freshDatabase(), (url) => client(url))))
    ))))

  it.live("says when migrations are missing", () =>
    run(Effect.gen(function*() {
      yield* (yield* sql)`delete from sluice.migration`
      expect(yield* finding("migrations")).toMatchObject({
        severity: "broken",
        found: `${Migrations.list("sluice").length} missing`
      })
    })))

  for (const version of [15, 18] as const) {
    it.live(`names a role that may claim and not settle, and the grants it prints suffice, on Postgres ${version}`, () =>
      Effect.gen(function*() {
        const url = yield* freshDatabase(version)
        yield* Effect.gen(function*() {
          const check = Effect.map(examine({ alone: false }), (found) => found.filter((one) => one.check === "rights"))
          // who only records, or reads everything, does not drain
          for (const [name, purpose] of [["web", "recorder"], ["events", "subscriber"]] as const) {
            const { role } = yield* asRole(url, name)
            yield* runAt(url, ...grants("sluice", role, [purpose]))
          }
          const { role } = yield* asRole(url, "drains")
          // by a role that it is a member of, as by itself
          const { role: group } = yield* asRole(url, "group")
          yield* runAt(url, ...grants("sluice", group, ["worker"]), `grant ${group} to ${role}`)
          expect(yield* check).toMatchObject([{ severity: "ok" }])
          yield* runAt(
            url,
            `revoke insert on sluice.persisted_chunk from ${group}`,
            `revoke select on sequence sluice.chunk_failure_id_seq from ${group}`,
            `revoke usage on schema sluice from ${group}`
          )
          const found = yield* check
          expect(found.map(({ found }) => found)).toEqual(
            [role, group].map((name) =>
              `role ${name} has some of a worker's rights, and lacks others on schema sluice, chunk_failure_id_seq, ` +
              "persisted_chunk"
            )
          )
          yield* runAt(url, ...found.flatMap(({ advice }) => advice.split("; ")))
          expect(yield* check).toMatchObject([{ severity: "ok" }])
        }).pipe(Effect.provide(Layer.fresh(PgStore.layer).pipe(Layer.provideMerge(Layer.fresh(client(url))))))
      }).pipe(Effect.scoped))
  }

  it.live("says how to make a missing index, and that works", () =>
    run(Effect.gen(function*() {
      const db = yield* sql
      yield* db`drop index sluice.chunk_queue_ready`
      const found = yield* finding("indexes")
      expect(found).toMatchObject({ severity: "broken", found: "missing: chunk_queue_ready" })
      expect(found?.advice).toContain("create index concurrently if not exists chunk_queue_ready on sluice.chunk_queue")
      yield* db.unsafe(found?.advice ?? "")
      expect(yield* finding("indexes")).toMatchObject({ severity: "ok" })
    })))

  it.live("finds answers that are nowhere, as after a restore without the rows of a table", () =>
    run(Effect.gen(function*() {
      const db = yield* sql
      const lost = finding("answers")
      yield* record("a", "b", "c", "d")
      yield* buryAll
      expect(yield* lost).toMatchObject({ severity: "ok", found: "each is queued, persisted or dead" })
      yield* db`delete from sluice.dead_letter where call_id > 'b'`
      expect(yield* lost).toMatchObject({
        severity: "attention",
        found: "calls without a queued, persisted or dead answer: 2, for example c"
      })
      // what is pruned is over
      yield* db`update sluice.service_call set input = null, outputs = null where call_id > 'b'`
      expect(yield* lost).toMatchObject({ severity: "ok" })
    })))

  it.live("says how to mend an invalid index, and that works", () =>
    run(Effect.gen(function*() {
      const db = yield* sql
      yield* record("a", "b")
      // what is left of a unique index that was made concurrently over rows that are not unique
      yield* Effect.ignore(db`create unique index concurrently twice on sluice.chunk_queue (namespace)`)
      const found = yield* finding("indexes")
      expect(found).toMatchObject({ severity: "broken", found: "invalid: twice" })
      yield* db`delete from sluice.chunk_queue where call_id = 'b'`
      yield* db.unsafe(found?.advice ?? "")
      expect(yield* finding("indexes")).toMatchObject({ severity: "ok" })
    })))

  it.live("says how in a schema whose name is a word of SQL, and that works", () =>
    run(
      Effect.gen(function*() {
        const db = yield* sql
        yield* db`create unlogged table "user".doubled as select 1 as n union all select 1`
        yield* Effect.ignore(db`create unique index concurrently twice on "user".doubled (n)`)
        yield* db`delete from "user".doubled`
        const invalid = yield* finding("indexes")
        expect(invalid).toMatchObject({ severity: "broken", found: "invalid: twice" })
        yield* db.unsafe(invalid?.advice ?? "")
        expect(yield* finding("indexes")).toMatchObject({ severity: "ok" })
        yield* db`drop index "user".chunk_queue_ready`
        yield* db.unsafe((yield* finding("indexes"))?.advice ?? "")
        expect(yield* finding("indexes")).toMatchObject({ severity: "ok" })
        const bloat = yield* finding("bloat", { indexBytes: -1 })
        expect(bloat).toMatchObject({ severity: "attention" })
        yield* db.unsafe(bloat?.advice ?? "")
        yield* record("a")
        yield* db`delete from "user".chunk_queue`
        yield* db`select pg_stat_force_next_flush()`
        const behind = yield* finding("autovacuum", { deadRows: 0 })
        expect(behind).toMatchObject({ severity: "attention" })
        yield* db.unsafe(/vacuum \S+chunk_queue/.exec(behind?.advice ?? "")?.[0] ?? "")
      }),
      18,
      { schema: "user" }
    ))

  it.live("says when the clocks differ, when autovacuum is behind, when indexes are bloated", () =>
    run(Effect.gen(function*() {
      const db = yield* sql
      expect(yield* finding("clock", { clockMillis: -1 })).toMatchObject({ severity: "attention" })
      expect(yield* finding("bloat", { indexBytes: -1 })).toMatchObject({ severity: "attention" })
      yield* record("a", "b", "c")
      yield* db`delete from sluice.chunk_queue`
      yield* db`select pg_stat_force_next_flush()`
      expect(yield* finding("autovacuum", { deadRows: 2 })).toMatchObject({
        severity: "attention",
        found: "3 dead rows beside 0 live ones in the queue; last cleaned never"
      })
      expect(yield* finding("autovacuum", { deadRows: 3 })).toMatchObject({ severity: "ok" })
    })))

  it.live("names the session that holds a snapshot, and how to end it works", () =>
    Effect.gen(function*() {
      const db = yield* sql
      const other = yield* db.reserve
      yield* other.executeUnprepared("begin isolation level repeatable read", [], undefined)
      const [[pid] = []] = yield* other.executeValuesUnprepared("select pg_backend_pid(), count(*) from pg_class", [])
      const found = yield* finding("snapshots", { snapshotSeconds: -1 })
      expect(found).toMatchObject({ severity: "attention" })
      expect(found?.found).toMatch(new RegExp(`^session ${String(pid)} \\(.*, idle in transaction\\) holds one for`))
      const kill = /select pg_terminate_backend\(\d+\)/.exec(found?.advice ?? "")?.[0] ?? ""
      expect(kill).toContain(String(pid))
      yield* db.unsafe(kill)
      expect((yield* Effect.exit(other.executeUnprepared("select 1", [], undefined)))._tag).toBe("Failure")
      // what is seen of one server's transactions is seen from all its databases: this one is the test's own
    }).pipe(Effect.scoped, Effect.provide(PgStore.layer.pipe(Layer.provideMerge(layerAlone())))))

  it.live("says when due chunks wait, and whether a worker lives", () =>
    run(Effect.gen(function*() {
      yield* record("a")
      yield* (yield* sql)`update sluice.chunk_queue set due_at = now() - interval '1 hour', rank = now() - interval '1 hour'`
      expect(yield* finding("age")).toMatchObject({
        severity: "attention",
        found: "the oldest due chunk has waited 1 h"
      })
      expect(yield* finding("workers")).toMatchObject({ severity: "attention" })
      yield* ChunkStore.ChunkStore.use((store) => store.beat("w", [{ namespace: "clinic", schemaIdentity: note }]))
      expect(yield* finding("workers")).toMatchObject({ severity: "ok", found: "1 alive" })
    })))

  it.live("says when chunks that failed wait for another attempt, however long that is due", () =>
    run(Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record("a", "b")
      const { chunks, token } = yield* claim
      const failure = { handler: "clinic/note", kind: "failed", message: "the ward is closed\n  at ward.ts:1" } as const
      const delay = Duration.hours(1)
      yield* store.settle(token, chunks.map((chunk) => ({ _tag: "Retry", chunk, delay, failure })))
      const db = yield* sql
      yield* db`update sluice.chunk_failure set at = now() - interval '2 minutes'`
      expect(yield* finding("age")).toMatchObject({ severity: "ok", found: "nothing is due" })
      expect(yield* finding("scheduled")).toMatchObject({
        severity: "ok",
        found: "2, since 2 min, latest error of call b: the ward is closed"
      })
      yield* db`update sluice.chunk_failure set at = now() - interval '2 hours'`
      expect(yield* finding("scheduled")).toMatchObject({
        severity: "attention",
        found: "2, since 2 h, latest error of call b: the ward is closed",
        advice: expect.stringMatching(/sluice stuck/)
      })
      // their time has come and nobody has tried: they wait like every due chunk
      yield* db`update sluice.chunk_queue set due_at = now() - interval '3 hours'`
      expect(yield* finding("age")).toMatchObject({
        severity: "attention",
        found: "the oldest due chunk has waited 3 h"
      })
    })))

  it.live("measures the age of the chunk that has waited longest, not of the most urgent one", () =>
    run(Effect.gen(function*() {
      yield* record("a", "b")
      yield* (yield* sql)`update sluice.chunk_queue set
        due_at = now() - case call_id when 'a' then interval '4 hours' else interval '1 minute' end,
        rank = now() - case call_id when 'a' then interval '4 hours' else interval '1 day' end`
      expect(yield* finding("age")).toMatchObject({ found: "the oldest due chunk has waited 4 h" })
    })))

  it.live("says when chunks stand behind a dead letter of their ordering key", () =>
    run(Effect.gen(function*() {
      yield* recordAll([
        { ...call("first"), orderingKey: "bed-1" },
        { ...call("free"), orderingKey: "bed-2" }
      ])
      yield* buryAll
      yield* recordAll(["second", "third"].map((id) => ({ ...call(id), orderingKey: "bed-1" })))
      expect(yield* finding("held up")).toMatchObject({
        severity: "attention",
        found: "2 behind a dead letter of their ordering key, for example of call first"
      })
      yield* DeadLetters.DeadLetters.use((letters) => letters.discard({}, "a test"))
      expect(yield* finding("held up")).toMatchObject({ severity: "ok" })
    })))

  it.live("reports chunks that wait although nothing is before them, and `sluice mend` releases them", () =>
    run(Effect.gen(function*() {
      const db = yield* sql
      yield* recordAll(["first", "second"].map((id) => ({ ...call(id), orderingKey: "bed-1" })))
      yield* recordAll(["third", "fourth"].map((id) => ({ ...call(id), orderingKey: "bed-2" })))
      yield* recordAll([{ ...call("fifth"), namespace: "dental", orderingKey: "bed-2" }])
      yield* db`update sluice.chunk_queue set state = 'waiting' where call_id <> 'third'`
      expect(yield* finding("waiting")).toMatchObject({
        severity: "attention",
        found: "2 wait although nothing is before them, for example call first",
        advice: expect.stringMatching(/`sluice mend`/)
      })
      const { releaseWaiting } = yield* ChunkStore.ChunkStore
      const found = yield* Inspector.Inspector.use((inspector) => inspector.stuck({ limit: 10 }))
      expect(found.map(({ behind, callId }) => [callId, behind])).toEqual([
        ["first", null],
        ["second", "first"],
        ["fourth", "third"],
        ["fifth", null]
      ])
      expect(yield* releaseWaiting).toBe(2)
      expect(yield* finding("waiting")).toMatchObject({ severity: "ok" })
      expect(yield* releaseWaiting).toBe(0)
    })))

  it.live("says when what waited for a dead letter waits no longer for it, by the setting", () =>
    run(Effect.gen(function*() {
      yield* recordAll([{ ...call("first"), orderingKey: "bed-1" }])
      yield* buryAll
      yield* recordAll([{ ...call("second"), orderingKey: "bed-1" }])
      yield* claim
      expect(yield* finding("waiting")).toMatchObject({ severity: "ok" })
      yield* Effect.gen(function*() {
        expect(yield* finding("waiting")).toMatchObject({
          found: "1 wait although nothing is before them, for example call second"
        })
        expect(yield* ChunkStore.ChunkStore.use((store) => store.releaseWaiting)).toBe(1)
      }).pipe(Effect.provide(
        Layer.fresh(PgStore.layerStorage).pipe(Layer.provide(Settings.layer({ deadBlocksKey: false }))),
        { local: true }
      ))
    })))

  it.live("says when no worker that lives takes what is due", () =>
    run(Effect.gen(function*() {
      const beat = (namespace: string) =>
        ChunkStore.ChunkStore.use((store) => store.beat(namespace, [{ namespace, schemaIdentity: note }]))
      yield* record("a")
      yield* beat("dental")
      expect(yield* finding("namespaces")).toMatchObject({
        severity: "attention",
        found: `no worker takes clinic/${note}`
      })
      // what is scheduled for tomorrow is nobody's to take yet; what is scheduled and due is
      yield* (yield* sql)`update sluice.chunk_queue set state = 'scheduled', due_at = now() + interval '1 day'`
      expect(yield* finding("namespaces")).toMatchObject({ severity: "ok" })
      yield* (yield* sql)`update sluice.chunk_queue set due_at = now() - interval '1 second'`
      expect(yield* finding("namespaces")).toMatchObject({ found: `no worker takes clinic/${note}` })
      yield* beat("core")
      expect(yield* finding("namespaces")).toMatchObject({ severity: "ok" })
    })))

  it.live("reports expired leases whose chunks no worker claims", () =>
    run(Effect.gen(function*() {
      yield* record("a", "b")
      yield* claim
      expect(yield* finding("leases")).toMatchObject({ severity: "ok" })
      yield* (yield* sql)`update sluice.chunk_queue set lease_until = now() - interval '10 minutes'`
      expect(yield* finding("leases")).toMatchObject({
        severity: "attention",
        found: expect.stringMatching(/^2 ran out/)
      })
    })))

  it.live("distinguishes kinds without a handler from paused ones", () =>
    run(Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record("a", "b")
      const { chunks, token } = yield* claim
      yield* store.settle(token, chunks.map((chunk) => ({ _tag: "Park", chunk, reason: "no-handler" })))
      expect(yield* finding("handlers")).toMatchObject({
        severity: "attention",
        found: `none that can run for clinic/${note}`
      })
      yield* Pauses.Pauses.use((pauses) => pauses.pause({ namespace: "clinic", schemaIdentity: "*" }, "the ward moves"))
      expect(yield* finding("handlers")).toMatchObject({ severity: "ok" })
      expect(yield* finding("pauses")).toMatchObject({
        severity: "attention",
        found: expect.stringMatching(/^clinic\/\* \(the ward moves\) since/)
      })
    })))

  it.live("counts the dead letters that wait for somebody", () =>
    run(Effect.gen(function*() {
      yield* record("a", "b", "c")
      yield* buryAll
      expect(yield* finding("dead letters")).toMatchObject({ severity: "attention", found: "3" })
      yield* DeadLetters.DeadLetters.use((letters) => letters.discard({}, "a test"))
      expect(yield* finding("dead letters")).toMatchObject({ severity: "ok" })
    })))

  it.live("says which subscriptions fail, and which are behind", () =>
    run(Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      yield* log.open("billing", "beginning")
      yield* (yield* sql)`
        insert into sluice.persisted_chunk (call_id, schema_identity, namespace, schema_version, handler, handler_version)
        select 'call-' || n, ${note}, 'clinic', 1, 'clinic/note', 1 from generate_series(1, 5) n`
      expect(yield* finding("subscriptions", { unread: 5 })).toMatchObject({ severity: "ok" })
      expect(yield* finding("subscriptions", { unread: 4 })).toMatchObject({
        severity: "attention",
        found: "billing is 5 entries behind"
      })
      yield* (yield* sql)`update sluice.subscription set attempts = 3, last_error = 'the ledger is shut'`
      expect(yield* finding("subscriptions")).toMatchObject({
        severity: "attention",
        found: "billing failed 3 times: the ledger is shut"
      })
    })))

  it.live("says when the event log came from another cluster, what to do, and that it is done", () =>
    run(Effect.gen(function*() {
      const db = yield* sql
      const log = yield* EventLog.EventLog
      yield* log.open("billing", "beginning")
      expect(yield* finding("event log")).toMatchObject({ severity: "ok" })
      // as a restore leaves it: written by another transaction than it says
      yield* db`update sluice.subscription_log set witness = '4000000000'`
      expect(yield* finding("event log")).toMatchObject({
        severity: "attention",
        found: "it came from another cluster",
        advice: expect.stringMatching(/`sluice subscriptions rebase`/)
      })
      yield* db`
        insert into sluice.persisted_chunk (
          call_id, schema_identity, namespace, schema_version, handler, handler_version, xact
        )
        values ('call-1', ${note}, 'clinic', 1, 'clinic/note', 1, '4000000000')`
      expect(yield* finding("event log")).toMatchObject({
        severity: "attention",
        found: "it came from another cluster, and its transaction ids are above this one's"
      })
      yield* log.rebase
      expect(yield* finding("event log")).toMatchObject({ severity: "ok" })
      // by hand, into a log that is this cluster's
      yield* db`update sluice.subscription set xact = '9000000000' where name = 'billing'`
      expect(yield* finding("event log")).toMatchObject({
        severity: "attention",
        found: expect.stringMatching(/numbers of another cluster.*`sluice subscriptions rebase`/)
      })
    })))

  it.live("reads no table from end to end, however much there is", () =>
    Effect.gen(function*() {
      const db = yield* sql
      const many = 20_000
      yield* EventLog.EventLog.use((log) => log.open("billing", "beginning"))
      yield* db`
        insert into sluice.chunk_queue (namespace, schema_identity, schema_version, call_id, state, parked_for, lease_until)
        select 'clinic', ${note}, 1, 'call-' || n, (array['ready', 'parked', 'scheduled'])[1 + n % 3],
          case n % 3 when 1 then 'no-handler' end, case when n % 6 = 0 then now() + interval '1 minute' end
        from generate_series(1, ${many}::int) n`
      yield* db`
        insert into sluice.persisted_chunk (call_id, schema_identity, namespace, schema_version, handler, handler_version)
        select 'call-' || n, ${note}, 'clinic', 1, 'clinic/note', 1 from generate_series(1, ${many}::int) n`
      yield* db`
        insert into sluice.dead_letter (call_id, schema_identity, seq, namespace, schema_version, position, bytes, priority,
          reason, handler, message, attempts, crashes, recorded_at)
        select 'dead-' || n, ${note}, n, 'clinic', 1, 0, 1, 0, 'rejected', '', 'no bed', 0, 0, now()
        from generate_series(1, ${many}::int) n`
      yield* db.unsafe("vacuum analyze sluice.chunk_queue, sluice.persisted_chunk, sluice.dead_letter")
      const reads = Effect.gen(function*() {
        yield* db`select pg_stat_force_next_flush()`
        return yield* db<{ name: string; rows: number }>`
          select t.relname as name, (t.seq_tup_read + sum(i.idx_tup_read))::int as rows
          from pg_stat_user_tables t join pg_stat_user_indexes i using (relid)
          where t.schemaname = 'sluice' and t.relname in ('chunk_queue', 'dead_letter', 'persisted_chunk')
          group by t.relid, t.relname, t.seq_tup_read order by t.relname`
      })
      const before = yield* reads
      yield* examine({ alone: true })
      const after = yield* reads
      // what was read is counted at all: the subscription is behind
      expect(after[2]?.rows).toBeGreaterThan(before[2]?.rows ?? 0)
      for (const [n, { name, rows }] of after.entries()) {
        const read = rows - (before[n]?.rows ?? 0)
        // ten thousand of a subscription's unread entries are counted at most; what else is read is at the heads of indexes
        expect({ name, tooMany: read > 10_110 ? read : 0 }).toEqual({ name, tooMany: 0 })
      }
      // one connection, so that what it has read is counted when it is asked
    }).pipe(
      Effect.provide(PgStore.layer.pipe(
        Layer.provide(Settings.layer({ listen: false })),
        // a server of its own: a transaction under way in another test's database would keep entries from being read
        Layer.provideMerge(Layer.unwrap(Effect.map(serverAlone(18), (url) => client(url, { maxConnections: 1 }))))
      ))
    ))
})

describe("a pooler", () => {
  const through = (port: number) =>
    Layer.merge(
      PgClient.layer({ url: Redacted.make(`postgres://postgres@127.0.0.1:${port}/any`), prepare: false }),
      Settings.layer()
    )

  it.live.each([[1], [2], [3]])(
    "in transaction mode with %s sessions is seen",
    ([sessions]) =>
      Effect.scoped(Effect.gen(function*() {
        const url = yield* freshDatabase()
        yield* Effect.provide(Effect.void, PgStore.layer.pipe(Layer.provide(client(url))))
        const { port } = yield* Effect.acquireRelease(
          Effect.promise(() => startPooler(url, sessions ?? 1)),
          (pooler) => Effect.promise(() => pooler.close())
        )
        const found = yield* finding("pooler").pipe(
          Effect.provide(PgStore.layerStorage.pipe(Layer.provideMerge(through(port))))
        )
        expect(found).toMatchObject({ severity: "attention", advice: expect.stringMatching(/SLUICE_LISTEN_URL/) })
      }))
  )
})
