/**
 * The chaos: workers that are killed, frozen and told to stop, a server that crashes, terminates sessions and runs out
 * of them, and calls that keep being recorded meanwhile; then calm, and the checker.
 */
import { CallRecorder, type ServiceCall } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import { type ChildProcess, spawn } from "node:child_process"
import path from "node:path"
import { client } from "../support/client.ts"
import { type Cluster, startCluster } from "../support/cluster.ts"
import { check, type Verdict } from "./checker.ts"
import { type Fate, maxAttempts, Note, settings } from "./ward.ts"

/** What is to be done. */
export interface Options {
  readonly seed: number
  readonly seconds: number
  readonly workers: number
  /** Told of every fault. */
  readonly log?: (line: string) => void
}

/** What was done, and what came of it. */
export interface Outcome extends Verdict {
  readonly seed: number
  readonly faults: Readonly<Record<string, number>>
  /** Whether all was drained within the time given after the calm. */
  readonly drained: boolean
}

const below = (limit: number) => Random.nextIntBetween(0, limit, { halfOpen: true })
const pick = <A>(from: ReadonlyArray<A>) => Effect.map(below(from.length), (index) => from[index]!)

// --------------------------------------------------------------------------------------------------- what is recorded

type Kind = Fate | "undecodable" | "unserved"
interface Expected {
  readonly call: ServiceCall.ServiceCall
  readonly fate: Kind
  readonly rows: number
  readonly failures: number
}

const draw = Effect.fnUntraced(function*(place: number) {
  const drawn = yield* below(1000)
  const keyed = (yield* below(2)) === 0
  const fate: Kind = drawn < 1
    ? "kills"
    : drawn < 12
    ? "undecodable"
    : drawn < 25
    ? "unserved"
    : drawn < 35
    ? "exhausts"
    : drawn < 45
    ? "rejects"
    : drawn < 47
    ? "hangs"
    : drawn < 50
    ? "slow"
    : drawn < 70
    ? "throws"
    : drawn < 100
    ? "fails"
    : "creates"
  const times = fate === "hangs" ? 1 : 1 + (yield* below(2))
  const rows = yield* below(3)
  const ends = ["creates", "slow", "fails", "throws"].includes(fate)
  const failures = ["fails", "throws", "hangs"].includes(fate)
    ? times
    : fate === "exhausts"
    ? maxAttempts
    : fate === "rejects" || fate === "undecodable"
    ? 1
    : 0
  const data = fate === "undecodable"
    ? { fate: "?" }
    : { fate: fate === "unserved" ? "creates" : fate, times, rows, writesFirst: (yield* below(2)) === 0 }
  const call: ServiceCall.ServiceCall = {
    callId: `call-${place}`,
    namespace: "clinic",
    service: "services.clinic.ward.take-notes",
    // what does not end well would hold its key for good
    ...(keyed && ends ? { orderingKey: `bed-${yield* below(10)}` } : {}),
    outputs: [{ schema: fate === "unserved" ? "schemas.clinic.ward.unserved" : Note.identity, version: 1, data }]
  }
  return { call, fate, rows, failures } satisfies Expected
})

/** Records calls and what is expected of them, in one transaction each, until it is interrupted between two. */
const recording = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const recorder = yield* CallRecorder
  let place = 0
  const one = Effect.gen(function*() {
    place++
    const { call, failures, fate, rows } = yield* draw(place)
    const both = Effect.andThen(
      sql`insert into expected (call_id, place, fate, rows, failures, ordering_key)
        values (${call.callId}, ${place}, ${fate}, ${rows}, ${failures}, ${call.orderingKey ?? null})
        on conflict do nothing`,
      recorder.record(call)
    )
    // The answer may have been lost: doing it again changes nothing. A rollback on a connection that is gone is a defect.
    const recorded = Effect.catchDefect(sql.withTransaction(both), Effect.fail)
    yield* Effect.retry(recorded, Schedule.spaced("200 millis"))
    if (place % 20 === 0) yield* Effect.sleep("100 millis")
  })
  return yield* Effect.forever(Effect.uninterruptible(one))
})

// ---------------------------------------------------------------------------------------------------------- the faults

/** The processes that are run, each started again when it ends. */
const crew = (url: string, count: number, note: (what: string) => void) => {
  const slots: Array<{ child: ChildProcess; frozen: boolean }> = []
  let closed = false
  const start = (index: number) => {
    // one clock is an hour ahead, one an hour behind, the others are right
    const wrongBy = index === 0 ? 3_600_000 : index === 1 ? -3_600_000 : 0
    const file = path.join(import.meta.dirname, "worker.ts")
    const child = spawn(process.execPath, ["--conditions=sluice-source", file, url, String(wrongBy)], {
      stdio: "ignore"
    })
    slots[index] = { child, frozen: false }
    child.on("exit", (code, signal) => {
      if (closed) return
      if (signal === null && code !== 0) note("worker failed by itself")
      start(index)
    })
  }
  for (let index = 0; index < count; index++) start(index)
  return {
    slots,
    close: Effect.promise(async () => {
      closed = true
      await Promise.all(slots.map(({ child }) =>
        new Promise<void>((resolve) => {
          child.on("exit", () => resolve())
          child.kill("SIGCONT")
          child.kill("SIGTERM")
          setTimeout(() => child.kill("SIGKILL"), 8000).unref()
        })
      ))
    })
  }
}

