/**
 * One simulation: recorders, workers old and new, and a program beside the drain, on a store in memory, with time that
 * passes by itself and dice that fall by the seed. Ends when all is quiet, with a picture of the tables.
 */
import { CallRecorder, ChunkLedger, DomainEvents, Drain, EventLog, Inspector, Subscription } from "effect-sluice"
import { ChunkStore } from "effect-sluice/ChunkStore"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { make as makeQuarantine, Quarantine } from "../../src/drain/Quarantine.ts"
import { calls, chunkKey, dead, failures, ledger, queue, seqKey } from "../../src/store/memory/rows.ts"
import * as inspect from "../support/inspect.ts"
import { violations } from "./check.ts"
import { makeMoving, Move } from "./cluster.ts"
import {
  calm,
  faulty,
  faultyInspector,
  faultyLog,
  type Life,
  longestStory,
  makeWeather,
  newLife,
  type Weather
} from "./faults.ts"
import { type Rules, withInside } from "./inside.ts"
import { pausing } from "./pausing.ts"
import { plan, type PlannedCall, type World } from "./plan.ts"
import { recordNow } from "./recordNow.ts"
import { domain, type DomainRow } from "./rows.ts"
import { CurrentLife, handlers, settings, write } from "./ward.ts"
import { runInWorld } from "./world.ts"

/** Changes the store for the worse: see `mutants.ts`. */
export type Mutant = (
  store: ChunkStore["Service"],
  db: MemoryDatabase.MemoryDatabase["Service"]
) => ChunkStore["Service"]

/** The same for the log of what was created. */
export type LogMutant = (
  log: EventLog.EventLog["Service"],
  db: MemoryDatabase.MemoryDatabase["Service"]
) => EventLog.EventLog["Service"]

/** What was done and what is in the tables at the end. */
export interface Picture {
  readonly seed: number
  readonly calls: ReadonlyArray<PlannedCall>
  readonly happened: ReadonlyMap<string, number>
  /** Calls with a chunk that a worker is said to have died with. */
  readonly crashed: ReadonlyArray<string>
  /** False when it was not quiet within the time given. */
  readonly ended: boolean
  /** Whether nothing went wrong. */
  readonly isCalm: boolean
  /** What was persisted of a kind while it was paused. */
  readonly early: ReadonlyArray<Key>
  /** Calls whose service was run though they had been recorded. */
  readonly again: ReadonlyArray<string>
  readonly domain: ReadonlyArray<DomainRow>
  readonly events: ReadonlyArray<string>
  /** What the durable subscriber was told of, each time. */
  readonly told: ReadonlyArray<string>
  readonly ledger: ReadonlyArray<{ readonly key: Key; readonly objects: ReadonlyArray<{ readonly id: string }> }>
  readonly queue: ReadonlyArray<{ readonly key: Key; readonly state: string; readonly seq: number }>
  readonly dead: ReadonlyArray<{ readonly key: Key; readonly reason: string; readonly seq: number }>
  readonly failures: ReadonlyArray<{ readonly key: Key; readonly kind: string; readonly attempt: number }>
  readonly recorded: ReadonlyArray<string>
}
type Key = { readonly callId: string; readonly schemaIdentity: string; readonly part: string }

/** Two claims at a time, as a worker makes them that runs several batches. */
const twoAtATime = Effect.fnUntraced(function*({ claim }: Drain.Drain["Service"]) {
  const one = yield* claim({ mayRunLater: true })
  const other = yield* claim({ mayRunLater: true })
  const [first, second] = yield* Effect.all([one.run, other.run], { concurrency: 2 })
  return Drain.addReports(first, second)
}, Effect.scoped)

const oneOrTwo = Effect.fnUntraced(function*(drain: Drain.Drain["Service"]) {
  return yield* (yield* Random.nextIntBetween(0, 4, { halfOpen: true })) === 0 ? twoAtATime(drain) : drain.cycle
})

const drainOnce = (world: World) =>
  Effect.flatMap(Drain.Drain, (drain) => world === "mixed" ? oneOrTwo(drain) : drain.cycle).pipe(
    // a look that found nothing is half of what a simulation costs
    Effect.flatMap(({ claimed }) => Random.nextIntBetween(50, claimed > 0 ? 700 : 1500)),
    Effect.catchCause(() => Effect.succeed(100)),
    Effect.flatMap((pause) => Effect.sleep(pause))
  )

