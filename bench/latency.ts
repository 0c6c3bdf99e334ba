/**
 * The time from recording an answer to persisting it, when nothing else is due: recorded in one process, drained in another.
 * Beside the floor: a durable commit, a notification, and a durable commit in the process that receives it.
 */
import { CallRecorder, DomainEvents, Drain, HandlerRegistry } from "effect-sluice"
import * as Settings from "effect-sluice/Settings"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as SqlClient from "effect/sql/SqlClient"
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { admin, createDatabase, dropDatabase } from "./harness/database.ts"
import type { Mode } from "./harness/listener.ts"
import { machine, progress, type Result } from "./harness/output.ts"
import { type Figures, inTurns, medians, ofRounds, percentile } from "./harness/rounds.ts"
import { startServer } from "./harness/server.ts"
import { type BenchOptions, wanted } from "./harness/settings.ts"
import { Chatlab, client, declared, encoded, failing, insertMany, newMessage, raw, toCall } from "./systems/sluice.ts"
import { type Call, calls, domainTables, ledgerTable } from "./work.ts"

/** A process that persists each record after its notification, and reports when: see `harness/listener.ts`. */
const startListener = async (mode: Mode, url: string) => {
  const child = fork(fileURLToPath(new URL("./harness/listener.ts", import.meta.url)), [mode, url], {
    execArgv: ["--conditions=sluice-source"],
    stdio: ["ignore", "inherit", "inherit", "ipc"]
  })
  const waiting = new Map<string, (at: bigint) => void>()
  await new Promise<void>((resolve, reject) => {
    child.once("exit", () => reject(new Error("the listener ended")))
    child.on("message", (message: { readonly ready?: true; readonly callId?: string; readonly at?: string }) => {
      if (message.ready === true) return resolve()
      waiting.get(message.callId ?? "")?.(BigInt(message.at ?? 0))
    })
  })
  return {
    /** Milliseconds from now until the call is persisted. */
    persisted: (callId: string): Promise<number> => {
      const began = process.hrtime.bigint()
      return new Promise((resolve) => {
        waiting.set(callId, (at) => {
          waiting.delete(callId)
          // all processes share the clock that hrtime reads
          resolve(Number(at - began) / 1e6)
        })
      })
    },
    end: async () => {
      const ended = new Promise((resolve) => child.once("exit", resolve))
      child.disconnect()
      await ended
    }
  }
}

const bare = (sql: SqlClient.SqlClient, call: Call) =>
  sql`insert into bench.recorded (call_id, payload) values (${call.callId}, ${JSON.stringify(call.payload)}::jsonb)`

/**
 * What `recordNow` does for a program, written by hand: settings and whether the call is new, the handler's rows, and the
 * call with a row of a ledger. No program that runs in the transaction that records its answer can send less.
 */
const byHand = (sql: SqlClient.SqlClient, call: Call) =>
  sql.withTransaction(Effect.gen(function*() {
    yield* sql`
      select set_config('idle_in_transaction_session_timeout', '60000', true),
        exists (select from bench.recorded where call_id = ${call.callId}) as known`
    const [row] = yield* insertMany(sql, [newMessage(call.callId, call.payload)])
    yield* sql`
      with recorded as (
        insert into bench.recorded (call_id, payload) values (${call.callId}, ${JSON.stringify(call.payload)}::jsonb)
      )
      insert into bench.ledger (call_id, handler, object_id) values (${call.callId}, 'chatlab', ${row?.id}::bigint)`
  }))

