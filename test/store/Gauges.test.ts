/**
 * The gauges of the queue: what they say, what they cost, and what they say when the database does not answer.
 */
import { it } from "@effect/vitest"
import { EventLog, Metrics, Settings } from "effect-sluice"
import * as Gauges from "effect-sluice/store/Gauges"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { layer } from "../support/Postgres.ts"
import { untilIt } from "../support/until.ts"

const isolated = Effect.provideServiceEffect(Metric.MetricRegistry, Effect.sync((): Metric.MetricRegistry => new Map()))
const on = (maxConnections: number) =>
  PgStore.layer.pipe(
    Layer.provide(Settings.layer({ notify: false, listen: false })),
    Layer.provideMerge(layer(18, { maxConnections }))
  )

/** What the gauges show, by state; the age without one. */
const shown = Effect.map(Metric.snapshot, (all) =>
  Object.fromEntries(
    all.flatMap((one) =>
      one.type === "Gauge" ? [[one.attributes?.["state"] ?? "oldest", Math.round(Number(one.state.value))]] : []
    )
  ))

/** Samples. Where the database takes more than a second there are no gauges; on a busy machine it may. */
const sample = untilIt(Effect.andThen(Gauges.sample, shown), (gauges) => "ready" in gauges)

const fill = Effect.fnUntraced(function*(counts: Readonly<Record<string, number>>) {
  const sql = yield* SqlClient.SqlClient
  for (const [state, count] of Object.entries(counts)) {
    yield* state === "dead" || state === "discarded"
      ? sql`insert into sluice.dead_letter (call_id, schema_identity, seq, namespace, schema_version, position, bytes,
          priority, reason, handler, message, attempts, crashes, recorded_at, discarded_at)
        select ${state} || n, 'note', n, 'clinic', 1, 0, 1, 0, 'rejected', '', 'no bed', 0, 0, now(),
          case when ${state === "discarded"} then now() end
        from generate_series(1, ${count}::int) n`
      : sql`insert into sluice.chunk_queue (
          namespace, schema_identity, schema_version, call_id, state, ordering_key, parked_for, due_at
        )
        select 'clinic', 'note', 1, ${state} || n, ${state}, case when ${state === "waiting"} then 'bed' || n % 7 end,
          case when ${state === "parked"} then 'no-handler' end, now() - interval '10 seconds'
        from generate_series(1, ${count}::int) n`
  }
})