/** The durable subscriber of a worker's life. Some of what it is told it fails with, before or after it took note of it. */
const subscriber = Effect.fnUntraced(function*(told: Array<string>, weather: Weather, life: Life) {
  const log = faultyLog(yield* EventLog.EventLog, weather, life)
  const audit = Subscription.make("audit", ({ object }) =>
    Effect.gen(function*() {
      const drawn = yield* Random.nextIntBetween(0, 20, { halfOpen: true })
      if (drawn === 0) yield* Effect.sleep(yield* Random.nextIntBetween(1, 300))
      // the dead take note of nothing
      if (life.dead || drawn === 1) return yield* Effect.fail("it fails at first")
      told.push(object.id)
      if (drawn === 2) return yield* Effect.fail("it fails afterwards")
    }), { batchSize: 3, retry: Schedule.spaced("300 millis"), pollInterval: "2 seconds" })
  yield* Effect.provideService(audit, EventLog.EventLog, log)
})

/** A worker: one life after the other, each with a drain and a subscriber of its own. */
const worker = Effect.fnUntraced(function*(world: World, age: "old" | "new", weather: Weather, told: Array<string>) {
  const store = yield* ChunkStore
  const inspector = yield* Inspector.Inspector
  const registry = Layer.succeedContext(yield* Layer.build(handlers[world][age]))
  while (true) {
    const life = yield* newLife
    if (world === "mixed") life.connection = Semaphore.makeUnsafe(1)
    const drain = Drain.layer.pipe(
      Layer.provide(registry),
      Layer.provide(Layer.succeed(ChunkStore, faulty(store, weather, life))),
      Layer.provide(Layer.succeed(Inspector.Inspector, faultyInspector(inspector, weather, life)))
    )
    const stops = (yield* Random.nextIntBetween(0, 20)) === 0 && weather.blows > 0
    if (stops) weather.blows--
    // a program whose subscription does not start is started again
    yield* Effect.ignore(Effect.retry(subscriber(told, weather, life), Schedule.spaced("100 millis"))).pipe(
      Effect.andThen(Effect.forever(drainOnce(world))),
      Effect.scoped,
      Effect.raceFirst(Deferred.await(life.end)),
      Effect.raceFirst(stops ? Effect.delay(Effect.void, yield* Random.nextIntBetween(100, 5000)) : Effect.never),
      Effect.provide(drain, { local: true }),
      Effect.provideService(CurrentLife, life),
      // each is a process of its own
      Effect.provideService(Quarantine, makeQuarantine())
    )
    yield* Effect.sleep(yield* Random.nextIntBetween(10, 500))
  }
})

/** A program of one life after the other, until it is done: it did not hear whether it was. */
export const untilDone = <A, E, R>(life: Life, program: Effect.Effect<A, E, R>) =>
  Effect.map(newLife, (born) => Object.assign(life, born)).pipe(
    Effect.flatMap(({ end }) => Effect.raceFirst(program, Effect.andThen(Deferred.await(end), Effect.fail("it died")))),
    Effect.retry(Schedule.spaced("100 millis")),
    Effect.orDie
  )

type RecordNow = Effect.Services<ReturnType<typeof recordNow>>

/** Records the plan, some of it twice, as programs do that did not hear the answer. */
const record = Effect.fnUntraced(function*(planned: ReadonlyArray<PlannedCall>, weather: Weather) {
  const store = yield* ChunkStore
  const life = yield* newLife
  const recorder = Context.get(
    yield* Layer.build(Layer.provide(CallRecorder.layer, Layer.succeed(ChunkStore, faulty(store, weather, life)))),
    CallRecorder.CallRecorder
  )
  const again: Array<string> = []
  for (const { after, call, isNow, runs } of planned) {
    if (after > 0) yield* Effect.sleep(after)
    const { outputs, ...spec } = call
    const record: Effect.Effect<void, unknown, RecordNow> = runs !== undefined
      ? Effect.asVoid(recorder.run(spec, Effect.delay(Effect.succeed(outputs), runs)))
      : isNow
      ? recordNow(call, weather, life)
      : Effect.asVoid(recorder.record(call))
    const times = 1 + ((yield* Random.nextIntBetween(0, 4)) === 0 ? 1 : 0)
    for (let time = 0; time < times; time++) yield* untilDone(life, record)
    // the answer is paid for
    const paid = Effect.sync(() => {
      again.push(call.callId)
      return outputs
    })
    if (runs !== undefined) yield* untilDone(life, recorder.run(spec, paid))
  }
  return again
}, Effect.scoped)