/** Records calls, one after another or at a rate, and returns the milliseconds of each. */
const measure = async (
  server: string,
  mode: Mode,
  perSecond: number | undefined,
  samples: number
): Promise<Figures> => {
  const url = await createDatabase(server, "bench")
  const sql = admin(url)
  await sql.query(domainTables)
  await sql.query("create table bench.recorded (call_id text primary key, payload jsonb not null)")
  const program = Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const recorder = yield* CallRecorder.CallRecorder
    const listener = yield* Effect.promise(() => startListener(mode, url))
    const record = (call: Call): Effect.Effect<unknown, unknown> =>
      mode === "floor"
        ? Effect.andThen(bare(sql, call), sql`select pg_notify('bench', ${call.callId})`)
        : mode === "declared"
        ? Effect.flatMap(encoded(call), recorder.record)
        : recorder.record(toCall(call))
    const all: Array<number> = []
    const one = Effect.fnUntraced(function*(call: Call) {
      const persisted = listener.persisted(call.callId)
      yield* record(call)
      all.push(yield* Effect.promise(() => persisted))
    })
    // warms up both processes
    yield* Effect.forEach(calls(0, 100), one, { discard: true })
    all.length = 0
    yield* perSecond === undefined
      ? Effect.forEach(calls(1000, samples), (call) => Effect.andThen(Effect.sleep("15 millis"), one(call)), {
        discard: true
      })
      : Effect.forEach(calls(1000, samples), (call, n) => Effect.delay(one(call), n * 1000 / perSecond), {
        concurrency: "unbounded",
        discard: true
      })
    yield* Effect.promise(listener.end)
    return { p50: percentile(all, 50), p99: percentile(all, 99) }
  })
  const layers = CallRecorder.layer.pipe(
    Layer.provideMerge(PgStore.layer),
    Layer.provideMerge(Settings.layer()),
    Layer.provideMerge(client(url, 10))
  )
  const figures = await Effect.runPromise(Effect.provide(program, layers))
  await sql.close()
  await dropDatabase(server, "bench")
  return figures
}

/** How many calls are made one way before the next way has its turn: a process that does one thing has it at hand. */
const block = 50

/** How many calls are not counted. */
const warmUp = 500

/** `persistNow` and `recordNow` in the process that has the answer, beside two commits of one row each. */
const inline = async (
  server: string,
  samples: number,
  handlers: typeof raw | typeof failing
): Promise<Record<"persistNow" | "recordThenNow" | "recordNow" | "byHand" | "twoCommits", Figures>> => {
  const url = await createDatabase(server, "bench")
  const sql = admin(url)
  await sql.query(domainTables)
  await sql.query(ledgerTable)
  await sql.query("create table bench.recorded (call_id text primary key, payload jsonb not null)")
  const program = Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const recorder = yield* CallRecorder.CallRecorder
    const drain = yield* Drain.Drain
    const now: Array<number> = []
    const both: Array<number> = []
    const one: Array<number> = []
    const two: Array<number> = []
    const hand: Array<number> = []
    const timed = Effect.fnUntraced(function*(times: Array<number>, work: Effect.Effect<unknown, unknown>) {
      const began = performance.now()
      yield* work
      times.push(performance.now() - began)
    })
    const all = calls(0, warmUp + samples)
    for (let from = 0; from < all.length; from += block) {
      const some = all.slice(from, from + block)
      const outputs = yield* Effect.forEach(some, encoded)
      for (const call of outputs) {
        // a handler of these may fail
        const persistNow = timed(now, Effect.exit(drain.persistNow(call.callId)))
        yield* timed(both, Effect.andThen(recorder.record(call), persistNow))
      }
      for (const call of outputs) {
        yield* timed(one, Effect.exit(drain.recordNow({ ...call, callId: `${call.callId}-1` })))
      }
      for (const call of some) yield* timed(hand, byHand(sql, { ...call, callId: `${call.callId}-3` }))
      for (const call of some) {
        yield* timed(two, Effect.andThen(bare(sql, call), bare(sql, { ...call, callId: `${call.callId}-2` })))
      }
    }
    const figures = (times: ReadonlyArray<number>) => ({
      p50: percentile(times.slice(warmUp), 50),
      p99: percentile(times.slice(warmUp), 99)
    })
    return {
      persistNow: figures(now),
      recordThenNow: figures(both),
      recordNow: figures(one),
      byHand: figures(hand),
      twoCommits: figures(two)
    }
  })
  const layers = Layer.merge(
    CallRecorder.layer,
    Drain.layer.pipe(Layer.provide(HandlerRegistry.layer(Chatlab)), Layer.provide(handlers))
  ).pipe(
    Layer.provide(DomainEvents.layer),
    Layer.provideMerge(PgStore.layer),
    Layer.provideMerge(Settings.layer()),
    Layer.provideMerge(client(url, 10))
  )
  // without a line for each failure
  const quiet = Effect.provideService(Effect.provide(program, layers), References.MinimumLogLevel, "Warn")
  const figures = await Effect.runPromise(quiet)
  await sql.close()
  await dropDatabase(server, "bench")
  return figures
}

