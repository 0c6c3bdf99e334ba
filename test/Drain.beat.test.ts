/**
 * A worker's signs of life: from its first cycle on, whatever its handlers or its schedule do; what it is told by them,
 * and what others are told of a worker that keeps to a namespace.
 */
import { it } from "@effect/vitest"
import {
  ChunkStore,
  DomainEvents,
  Drain,
  DrainWorker,
  HandlerPlugin,
  HandlerRegistry,
  Inspector,
  Pauses,
  WakeUp
} from "effect-sluice"
import { ChunkStoreError, mostUnparked } from "effect-sluice/ChunkStore"
import * as Settings from "effect-sluice/Settings"
import type { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { application, Note, note, noteHandler, record, written } from "./support/clinic.ts"
import { away, chunkOf, cycle, drainWith, persistNow, untilEmpty } from "./support/drain.ts"

/** A drain that notes in what order it beats and claims, and when it beats. */
const noting = (happened: Array<string>, beats: Array<number> = []) =>
  drainWith((store) => ({
    beat: (worker, serves) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        beats.push(now / 1000)
        happened.push("beat")
        return store.beat(worker, serves)
      }),
    claim: (request) => {
      happened.push("claim")
      return store.claim(request)
    }
  }))

describe("a worker beats", () => {
  it.effect("before its first claim, then by the clock and not by its cycles", () => {
    const happened: Array<string> = []
    return Effect.gen(function*() {
      yield* TestClock.adjust("1 minute")
      expect(happened).toEqual([])
      for (let n = 0; n < 3; n++) yield* cycle
      expect(happened).toEqual(["beat", "claim", "claim", "claim"])
      yield* TestClock.adjust("10 seconds")
      expect(happened.slice(4)).toEqual(["beat"])
    }).pipe(Effect.provide(noting(happened)), Effect.provide(application()))
  })

  it.effect("again at once when it unparked a whole portion: there may be more", () => {
    const beats: Array<number> = []
    const layer = drainWith((store) => ({
      beat: (worker, serves) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          beats.push(now / 1000)
          const unparked = beats.length <= 3 ? mostUnparked : 7
          return Effect.map(store.beat(worker, serves), (told) => ({ ...told, unparked }))
        })
    }))
    return Effect.gen(function*() {
      const until = (count: number) => Effect.repeat(Effect.yieldNow, { until: () => beats.length >= count })
      yield* cycle
      yield* until(4)
      yield* TestClock.adjust("10 seconds")
      yield* until(5)
      expect(beats).toEqual([0, 0, 0, 0, 10])
    }).pipe(Effect.provide(layer), Effect.provide(application()))
  })

  it.effect("once, however many cycles begin at once", () => {
    const happened: Array<string> = []
    return Effect.gen(function*() {
      yield* Effect.all([cycle, cycle, cycle], { concurrency: "unbounded" })
      expect(happened.filter((what) => what === "beat")).toHaveLength(1)
    }).pipe(Effect.provide(noting(happened)), Effect.provide(application()))
  })

  it.effect("while a handler takes its time, and while its schedule sleeps", () => {
    const beats: Array<number> = []
    return Effect.gen(function*() {
      yield* record(note("long", { trouble: "hangs", times: 1 }))
      const nightly = DrainWorker.layer({ schedule: Schedule.spaced("1 day") })
      yield* Layer.build(nightly.pipe(Layer.provide(noting([], beats))))
      yield* TestClock.adjust("1 hour")
      expect(yield* chunkOf("long")).toMatchObject({ attempts: 1 })
      expect(beats).toEqual(Array.from({ length: 361 }, (_, n) => n * 10))
    }).pipe(Effect.scoped, Effect.provide(application({}, slowly)))
  })

  it.effect("no more once its drain is gone, and not at all if it is only asked to persist a call now", () => {
    const happened: Array<string> = []
    return Effect.gen(function*() {
      yield* record(note("a"))
      yield* Effect.gen(function*() {
        yield* persistNow("a")
        yield* TestClock.adjust("1 minute")
      }).pipe(Effect.provide(noting(happened)))
      expect(happened).toEqual(["claim"])
      yield* Effect.provide(cycle, noting(happened))
      yield* TestClock.adjust("1 minute")
      expect(happened).toEqual(["claim", "beat", "claim"])
    }).pipe(Effect.provide(application()))
  })

  it.effect("again after an outage, of which it is silent; of what does not pass by itself it tells once", () => {
    const lines: Array<unknown> = []
    const keep = Logger.make(({ message }) => lines.push(message))
    let problem: ChunkStoreError | undefined
    const beats: Array<string> = []
    const drain = drainWith((store) => ({
      beat: (worker, serves) =>
        Effect.suspend(() => {
          beats.push(problem === undefined ? "good" : "bad")
          return problem === undefined ? store.beat(worker, serves) : Effect.fail(problem)
        })
    }))
    return Effect.gen(function*() {
      problem = away("beat")
      // a first one that fails is the cycle's failure
      expect(yield* Effect.flip(cycle)).toBe(problem)
      problem = undefined
      yield* cycle
      problem = away("beat")
      yield* TestClock.adjust("30 seconds")
      expect(lines).toEqual([])
      problem = new ChunkStoreError({ operation: "beat", transient: false, reason: "permission denied" })
      yield* TestClock.adjust("30 seconds")
      expect(lines).toEqual([[expect.stringContaining("permission denied")]])
      problem = undefined
      yield* TestClock.adjust("10 seconds")
      expect(beats).toEqual(["bad", "good", ...Array.from({ length: 6 }, () => "bad"), "good"])
    }).pipe(Effect.provide(drain), Effect.provide(application()), Effect.provide(Logger.layer([keep])))
  })
})