describe("the gauges", () => {
  it.live("say how many chunks stand where, and how long the oldest due one has waited", () =>
    Effect.gen(function*() {
      yield* sample
      expect(yield* shown).toEqual({ ready: 0, scheduled: 0, waiting: 0, parked: 0, dead: 0, oldest: 0 })
      yield* fill({ ready: 1, scheduled: 2, waiting: 3, parked: 4, dead: 5, discarded: 6 })
      const sql = yield* SqlClient.SqlClient
      yield* sql`update sluice.chunk_queue set due_at = now() + interval '1 hour' where call_id = 'scheduled1'`
      yield* sql`update sluice.chunk_queue set due_at = now() - interval '1 minute' where call_id = 'scheduled2'`
      yield* sample
      expect(yield* shown).toEqual({ ready: 1, scheduled: 2, waiting: 3, parked: 4, dead: 5, oldest: 60 })
      // what is parked, or held, is not what could be claimed
      yield* sql`delete from sluice.chunk_queue where state = 'scheduled'`
      yield* sql`update sluice.chunk_queue set lease_until = now() + interval '1 minute' where state = 'ready'`
      yield* sample
      expect(yield* shown).toMatchObject({ ready: 1, oldest: 0 })
    }).pipe(Effect.provide(on(1)), isolated))

  it.live("say of each subscription how far behind it is, and forget those that are gone", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const lags = Effect.map(Metric.snapshot, (all) =>
        Object.fromEntries(all.flatMap((one) => {
          const name = one.attributes?.["subscription"]
          const figure = one.id.replace("sluice_subscription_", "")
          return one.type === "Gauge" && name !== undefined ? [[`${name} ${figure}`, Number(one.state.value)]] : []
        })))
      const log = yield* EventLog.EventLog
      for (const name of ["billing", "media"]) yield* log.open(name, "beginning")
      yield* sample
      expect(yield* lags).toMatchObject({
        "billing unread_entries": 0,
        "billing oldest_unread_age_seconds": 0,
        "billing failed_attempts": 0
      })
      yield* sql`
        insert into sluice.persisted_chunk (
          call_id, schema_identity, namespace, schema_version, handler, handler_version, persisted_at
        )
        select 'call-' || n, 'note', 'clinic', 1, 'clinic/note', 1, now() - n * interval '1 minute'
        from generate_series(1, 3) n order by n desc`
      yield* log.reset("media", "now")
      yield* sql`update sluice.subscription set attempts = 2 where name = 'billing'`
      yield* log.remove("media")
      yield* sample
      const found = yield* lags
      expect(Object.keys(found).filter((key) => key.startsWith("media"))).toEqual([])
      expect(found).toMatchObject({ "billing unread_entries": 3, "billing failed_attempts": 2 })
      expect(found["billing oldest_unread_age_seconds"]).toBeGreaterThanOrEqual(180)
      expect(found["billing oldest_unread_age_seconds"]).toBeLessThan(240)

      // however many people make, so many series
      yield* sql`insert into sluice.subscription (name, xact) select 'ward-' || n, '9000000' from generate_series(1, 500) n`
      yield* sample
      expect(Object.keys(yield* lags)).toHaveLength(300)
      expect(yield* lags).toMatchObject({ "billing unread_entries": 3 })

      // nothing is shown of what cannot be asked, and the queue is shown all the same
      yield* fill({ ready: 2 })
      yield* sql`alter table sluice.subscription rename to away`
      yield* sample
      expect(yield* lags).toEqual({})
      expect(yield* shown).toMatchObject({ ready: 2 })
    }).pipe(Effect.provide(on(1)), isolated))

  it.live("read no more than they count, however much there is", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const many = 30_000
      yield* fill({ ready: many, scheduled: many, waiting: many, parked: many, dead: many, discarded: many })
      yield* sql.unsafe("vacuum analyze sluice.chunk_queue, sluice.dead_letter")
      const reads = Effect.gen(function*() {
        yield* sql`select pg_stat_force_next_flush()`
        const [row] = yield* sql<{ read: number; scanned: number }>`
          select sum(i.idx_tup_read)::int as read, (select sum(seq_tup_read)::int from pg_stat_user_tables) as scanned
          from pg_stat_user_indexes i where i.schemaname = 'sluice'`
        return row ?? { read: 0, scanned: 0 }
      })
      const [before, , after] = yield* untilIt(
        Effect.all([reads, Effect.andThen(Gauges.sample, shown), reads]),
        ([, gauges]) => "ready" in gauges
      )
      const most = Metrics.mostCounted
      expect(yield* shown).toMatchObject({ ready: most, scheduled: most, waiting: most, parked: most, dead: most })
      expect(after.scanned - before.scanned).toBe(0)
      expect(after.read - before.read).toBeGreaterThanOrEqual(5 * most)
      expect(after.read - before.read).toBeLessThan(5 * most + 2000)
      // one connection, so that what it has read is counted when it is asked
    }).pipe(Effect.provide(on(1)), isolated))

  it.live("are not shown while the database does not answer, and are soon given up", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* fill({ ready: 3 })
      yield* sample
      expect(yield* shown).toMatchObject({ ready: 3 })
      const other = yield* sql.reserve
      yield* other.executeUnprepared("begin", [], undefined)
      yield* other.executeUnprepared("lock table sluice.chunk_queue in access exclusive mode", [], undefined)
      // the lock is held until it gives up
      yield* Gauges.sample
      expect(yield* shown).toEqual({})
      yield* other.executeUnprepared("rollback", [], undefined)
      yield* sample
      expect(yield* shown).toMatchObject({ ready: 3 })
      yield* sql`drop table sluice.chunk_queue`
      yield* Gauges.sample
      expect(yield* shown).toEqual({})
    }).pipe(Effect.scoped, Effect.provide(on(3)), isolated))
})
