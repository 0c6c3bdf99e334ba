/**
 * The loop: when it looks, how it stops, and what it survives.
 */
import { it } from "@effect/vitest"
import { ChunkStore, DomainEvents, Drain, DrainWorker, StoreError } from "effect-sluice"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { application, note, record, registry, written } from "./support/clinic.ts"

const claims = (seen: { count: number }) =>
  Layer.effect(
    ChunkStore,
    Effect.map(ChunkStore, (store) =>
      ({
        ...store,
        claim: (request) => {
          seen.count++
          return store.claim(request)
        }
      }) satisfies ChunkStore["Service"])
  )

describe("the worker", () => {
  it.effect("looks when its schedule says: spaced", () =>
    Effect.gen(function*() {
      const seen = { count: 0 }
      const drain = Layer.fresh(Drain.layer).pipe(Layer.provide(Layer.fresh(claims(seen))))
      yield* Layer.build(DrainWorker.layer({ schedule: Schedule.spaced("10 seconds") }).pipe(Layer.provide(drain)))
      yield* TestClock.adjust("1 minute")
      // idle it asks once a tick, not once a lane
      expect(seen.count).toBeGreaterThanOrEqual(6)
      expect(seen.count).toBeLessThanOrEqual(8)
    }).pipe(Effect.scoped, Effect.provide(application({ inFlight: 3 }))))

  it.effect("or cron, jittered or not", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2026, 0, 1, 2, 0, 0))
      const schedule = Schedule.jittered(Schedule.cron("0 3 * * *"))
      const wrong = DrainWorker.layer({ schedule: Schedule.cron("at three") })
      expect(yield* Effect.flip(Layer.build(wrong))).toMatchObject({ _tag: "CronParseError" })
      yield* Layer.build(DrainWorker.layer({ schedule }))
      yield* TestClock.adjust("1 second")
      yield* record(note("a"))
      yield* TestClock.adjust("30 minutes")
      expect(yield* written).toEqual([])
      yield* TestClock.adjust("1 hour")
      expect(yield* written).toHaveLength(1)
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("while there is work it does not wait", () =>
    Effect.gen(function*() {
      yield* record(...Array.from({ length: 100 }, (_, n) => note(`call-${n}`)))
      const worker = yield* Effect.map(
        Layer.build(DrainWorker.layer({ schedule: Schedule.spaced("1 hour") })),
        (context) => context
      )
      yield* TestClock.adjust("1 second")
      expect(yield* written).toHaveLength(100)
      const report = yield* Effect.provide(Effect.flatMap(DrainWorker, (it) => it.report), worker)
      expect(report).toMatchObject({ claimed: 100, persisted: 100 })
    }).pipe(Effect.scoped, Effect.provide(application({ batchSize: 10 }))))

  it.effect("is woken by what is recorded", () =>
    Effect.gen(function*() {
      yield* Layer.build(DrainWorker.layer())
      yield* TestClock.adjust("1 second")
      yield* record(note("a"))
      yield* TestClock.adjust("100 millis")
      expect(yield* written).toHaveLength(1)
    }).pipe(Effect.scoped, Effect.provide(application({ pollInterval: Duration.hours(1) }))))

  it.effect("stops gracefully: claims no more, lets running handlers finish, gives back the rest at no cost", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* record(note("quick"), note("hangs", { trouble: "hangs" }, { namespace: "slow" }))
      yield* Scope.provide(Layer.build(DrainWorker.layer()), scope)
      yield* TestClock.adjust("1 second")
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 second")
      yield* record(note("late"))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(closing)
      const store = yield* ChunkStore
      const states = yield* Effect.forEach(["hangs", "late"], (id) => store.call(id))
      expect(states.map((view) => view._tag === "Some" ? view.value.chunks[0] : undefined)).toMatchObject([
        { state: "pending", attempts: 0, crashes: 0 },
        { state: "pending" }
      ])
    }).pipe(Effect.provide(application({ gracePeriod: Duration.seconds(10), notify: false }, registry({}, "core")))))

  it.effect("survives an outage", () =>
    Effect.gen(function*() {
      let away = true
      const flaky = Layer.effect(
        ChunkStore,
        Effect.map(ChunkStore, (store) =>
          ({
            ...store,
            claim: (request) =>
              away
                ? Effect.fail(new StoreError({ operation: "claim", transient: true, reason: "no connection" }))
                : store.claim(request)
          }) satisfies ChunkStore["Service"])
      )
      const drain = Layer.fresh(Drain.layer).pipe(Layer.provide(Layer.fresh(flaky)))
      yield* Layer.build(DrainWorker.layer({ schedule: Schedule.spaced("1 second") }).pipe(Layer.provide(drain)))
      yield* record(note("a"))
      yield* TestClock.adjust("1 minute")
      expect(yield* written).toEqual([])
      away = false
      yield* TestClock.adjust("2 seconds")
      expect(yield* written).toHaveLength(1)
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("stops by itself when its schedule ends", () =>
    Effect.gen(function*() {
      const context = yield* Layer.build(DrainWorker.layer({ schedule: Schedule.recurs(2) }))
      const stopped = yield* Effect.forkChild(Effect.provide(Effect.flatMap(DrainWorker, (it) => it.stopped), context))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(stopped)
      expect(yield* DomainEvents).toBeDefined()
    }).pipe(Effect.scoped, Effect.provide(application())))
})
