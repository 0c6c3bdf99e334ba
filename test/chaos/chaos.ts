/**
 * The chaos: workers that are killed, frozen and told to stop, a server that crashes, terminates sessions and runs out
 * of them, connections that fall silent, an address that leads to a standby, rows and snapshots that somebody else holds,
 * and calls that keep being recorded meanwhile; then calm, and the checker.
 */
import { CallRecorder } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import { startProxy } from "../faults/proxy.ts"
import { client } from "../support/client.ts"
import { startCluster } from "../support/cluster.ts"
import { check, happened, type Verdict } from "./checker.ts"
import { startCrew } from "./crew.ts"
import { calm, expect, leastNow } from "./expected.ts"
import { strikes } from "./faults.ts"
import { kinds, planCall, planFaults } from "./plan.ts"
import { settingsWith } from "./ward.ts"

const settings = settingsWith(true)

/** What is to be done. */
export interface Options {
  readonly seed: number
  readonly seconds: number
  readonly workers: number
  /** How many seconds it may take until all is drained, once it is calm. Default 300. */
  readonly patience?: number
  /** Told of every fault. */
  readonly log?: (line: string) => void
}

/** What was done, and what came of it. */
export interface Outcome extends Verdict {
  readonly seed: number
  /** What the plan has, by kind. */
  readonly planned: Readonly<Record<string, number>>
  /** What has really happened, by kind: to workers and server, and in handlers. */
  readonly faults: Readonly<Record<string, number>>
  /** Whether all was drained within the time given after the calm. */
  readonly drained: boolean
}

/** More than this, and recording waits: workers that keep dying are slower than a recorder that does not. */
const mostWaiting = 3000

/** Records calls and what is expected of them, in one transaction each, until it is interrupted between two. */
const recording = Effect.fnUntraced(function*(seed: number) {
  const sql = yield* SqlClient.SqlClient
  const recorder = yield* CallRecorder.CallRecorder
  let place = 0
  let beside = 0
  const room = sql<{ waiting: number }>`select count(*)::int as waiting from sluice.chunk_queue where state <> 'parked'`
    .pipe(
      Effect.map(([queue]) => queue !== undefined && queue.waiting < mostWaiting),
      Effect.orElseSucceed(() => false),
      Effect.repeat({ until: (enough) => enough, schedule: Schedule.spaced("300 millis") })
    )
  const one = Effect.gen(function*() {
    place++
    const planned = planCall(seed, place)
    const both = Effect.andThen(expect(planned, { place, way: "alone" }), recorder.record(planned.call))
    // The answer may have been lost: doing it again changes nothing. A rollback on a connection that is gone is a defect.
    const recorded = Effect.catchDefect(sql.withTransaction(both), Effect.fail)
    yield* Effect.retry(recorded, Schedule.spaced("200 millis"))
  })
  // at once, outside of a transaction: their statements are shared
  const together = Effect.suspend(() =>
    Effect.forEach(Array.from({ length: 8 }, () => ++beside), (number) => {
      const planned = planCall(seed, number, { of: "together-", isInOrder: false })
      const recorded = Effect.andThen(
        expect(planned, { place: number, way: "together" }),
        recorder.record(planned.call)
      )
      return Effect.retry(Effect.catchDefect(recorded, Effect.fail), Schedule.spaced("200 millis"))
    }, { concurrency: "unbounded", discard: true })
  )
  const some = Effect.andThen(
    Effect.repeat(Effect.uninterruptible(one), { times: 11 }),
    Effect.uninterruptible(together)
  )
  return yield* Effect.forever(Effect.andThen(Effect.andThen(room, some), Effect.sleep("100 millis")))
})

const tables = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.scoped(Layer.build(PgStore.layer.pipe(Layer.provide(settings))))
  yield* sql`
    create table note (id bigserial primary key, call_id text not null, part text not null, ordering_key text,
      written_at timestamptz not null, at timestamptz not null default now())`
  // the statements by which the store makes rows without a claim are known by their text
  yield* sql`
    create table entry (id bigint primary key default nextval('note_id_seq'), call_id text not null, part text not null,
      ordering_key text, ward text, place integer not null, text text not null check (text <> 'refused'),
      made text not null default case
        when current_query() like '%looked as materialized%' then 'inside'
        when current_query() like '%.service_call as c%' then 'at once'
        else 'claimed' end)`
  yield* sql`
    create view made as
    select id, call_id, part from note union all select id, call_id, part from entry`
  yield* sql`create table bed (name text primary key, notes integer not null default 0)`
  yield* sql`insert into bed (name) select 'bed-' || n from generate_series(0, 9) n`
  // has a row when the workers are to record no more calls
  yield* sql`create table calm (since timestamptz not null default now())`
  yield* sql`create table heard (note_id bigint primary key, times integer not null default 1)`
  yield* sql`
    create table expected (call_id text, part text, place integer not null, fate text not null, rows integer not null,
      failures integer not null, ordering_key text, way text not null, state text not null,
      primary key (call_id, part))`
})