/** Persists some chunks outside the drain. */
const beside = Effect.fnUntraced(function*(planned: ReadonlyArray<PlannedCall>, weather: Weather) {
  const store = yield* ChunkStore
  const life = yield* newLife
  const once = Context.get(
    yield* Layer.build(Layer.provide(ChunkLedger.layer, Layer.succeed(ChunkStore, faulty(store, weather, life)))),
    ChunkLedger.ChunkLedger
  )
  for (const { call, chunks } of planned) {
    for (const [index, chunk] of chunks.entries()) {
      if (!chunk.once) continue
      yield* Effect.sleep(yield* Random.nextIntBetween(0, 1500))
      const key = { callId: chunk.callId, schemaIdentity: chunk.schema, part: index === 0 ? "" : "second" }
      yield* Effect.repeat(Effect.delay(inspect.call(call.callId), 100), { until: (found) => found._tag === "Some" })
      yield* untilDone(life, once.once(key, { namespace: "clinic" }, write(key, chunk.note?.rows ?? 0)))
    }
  }
}, Effect.scoped)

/** A queue row that comes back after its chunk was persisted: from a backup, or by a hand. */
const comesBack = Effect.gen(function*() {
  const db = yield* MemoryDatabase.MemoryDatabase
  yield* Effect.sleep(yield* Random.nextIntBetween(0, 3000))
  const row = yield* db.use((access) => access.values(queue).find((row) => row.attempts === 0))
  if (row === undefined) return
  const isPersisted = db.use((access) =>
    access.get(ledger, chunkKey(row.key)) !== undefined && access.get(queue, seqKey(row.seq)) === undefined
  )
  yield* Effect.repeat(Effect.delay(isPersisted, 200), { until: (persisted) => persisted })
  const free = { state: "ready", leaseToken: undefined, leaseUntil: undefined, leaseAlone: false } as const
  yield* db.use((access) => access.set(queue, seqKey(row.seq), { ...row, ...free }))
}).pipe(Effect.timeoutOption("20 seconds"))

/** The server is read-only for a while, or the database moves to another cluster, or neither. */
const befalls = Effect.fnUntraced(function*(weather: Weather) {
  const drawn = yield* Random.nextIntBetween(0, 3, { halfOpen: true })
  // what is not renewed meanwhile looks like a death
  const comesReadOnly = drawn === 0 && weather.blows > 0
  if (comesReadOnly) weather.blows--
  yield* Effect.sleep(yield* Random.nextIntBetween(0, 5000))
  if (comesReadOnly) {
    const longest = (yield* Random.nextBoolean) ? 300 : 8000
    weather.readOnlyFor = yield* Random.nextIntBetween(20, longest)
  } else if (drawn === 1) {
    weather.happened.set("moved to another cluster", 1)
    yield* yield* Move
  }
})

const isQuiet = Effect.fnUntraced(function*(told: ReadonlyArray<string>) {
  const db = yield* MemoryDatabase.MemoryDatabase
  return yield* db.use((access) => {
    const deadKeys = access.values(dead)
    const known = new Set(told)
    return access.values(ledger).every(({ objects }) => objects.every(({ id }) => known.has(id))) &&
      access.values(queue).every((row) =>
        (row.state === "parked" && row.key.schemaIdentity.endsWith("unserved-note")) ||
        // held up for good: by a dead letter, or by what nobody serves
        (row.orderingKey !== undefined &&
          (deadKeys.some((letter) => letter.orderingKey === row.orderingKey && letter.seq < row.seq) ||
            access.values(queue).some((other) =>
              other.orderingKey === row.orderingKey && other.seq < row.seq &&
              other.key.schemaIdentity.endsWith("unserved-note")
            )))
      )
  })
})