/** How handlers are written. */
const kinds = [
  { part: "inline", name: "", handlers: raw },
  { part: "inline-declared", name: ", a declared handler", handlers: declared() },
  { part: "inline-failing", name: ", a handler that fails", handlers: failing }
]

/** The names for `--only`: `part`, and those of {@link kinds}. */
const cases: ReadonlyArray<{
  readonly part: string
  readonly name: string
  readonly mode: Mode
  readonly perSecond?: number
}> = [
  { part: "floor", name: "the floor, one at a time", mode: "floor" },
  { part: "sluice", name: "Sluice, one at a time", mode: "notify" },
  { part: "sluice-declared", name: "Sluice, a declared handler, one at a time", mode: "declared" },
  { part: "floor-100", name: "the floor, 100 a second", mode: "floor", perSecond: 100 },
  { part: "sluice-100", name: "Sluice, 100 a second", mode: "notify", perSecond: 100 },
  { part: "poll", name: "Sluice, polling each 100 ms, one at a time", mode: "poll" }
]

/** The bench. */
export const latency = async (options: BenchOptions): Promise<Result> => {
  const samples = options.records ?? 500
  const chosen = cases.filter(({ part }) => wanted(options, part))
  const slowly = options.commitDelay > 0 ? { commit_delay: options.commitDelay, commit_siblings: 0 } : {}
  const server = await startServer(options.postgres, slowly)
  try {
    const runs = await inTurns(chosen, options.rounds, async ({ mode, name, perSecond }, round) => {
      const figures = await measure(server.url(), mode, perSecond, samples)
      progress(`round ${round}: ${name}: p50 ${figures["p50"]?.toFixed(2)} ms`)
      return figures
    })
    const rows = [...runs].map(([{ name, perSecond }, all]) => ({
      name,
      perSecond,
      ...medians(all) as { p50: number; p99: number }
    }))
    const floorOf = (perSecond: number | undefined) =>
      rows.find((row) => row.name.startsWith("the floor") && row.perSecond === perSecond)
    const inTurn = await inTurns(
      kinds.filter(({ part }) => wanted(options, part)),
      options.rounds,
      ({ handlers }) => inline(server.url(), samples, handlers)
    )
    const now = [...inTurn].flatMap(([{ name }, all]) => {
      const of = (what: keyof typeof all[number]) =>
        medians(all.map((run) => run[what])) as { p50: number; p99: number }
      const two = of("twoCommits")
      const row = (words: string, { p50, p99 }: { readonly p50: number; readonly p99: number }) => ({
        case: `${words}${name}`,
        p50,
        p99,
        ofFloor50: p50 / two.p50,
        ofFloor99: p99 / two.p50
      })
      return [
        row("two commits of one row each, in one process", two),
        ...name === "" ? [row("one transaction by hand: settings, rows, call and ledger", of("byHand"))] : [],
        row("persistNow", of("persistNow")),
        row("record, then persistNow", of("recordThenNow")),
        row("recordNow", of("recordNow"))
      ]
    })
    return {
      bench: "latency",
      ground: [machine(), server.description],
      tables: [{
        title: `From before it is recorded until it is persisted, in milliseconds, ${
          ofRounds(options.rounds)
        } of ${samples}`,
        columns: [
          { field: "case", heading: "case" },
          { field: "p50", heading: "p50", digits: 2 },
          { field: "p99", heading: "p99", digits: 2 },
          { field: "ofFloor50", heading: "p50, of the floor's p50", digits: 2 },
          { field: "ofFloor99", heading: "p99, of the floor's p50", digits: 2 }
        ],
        rows: [
          ...rows.map(({ name, p50, p99, perSecond }) => {
            const floor = floorOf(perSecond)?.p50 ?? Number.NaN
            return { case: name, p50, p99, ofFloor50: p50 / floor, ofFloor99: p99 / floor }
          }),
          ...now
        ]
      }]
    }
  } finally {
    await server.remove()
  }
}