/**
 * Every worker has recorded its least and records no more, nothing is left but what nobody serves, and the subscriber has
 * heard of everything.
 */
const isCalm = Effect.fnUntraced(function*(workers: number) {
  const sql = yield* SqlClient.SqlClient
  const [left] = yield* sql<{ queued: number; unheard: number; running: number; least: number }>`
    select (select count(*)::int from sluice.chunk_queue where parked_for is distinct from 'no-handler') as queued,
      (select count(*)::int from made where not exists (select from heard where note_id = made.id)) as unheard,
      (select count(*)::int from expected where state = 'running') as running,
      (select min(calls) from (
        select count(distinct call_id)::int as calls
        from generate_series(0, ${workers}::int - 1) as worker
        left join expected on starts_with(call_id, 'call-now-' || worker || '-')
        group by worker
      ) each) as least`
  return left?.queued === 0 && left.unheard === 0 && left.running === 0 && left.least >= leastNow
})

/** For a person: what stands still, and who is connected. */
const left = Effect.fnUntraced(function*(log: (line: string) => void) {
  const sql = yield* SqlClient.SqlClient
  const queued = yield* sql`
    select state, count(*)::int, count(lease_token)::int as leased, min(lease_until) - now() as lease, min(due_at) - now() as due,
      max(crashes) as crashes, count(ordering_key)::int as keyed
    from sluice.chunk_queue group by state`
  const sessions = yield* sql`
    select state, wait_event, now() - state_change as since, left(query, 60) as query from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()`
  const workers = yield* sql`select id, now() - beat_at as beat from sluice.worker`
  for (const row of [...queued, ...sessions, ...workers]) {
    log(JSON.stringify(row, (_, value: unknown) => typeof value === "bigint" ? String(value) : value))
  }
})

/**
 * Runs it. The same seed plans the same faults at the same times and records the same calls; what they meet is up to the
 * machine.
 */
export const chaos = Effect.fnUntraced(
  function*({ log = () => undefined, patience = 300, seconds, seed, workers }: Options) {
    const cluster = yield* Effect.acquireRelease(
      Effect.promise(() => startCluster({ durable: true, settings: { max_connections: 50 } })),
      (it) => Effect.promise(() => it.remove())
    )
    const standby = yield* Effect.acquireRelease(
      Effect.promise(() => startCluster({ standbyOf: cluster, settings: { max_connections: 50 } })),
      (it) => Effect.promise(() => it.remove())
    )
    const proxy = yield* Effect.acquireRelease(
      Effect.promise(() => startProxy(cluster.port)),
      (it) => Effect.promise(() => it.close())
    )
    const address = new URL(cluster.url())
    address.port = String(proxy.port)
    const plan = planFaults(seed, seconds, workers)
    const planned: Record<string, number> = {}
    for (const { kind } of plan) planned[kind] = (planned[kind] ?? 0) + 1
    const counts: Record<string, number> = Object.fromEntries(Object.keys(kinds).map((kind) => [kind, 0]))
    const note = (what: string) => {
      counts[what] = (counts[what] ?? 0) + 1
    }
    const within = Effect.provide(client(cluster.url(), { maxConnections: 3 }))
    yield* within(tables)
    const crew = yield* Effect.acquireRelease(
      Effect.promise(() =>
        startCrew({ url: address.href, seed, count: workers }, (what) => {
          log(what)
          note(what)
        })
      ),
      (it) => it.close
    )
    const strike = strikes({ cluster, standby, proxy, crew })
    // each at its time, whatever else is under way
    const storm = Effect.forEach(plan, (fault) =>
      Effect.gen(function*() {
        yield* Effect.sleep(fault.at)
        log(`${fault.kind} (planned for ${(fault.at / 1000).toFixed(1)} s, worker ${fault.worker}, ${fault.millis} ms)`)
        if (yield* strike(fault)) note(fault.kind)
        else log(`${fault.kind}: came to nothing`)
      }), { concurrency: "unbounded", discard: true })
    const recorder = CallRecorder.layer.pipe(
      Layer.provide(PgStore.layerStorage),
      Layer.provide(settings),
      // of every outage
      Layer.provide(Logger.layer([]))
    )
    const recorded = yield* Effect.forkChild(within(Effect.provide(recording(seed), recorder)))
    yield* storm
    yield* Fiber.interrupt(recorded)
    log("calm")
    yield* crew.thaw
    yield* within(calm)
    const drained = yield* isCalm(workers).pipe(
      Effect.orElseSucceed(() => false),
      Effect.delay("300 millis"),
      Effect.repeat({ until: (calm) => calm }),
      within,
      Effect.timeoutOrElse({ duration: patience * 1000, orElse: () => Effect.succeed(false) })
    )
    if (!drained) yield* within(left(log))
    const verdict = yield* within(check)
    const faults = { ...counts, ...(yield* within(happened)) }
    return { seed, planned, faults, drained, ...verdict } satisfies Outcome
  },
  Effect.scoped
)
