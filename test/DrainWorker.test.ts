/**
 * The loop: when it looks, how it stops, and what it survives.
 */
import { it } from "@effect/vitest"
import { ChunkStore, Drain, DrainWorker, HandlerPlugin, HandlerRegistry } from "effect-sluice"
import type { HandlerInput } from "effect-sluice/Handler"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { application, Note, note, noteHandler, record, written } from "./support/clinic.ts"
import { away, chunkOf, drainWith } from "./support/drain.ts"

const minutes = Effect.map(Effect.clockWith((clock) => clock.currentTimeMillis), (now) => now / 60_000)

/** A drain that notes when it looks for work, in minutes of the test's clock. */
const watched = (looks: Array<number>) =>
  drainWith((store) => ({
    claim: (request) => Effect.andThen(Effect.map(minutes, (now) => looks.push(now)), store.claim(request))
  }))

/** A handler that takes its time. */
const slow = (duration: Duration.Input) =>
  HandlerRegistry.layer().pipe(
    Layer.provide(HandlerPlugin.layer("clinic", Note, {
      timeout: "1 day",
      persist: (input: HandlerInput<typeof Note.schema.Type>) => Effect.delay(noteHandler().persist(input), duration)
    }))
  )

describe("a worker looks when its schedule says", () => {
  const schedules: ReadonlyArray<readonly [string, Schedule.Schedule<unknown, void>, number, ReadonlyArray<number>]> = [
    ["every ten minutes", Schedule.spaced("10 minutes"), 35, [0, 10, 20, 30]],
    ["more and more seldom", Schedule.exponential("1 minute"), 40, [0, 1, 3, 7, 15, 31]],
    [
      "every ten minutes, and then every hour",
      Schedule.concat(
        Schedule.upTo(Schedule.spaced("10 minutes"), { times: 2 }),
        Schedule.spaced("1 hour")
      ),
      145,
      [0, 10, 20, 80, 140]
    ]
  ]
  for (const [name, schedule, until, expected] of schedules) {
    it.effect(name, () =>
      Effect.gen(function*() {
        const looks: Array<number> = []
        yield* Layer.build(DrainWorker.layer({ schedule }).pipe(Layer.provide(watched(looks))))
        yield* TestClock.adjust(Duration.minutes(until))
        // idle it asks once a tick, not once a lane
        expect(looks).toEqual(expected)
      }).pipe(Effect.scoped, Effect.provide(application({ inFlight: 3 }))))
  }

  it.effect("jittered, so that many do not all look at once", () =>
    Effect.gen(function*() {
      const seed = yield* Random.nextIntBetween(0, 2 ** 31)
      const all = yield* Effect.forEach(Array.from({ length: 10 }), () =>
        Effect.gen(function*() {
          const looks: Array<number> = []
          const schedule = Schedule.jittered(Schedule.spaced("10 minutes"))
          yield* Layer.build(Layer.fresh(DrainWorker.layer({ schedule })).pipe(Layer.provide(watched(looks))))
          return looks
        })).pipe(Random.withSeed(seed))
      yield* TestClock.adjust("1 hour")
      for (const looks of all) {
        expect(looks.length, `seed ${seed}`).toBeGreaterThanOrEqual(5)
        for (const [index, at] of looks.entries()) {
          const since = at - (looks[index - 1] ?? at - 10)
          expect(since, `seed ${seed}`).toBeGreaterThanOrEqual(8 - 1e-6)
          expect(since, `seed ${seed}`).toBeLessThanOrEqual(12 + 1e-6)
        }
      }
      expect(new Set(all.map((looks) => looks[1])).size, `seed ${seed}`).toBeGreaterThan(5)
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("by cron; one that does not parse stops the start", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2026, 0, 1, 2, 0, 0))
      const wrong = DrainWorker.layer({ schedule: Schedule.cron("at three") })
      expect(yield* Effect.flip(Layer.build(wrong))).toMatchObject({ _tag: "CronParseError" })
      yield* Layer.build(DrainWorker.layer({ schedule: Schedule.cron("0 3 * * *", "UTC") }))
      yield* TestClock.adjust("1 second")
      yield* record(note("a"))
      yield* TestClock.setTime(Date.UTC(2026, 0, 1, 2, 59, 59))
      expect(yield* written).toEqual([])
      yield* TestClock.setTime(Date.UTC(2026, 0, 1, 3, 0, 1))
      expect(yield* written).toHaveLength(1)
      yield* record(note("b"))
      yield* TestClock.setTime(Date.UTC(2026, 0, 2, 2, 59, 59))
      expect(yield* written).toHaveLength(1)
      yield* TestClock.setTime(Date.UTC(2026, 0, 2, 3, 0, 1))
      expect(yield* written).toHaveLength(2)
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("and when it ends, so does the worker", () =>
    Effect.gen(function*() {
      const looks: Array<number> = []
      const context = yield* Layer.build(
        DrainWorker.layer({ schedule: Schedule.upTo(Schedule.spaced("1 minute"), { times: 2 }) })
          .pipe(Layer.provide(watched(looks)))
      )
      const stopped = yield* Effect.forkChild(Context.get(context, DrainWorker.DrainWorker).stopped)
      yield* TestClock.adjust("10 minutes")
      yield* Fiber.join(stopped)
      expect(looks).toEqual([0, 1, 2])
    }).pipe(Effect.scoped, Effect.provide(application())))
})

describe("a worker", () => {
  it.effect("does not wait while there is work", () =>
    Effect.gen(function*() {
      yield* record(...Array.from({ length: 100 }, (_, n) => note(`call-${n}`)))
      const worker = yield* Layer.build(DrainWorker.layer({ schedule: Schedule.spaced("1 hour") }))
      yield* TestClock.adjust("1 second")
      expect(yield* written).toHaveLength(100)
      expect(yield* Context.get(worker, DrainWorker.DrainWorker).report).toMatchObject({ claimed: 100, persisted: 100 })
    }).pipe(Effect.scoped, Effect.provide(application({ batchSize: 10 }))))

  for (const [inFlight, done] of [[1, 1], [3, 3]] as const) {
    it.effect(`has ${inFlight} batches under way at a time`, () =>
      Effect.gen(function*() {
        yield* record(...Array.from({ length: 5 }, (_, n) => note(`call-${n}`)))
        yield* Layer.build(DrainWorker.layer())
        yield* TestClock.adjust("61 seconds")
        expect(yield* written).toHaveLength(done)
        yield* TestClock.adjust("5 minutes")
        expect(yield* written).toHaveLength(5)
      }).pipe(Effect.scoped, Effect.provide(application({ inFlight, batchSize: 1 }, slow("1 minute")))))
  }

  it.effect("is woken by what is recorded", () =>
    Effect.gen(function*() {
      yield* Layer.build(DrainWorker.layer())
      yield* TestClock.adjust("1 second")
      yield* record(note("a"))
      yield* TestClock.adjust("100 millis")
      expect(yield* written).toHaveLength(1)
    }).pipe(Effect.scoped, Effect.provide(application({ pollInterval: Duration.hours(1) }))))

  it.effect("with a schedule of its own sleeps on, unless it is told to listen, or to look now", () =>
    Effect.gen(function*() {
      const schedule = Schedule.spaced("1 hour")
      const asleep = yield* Layer.build(Layer.fresh(DrainWorker.layer({ schedule })))
      yield* TestClock.adjust("1 second")
      yield* record(note("a"))
      yield* TestClock.adjust("1 minute")
      expect(yield* written).toEqual([])
      yield* Context.get(asleep, DrainWorker.DrainWorker).wake
      yield* TestClock.adjust("100 millis")
      expect(yield* written).toHaveLength(1)
      yield* Layer.build(Layer.fresh(DrainWorker.layer({ schedule, hints: true })))
      yield* TestClock.adjust("1 second")
      yield* record(note("b"))
      yield* TestClock.adjust("100 millis")
      expect(yield* written).toHaveLength(2)
    }).pipe(Effect.scoped, Effect.provide(application())))
})

describe("at its end a worker", () => {
  const end = Effect.fnUntraced(function*(after: Duration.Input) {
    const scope = yield* Scope.make()
    yield* Scope.provide(Layer.build(DrainWorker.layer()), scope)
    yield* TestClock.adjust(after)
    const ended: Array<number> = []
    yield* Effect.forkChild(Effect.andThen(
      Scope.close(scope, Exit.void),
      Effect.map(minutes, (now) => ended.push(now))
    ))
    yield* TestClock.adjust("1 millis")
    return ended
  })

  it.effect("claims no more, and lets running handlers finish", () =>
    Effect.gen(function*() {
      yield* record(note("running"))
      const ended = yield* end("20 seconds")
      yield* record(note("late"))
      yield* TestClock.adjust("20 seconds")
      expect(ended).toEqual([])
      yield* TestClock.adjust("30 seconds")
      // as soon as they have finished, not when the grace is over
      expect(ended).toEqual([1])
      expect((yield* written).map((row) => row.callId)).toEqual(["running"])
      expect(yield* chunkOf("late")).toMatchObject({ state: "ready", crashes: 0 })
    }).pipe(Effect.provide(application({ gracePeriod: Duration.minutes(5) }, slow("1 minute")))))

  it.effect("gives back at no cost what has not finished within its grace", () =>
    Effect.gen(function*() {
      yield* record(note("running"), note("mate"))
      const ended = yield* end("30 seconds")
      yield* TestClock.adjust("29 seconds")
      expect(ended).toEqual([])
      yield* TestClock.adjust("2 seconds")
      expect(ended[0]).toBeCloseTo(1, 3)
      expect(yield* written).toEqual([])
      for (const id of ["running", "mate"]) {
        expect(yield* chunkOf(id)).toMatchObject({ state: "ready", attempts: 0, crashes: 0, failures: [] })
      }
      // and another one takes it up at once
      const other = yield* Effect.forkChild(Drain.Drain.use((drain) => drain.cycle))
      yield* TestClock.adjust("4 minutes")
      expect(yield* Fiber.join(other)).toMatchObject({ claimed: 2, persisted: 2 })
    }).pipe(Effect.provide(application({ gracePeriod: Duration.seconds(30) }, slow("2 minutes")))))

  it.effect("that is idle is gone at once", () =>
    Effect.gen(function*() {
      const ended = yield* end("1 minute")
      yield* TestClock.adjust("10 millis")
      expect(ended).toHaveLength(1)
    }).pipe(Effect.provide(application())))
})

describe("a worker survives", () => {
  for (const verb of ["claim", "beat", "persist", "settle"] as const) {
    it.effect(`an outage of its database, at ${verb}`, () =>
      Effect.gen(function*() {
        let down = true
        const gate = (at: string) => Effect.suspend(() => down && verb === at ? Effect.fail(away(verb)) : Effect.void)
        const drain = drainWith((store) => ({
          claim: (request) => Effect.andThen(gate("claim"), store.claim(request)),
          beat: (worker, serves) => Effect.andThen(gate("beat"), store.beat(worker, serves)),
          persist: (token, work) => Effect.andThen(gate("persist"), store.persist(token, work)),
          probe: Effect.andThen(gate("persist"), store.probe),
          settle: (token, settlements) => Effect.andThen(gate("settle"), store.settle(token, settlements))
        }))
        yield* Layer.build(DrainWorker.layer({ schedule: Schedule.spaced("1 second") }).pipe(Layer.provide(drain)))
        yield* record(note("a"), note("bad", { trouble: "fails" }))
        yield* TestClock.adjust("1 minute")
        down = false
        yield* TestClock.adjust("1 minute")
        expect(yield* written).toHaveLength(1)
        expect(yield* chunkOf("a")).toMatchObject({ state: "persisted", failures: [] })
        expect((yield* chunkOf("bad")).failures.every((failure) => failure.message.includes("it fails"))).toBe(true)
      }).pipe(Effect.scoped, Effect.provide(application())))
  }

  it.effect("a bug in its store: it says so, and goes on", () =>
    Effect.gen(function*() {
      let broken = true
      const drain = drainWith((store) => ({
        claim: (request) => broken ? Effect.die(new Error("a bug")) : store.claim(request)
      }))
      yield* Layer.build(DrainWorker.layer({ schedule: Schedule.spaced("1 second") }).pipe(Layer.provide(drain)))
      yield* record(note("a"))
      yield* TestClock.adjust("1 minute")
      broken = false
      yield* TestClock.adjust("2 seconds")
      expect(yield* written).toHaveLength(1)
      expect(yield* ChunkStore.ChunkStore).toBeDefined()
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("chunks that fail again and again: the others pass", () =>
    Effect.gen(function*() {
      yield* Layer.build(DrainWorker.layer())
      yield* record(...Array.from({ length: 30 }, (_, n) => note(`bad-${n}`, { trouble: n === 7 ? "hangs" : "fails" })))
      yield* TestClock.adjust("1 second")
      yield* record(...Array.from({ length: 30 }, (_, n) => note(`good-${n}`)))
      // one batch hangs with its culprit; the other lane goes on
      yield* TestClock.adjust("10 seconds")
      expect((yield* written).map((row) => row.callId.split("-")[0])).toEqual(Array.from({ length: 30 }, () => "good"))
    }).pipe(Effect.scoped, Effect.provide(application({ batchSize: 10, gracePeriod: Duration.zero }))))
})

describe("two workers in one process", () => {
  /** A worker of its own, with a handler of one namespace that takes its time and notes what it ran. */
  const workerOf = (namespace: string, ran: Array<string>, takes: Duration.Input) => {
    const handler = HandlerPlugin.layer(namespace, Note, (input: HandlerInput<typeof Note.schema.Type>) => {
      ran.push(`${namespace} ran ${input.call.callId}`)
      return Effect.delay(noteHandler().persist(input), takes)
    })
    return Layer.fresh(DrainWorker.layer()).pipe(
      Layer.provide(Layer.fresh(Drain.layer)),
      Layer.provide(Layer.fresh(HandlerRegistry.layer()).pipe(Layer.provide(handler)))
    )
  }

  it.effect("with handlers of their own neither mix them up nor wait for each other", () =>
    Effect.gen(function*() {
      const ran: Array<string> = []
      const ids = Array.from({ length: 100 }, (_, n) => `c${n}`)
      yield* record(...ids.map((id) => note(id)), note("t0", {}, { namespace: "triage" }))
      yield* Layer.build(workerOf("clinic", ran, "2 seconds"))
      yield* Layer.build(workerOf("triage", ran, "1 second"))
      yield* TestClock.adjust("5 seconds")
      yield* record(note("t1", {}, { namespace: "triage" }))
      yield* TestClock.adjust("5 seconds")
      // the clinic's flood is not through
      expect((yield* chunkOf("c99")).state).not.toBe("persisted")
      for (const id of ["t0", "t1"]) expect(yield* chunkOf(id)).toMatchObject({ state: "persisted", attempts: 0 })
      yield* TestClock.adjust("10 minutes")
      for (const id of ids) expect(yield* chunkOf(id)).toMatchObject({ state: "persisted", attempts: 0 })
      // each once, and by the worker that has its handler
      expect([...ran].sort()).toEqual(
        [...ids.map((id) => `clinic ran ${id}`), "triage ran t0", "triage ran t1"].sort()
      )
    }).pipe(
      Effect.scoped,
      Effect.provide(application({ batchSize: 5, inFlight: 1, pollInterval: Duration.seconds(1) }))
    ))
})