const run = Effect.fnUntraced(function*(world: World, seed: number, weather: Weather) {
  const planned = yield* plan(world)
  const db = yield* MemoryDatabase.MemoryDatabase
  const events: Array<string> = []
  const told: Array<string> = []
  const heard = yield* (yield* DomainEvents.DomainEvents).subscribe
  yield* Effect.forkScoped(Stream.runForEach(heard, (event) => Effect.sync(() => events.push(event.object.id))))
  const resuming = world === "mixed" ? yield* pausing : undefined
  const workers = yield* Effect.forEach(
    ["old", "new", "new"] as const,
    (age) => Effect.forkScoped(worker(world, age, weather, told))
  )
  const recording = yield* Effect.forkScoped(record(planned, weather))
  const others = yield* Effect.forEach(
    [beside(planned, weather), comesBack, befalls(weather)],
    (program) => Effect.forkScoped(program)
  )
  const paused = resuming && (yield* Effect.forkScoped(resuming))
  const isCalm = weather.percent === 0
  const story = Effect.gen(function*() {
    yield* Fiber.join(recording)
    yield* Fiber.joinAll(others)
    // the storm is over once everything is recorded: from here on it must come to an end
    yield* Effect.sleep(yield* Random.nextIntBetween(0, 10_000))
    calm(weather)
    if (paused !== undefined) yield* Fiber.join(paused)
    while (!(yield* isQuiet(told))) yield* Effect.sleep("1 second")
    return true
  }).pipe(Effect.timeoutOrElse({ duration: longestStory, orElse: () => Effect.succeed(false) }))
  const ended = yield* story
  const again = ended ? yield* Fiber.join(recording) : []
  const early = ended && paused !== undefined ? yield* Fiber.join(paused) : []
  yield* Fiber.interruptAll(workers)
  return yield* db.use((access): Picture => ({
    seed,
    calls: planned,
    happened: weather.happened,
    crashed: [...weather.crashed],
    ended,
    isCalm,
    early,
    again,
    domain: access.values(domain),
    events,
    told,
    ledger: access.values(ledger),
    queue: access.values(queue),
    dead: access.values(dead),
    failures: access.values(failures),
    recorded: access.values(calls).map((call) => call.callId)
  }))
}, Effect.scoped)

/** What a simulation is made of, beside its seed. */
export interface Options {
  /** Default `mixed`. */
  readonly world?: World | undefined
  readonly mutant?: Mutant | undefined
  readonly logMutant?: LogMutant | undefined
  /** What the store persists inside, and how. */
  readonly rules?: Rules | undefined
}

/** Runs the simulation of a seed. The same seed gives the same picture. */
export const simulate = (
  seed: number,
  { logMutant = (log) => log, mutant = (store) => store, rules, world = "mixed" }: Options = {}
): Picture => {
  // where nothing goes wrong, nothing may look as if it had
  const isCalm = seed % 8 === 0
  const weather = makeWeather(isCalm)
  const database = MemoryDatabase.layer
  const store = Layer.merge(
    Layer.effect(
      ChunkStore,
      Effect.gen(function*() {
        const real = yield* ChunkStore
        const db = yield* MemoryDatabase.MemoryDatabase
        return mutant(world === "mixed" ? withInside(real, db, rules) : real, db)
      })
    ),
    Layer.effectContext(Effect.gen(function*() {
      const db = yield* MemoryDatabase.MemoryDatabase
      const { log, move } = makeMoving(yield* EventLog.EventLog, db)
      return Context.make(EventLog.EventLog, logMutant(log, db)).pipe(Context.add(Move, move))
    }))
  ).pipe(Layer.provideMerge(MemoryStore.layerStorage))
  const story = run(world, seed, weather).pipe(
    Effect.provide(
      store.pipe(
        Layer.provideMerge([DomainEvents.layer, database]),
        Layer.provideMerge(settings)
      ),
      { local: true }
    ),
    Random.withSeed(seed),
    // what goes wrong here is meant to
    Effect.provide(Logger.layer([]), { local: true }),
    // nobody reads the spans
    Effect.withTracerEnabled(false),
    Effect.orDie
  )
  return runInWorld(seed, story)
}

/** Runs the simulation of a seed and says what is wrong with it: one that breaks down has no picture. */
export const judge = (
  seed: number,
  options?: Options
): { readonly picture: Picture | undefined; readonly wrong: ReadonlyArray<string> } => {
  try {
    const picture = simulate(seed, options)
    return { picture, wrong: violations(picture) }
  } catch (error) {
    return { picture: undefined, wrong: [String(error)] }
  }
}