const faultsOf = (cluster: Cluster, workers: ReturnType<typeof crew>) => {
  const sql = SqlClient.SqlClient
  const anyone = Effect.map(pick(workers.slots), (slot) => slot)
  const within = <A, E>(program: Effect.Effect<A, E, SqlClient.SqlClient>, maxConnections = 1) =>
    Effect.provide(program, Layer.fresh(client(cluster.url(), { maxConnections })), { local: true })
  const faults: Readonly<Record<string, Effect.Effect<unknown, unknown>>> = {
    "worker killed": Effect.map(anyone, ({ child }) => child.kill("SIGKILL")),
    "worker told to stop": Effect.map(anyone, ({ child }) => child.kill("SIGTERM")),
    "worker frozen beyond its lease": Effect.gen(function*() {
      const slot = yield* anyone
      if (slot.frozen) return
      slot.frozen = true
      slot.child.kill("SIGSTOP")
      yield* Effect.sleep(yield* Random.nextIntBetween(2500, 5000))
      slot.child.kill("SIGCONT")
      slot.frozen = false
    }),
    "server crashed and restarted": Effect.promise(async () => {
      await cluster.crash()
      await cluster.restart()
    }),
    "sessions terminated": within(
      Effect.flatMap(
        sql,
        (sql) =>
          sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
        and pid <> pg_backend_pid() and random() < 0.5`
      )
    ),
    "connections exhausted": Effect.scoped(Effect.gen(function*() {
      // takes what there is, and holds it for a second
      const greedy = yield* Layer.build(Layer.fresh(client(cluster.url(), { maxConnections: 60 })))
      const hold = Effect.provide(Effect.flatMap(sql, (sql) => sql`select pg_sleep(1)`), greedy)
      yield* Effect.forEach(Array.from({ length: 60 }), () => Effect.ignoreCause(hold), { concurrency: "unbounded" })
    })),
    "snapshot held": within(Effect.flatMap(sql, (sql) =>
      sql.withTransaction(Effect.andThen(
        sql`select count(*), pg_current_xact_id() from note`,
        Effect.sleep("4 seconds")
      ))))
  }
  return faults
}

// ------------------------------------------------------------------------------------------------------------ the run

const tables = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.scoped(Layer.build(PgStore.layer.pipe(Layer.provide(settings))))
  yield* sql`create table note (id bigserial primary key, call_id text not null, ordering_key text)`
  yield* sql`create table heard (note_id bigint primary key, times integer not null default 1)`
  yield* sql`
    create table expected (call_id text primary key, place integer not null, fate text not null, rows integer not null,
      failures integer not null, ordering_key text)`
})

/** Nothing is left but what nobody serves, and the subscriber has heard of everything. */
const isCalm = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const [left] = yield* sql<{ queued: number; unheard: number }>`
    select (select count(*)::int from sluice.chunk_queue where state <> 'parked') as queued,
      (select count(*)::int from note where not exists (select from heard where note_id = note.id)) as unheard`
  return left?.queued === 0 && left.unheard === 0
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

/** Runs it. The same seed draws the same calls and faults; what they meet is up to the machine. */
export const chaos = Effect.fnUntraced(function*({ log = () => undefined, seconds, seed, workers }: Options) {
  const cluster = yield* Effect.acquireRelease(
    Effect.promise(() => startCluster({ durable: true, settings: { max_connections: 50 } })),
    (it) => Effect.promise(() => it.remove())
  )
  const counts = new Map<string, number>()
  const note = (what: string) => {
    log(what)
    counts.set(what, (counts.get(what) ?? 0) + 1)
  }
  const within = Effect.provide(client(cluster.url(), { maxConnections: 3 }))
  yield* within(tables)
  const crewed = yield* Effect.acquireRelease(
    Effect.sync(() => crew(cluster.url(), workers, note)),
    (it) => it.close
  )
  const faults = Object.entries(faultsOf(cluster, crewed))
  const storm = Effect.forever(Effect.gen(function*() {
    yield* Effect.sleep(yield* Random.nextIntBetween(200, 1500))
    const [what, strike] = yield* pick(faults)
    note(what)
    yield* Effect.ignoreCause(strike)
  }))
  const recorder = CallRecorder.layer.pipe(Layer.provide(PgStore.layerNoMigrate), Layer.provide(settings))
  yield* Effect.raceFirst(within(Effect.provide(recording, recorder)), storm).pipe(
    Effect.timeoutOption(seconds * 1000)
  )
  log("calm")
  for (const { child } of crewed.slots) child.kill("SIGCONT")
  const drained = yield* isCalm.pipe(
    Effect.orElseSucceed(() => false),
    Effect.delay("300 millis"),
    Effect.repeat({ until: (calm) => calm }),
    within,
    Effect.timeoutOrElse({ duration: "300 seconds", orElse: () => Effect.succeed(false) })
  )
  if (!drained) yield* within(left(log))
  const verdict = yield* within(check)
  return { seed, faults: Object.fromEntries([...counts].sort()), drained, ...verdict } satisfies Outcome
}, (effect, { seed }) => effect.pipe(Effect.scoped, Random.withSeed(seed)))