/** Handlers that may take their time. */
const slowly = HandlerRegistry.layer().pipe(
  Layer.provide(HandlerPlugin.layer("clinic", Note, noteHandler({ timeout: "25 minutes" })))
)

describe("a pause", () => {
  const everything = { namespace: "*", schemaIdentity: "*" }
  // far less than a beat, or than an idle worker waits; in steps, because one thing follows another
  const soon = Effect.repeat(TestClock.adjust("100 millis"), { times: 10 })

  it.effect("and its end are heard at once, by a worker that idles", () =>
    Effect.gen(function*() {
      const pauses = yield* Pauses.Pauses
      yield* Layer.build(DrainWorker.layer())
      yield* soon
      yield* pauses.pause(everything, "the ward moves")
      yield* soon
      yield* record(note("a"))
      yield* soon
      expect(yield* chunkOf("a")).toMatchObject({ state: "parked" })
      yield* pauses.resume(everything)
      yield* soon
      expect((yield* written).map((row) => row.callId)).toEqual(["a"])
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("is seen at the next beat by a worker that no hint reached", () =>
    Effect.gen(function*() {
      yield* cycle
      yield* Pauses.Pauses.use((pauses) => pauses.pause(everything, ""))
      yield* record(note("a"))
      expect(yield* cycle).toMatchObject({ persisted: 1 })
      yield* TestClock.adjust("10 seconds")
      yield* record(note("b"))
      expect(yield* cycle).toMatchObject({ parked: 1 })
    }).pipe(
      Effect.provide(Layer.fresh(Drain.layer).pipe(Layer.provide(WakeUp.layerLocal))),
      Effect.provide(application())
    ))
})

describe("a worker of one namespace", () => {
  /** A drain of its own, with note handlers of these namespaces. */
  const worker = (
    drain: Layer.Layer<
      Drain.Drain,
      never,
      | ChunkStore.ChunkStore
      | HandlerRegistry.HandlerRegistry
      | DomainEvents.DomainEvents
      | Inspector.Inspector
      | WakeUp.WakeUp
      | Settings.Settings
    >,
    ...namespaces: ReadonlyArray<string>
  ) => {
    const none: Layer.Layer<never, never, MemoryDatabase> = Layer.empty
    const handlers = namespaces.reduce(
      (layer, namespace) => HandlerPlugin.layer(namespace, Note, noteHandler()).pipe(Layer.provideMerge(layer)),
      none
    )
    const registry = HandlerRegistry.layer().pipe(Layer.provide(handlers))
    return Effect.map(
      Layer.build(Layer.fresh(drain).pipe(Layer.provide(Layer.fresh(registry)))),
      (context) => <A, E, R>(effect: Effect.Effect<A, E, R | Drain.Drain>) => Effect.provide(effect, context)
    )
  }
  const dental = note("dental", {}, { namespace: "dental" })

  it.effect("says that it serves that namespace only: what it has other handlers for is not left to it", () =>
    Effect.gen(function*() {
      const clinic = yield* worker(Drain.layerWith({ namespace: "clinic" }), "clinic", "dental")
      const other = yield* worker(Drain.layer, "clinic")
      yield* clinic(untilEmpty)
      yield* other(untilEmpty)
      yield* record(dental)
      // nobody drains it: it is put where people see it, and not left to a worker that will never take it
      expect(yield* other(untilEmpty)).toMatchObject({ parked: 1 })
      yield* TestClock.adjust("1 minute")
      expect(yield* clinic(untilEmpty)).toMatchObject({ claimed: 0 })
      expect(yield* chunkOf("dental")).toMatchObject({ state: "parked", attempts: 0 })
      // and it goes on by itself once somebody serves it
      const dentist = yield* worker(Drain.layerWith({ namespace: "dental" }), "dental")
      expect(yield* dentist(untilEmpty)).toMatchObject({ persisted: 1 })
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("serves it by the handlers of core as well, beside a worker that serves core everywhere", () =>
    Effect.gen(function*() {
      const everywhere = yield* worker(Drain.layer, "core")
      const clinic = yield* worker(Drain.layerWith({ namespace: "clinic" }), "core")
      yield* everywhere(untilEmpty)
      yield* record(note("a"), dental)
      expect(yield* clinic(untilEmpty)).toMatchObject({ claimed: 1, persisted: 1 })
      expect(yield* everywhere(untilEmpty)).toMatchObject({ claimed: 1, persisted: 1 })
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("leaves to the others what it has no handler for, as long as they live; then it parks it", () =>
    Effect.gen(function*() {
      const clinic = yield* worker(Drain.layerWith({ namespace: "clinic" }))
      yield* Effect.gen(function*() {
        const other = yield* worker(Drain.layer, "clinic")
        yield* other(untilEmpty)
        yield* record(note("a"))
        expect(yield* clinic(untilEmpty)).toMatchObject({ claimed: 0 })
        expect(yield* other(untilEmpty)).toMatchObject({ persisted: 1 })
      }).pipe(Effect.scoped)
      yield* record(note("b"))
      expect(yield* clinic(untilEmpty)).toMatchObject({ claimed: 0 })
      yield* TestClock.adjust("10 seconds")
      expect(yield* clinic(untilEmpty)).toMatchObject({ parked: 1 })
    }).pipe(Effect.scoped, Effect.provide(application())))
})

describe("a handler of core beside one of the namespace's own, in another worker", () => {
  const ran: Array<string> = []
  const drainOf = (namespace: string, only?: string) =>
    Layer.build(
      Layer.fresh(only === undefined ? Drain.layer : Drain.layerWith({ namespace: only })).pipe(
        Layer.provide(
          HandlerRegistry.layer().pipe(
            Layer.provide(HandlerPlugin.layer(namespace, Note, () => Effect.sync(() => void ran.push(namespace))))
          )
        )
      )
    )

  it.effect("leaves the namespace to that worker, and takes all others", () =>
    Effect.gen(function*() {
      ran.length = 0
      const core = yield* drainOf("core")
      const own = yield* drainOf("clinic")
      yield* Effect.all([Effect.provide(cycle, core), Effect.provide(cycle, own)])
      // both know of each other
      yield* TestClock.adjust("10 seconds")
      yield* record(note("a"), note("b", {}, { namespace: "dental" }))
      expect(yield* Effect.provide(cycle, core)).toMatchObject({ claimed: 1 })
      expect(yield* Effect.provide(cycle, own)).toMatchObject({ claimed: 1 })
      expect(ran).toEqual(["core", "clinic"])
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("takes it when that worker is gone", () =>
    Effect.gen(function*() {
      ran.length = 0
      const core = yield* drainOf("core")
      yield* Effect.scoped(Effect.flatMap(drainOf("clinic"), (own) => Effect.provide(cycle, own)))
      yield* Effect.provide(cycle, core)
      yield* TestClock.adjust("1 minute")
      yield* record(note("a"))
      expect(yield* Effect.provide(cycle, core)).toMatchObject({ claimed: 1 })
      expect(ran).toEqual(["core"])
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("does not keep a worker of another namespace from it", () =>
    Effect.gen(function*() {
      ran.length = 0
      const own = yield* drainOf("clinic")
      const elsewhere = yield* drainOf("core", "dental")
      yield* Effect.all([Effect.provide(cycle, own), Effect.provide(cycle, elsewhere)])
      yield* TestClock.adjust("10 seconds")
      yield* record(note("a"))
      expect(yield* Effect.provide(cycle, elsewhere)).toMatchObject({ claimed: 0 })
      expect(yield* Effect.provide(cycle, own)).toMatchObject({ claimed: 1 })
      expect(ran).toEqual(["clinic"])
    }).pipe(Effect.scoped, Effect.provide(application())))
})
