/**
 * `recordNow` while the database is away or its caller is gone: the answer is paid for, and is recorded all the same.
 */
import { it } from "@effect/vitest"
import { Drain, Pauses } from "effect-sluice"
import { type ChunkStoreError, LeaseLost } from "effect-sluice/ChunkStore"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { application, note, record, written } from "./support/clinic.ts"
import { away, chunkOf, cycle, drainWith, untilEmpty } from "./support/drain.ts"

const recordNow = (callId: string, data = {}, orderingKey?: string) =>
  Drain.Drain.use((drain) => drain.recordNow(note(callId, data, orderingKey === undefined ? {} : { orderingKey })))

describe("recordNow behind an older call of its ordering key", () => {
  it.effect("records it and gives nothing up: its token holds nothing", () =>
    Effect.gen(function*() {
      yield* record(note("a", {}, { orderingKey: "knee" }))
      let givenUp = 0
      const drain = yield* Layer.build(drainWith((store) => ({
        giveUp: (token) =>
          Effect.suspend(() => {
            givenUp++
            return store.giveUp(token)
          })
      })))
      const fiber = yield* Effect.forkChild(Effect.flip(Effect.provide(recordNow("b", {}, "knee"), drain)))
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(fiber)).toMatchObject({ _tag: "ChunkBusy" })
      expect(givenUp).toBe(0)
      expect(yield* untilEmpty).toMatchObject({ persisted: 2 })
    }).pipe(Effect.scoped, Effect.provide(application())))
})

describe("recordNow of a call that another records while its handlers run", () => {
  it.effect("has its objects, and logs no loss: it has held nothing", () => {
    const lines: Array<string> = []
    return Effect.gen(function*() {
      let isFirst = true
      const drain = yield* Layer.build(drainWith((store) => ({
        persist: (token, work, ...rest) =>
          Effect.suspend(() => {
            if (!isFirst) return store.persist(token, work, ...rest)
            isFirst = false
            return Effect.andThen(store.record([note("a")]), new LeaseLost({ claimed: 1, held: 0 }))
          })
      })))
      expect(yield* Effect.provide(recordNow("a"), drain)).toHaveLength(1)
      expect(yield* chunkOf("a")).toMatchObject({ state: "persisted", attempts: 0 })
      expect(lines).toEqual([])
    }).pipe(
      Effect.scoped,
      Effect.provide(application()),
      Effect.provide(Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))]))
    )
  })
})

describe("recordNow of a kind that is paused while its first transaction cannot begin", () => {
  it.effect("runs no handler, although the call was recorded beside that transaction", () =>
    Effect.gen(function*() {
      let isFirst = true
      let recorded = 0
      const drain = yield* Layer.build(drainWith((store) => ({
        recordHeld: (call, hold) => Effect.tap(store.recordHeld(call, hold), () => Effect.sync(() => recorded++)),
        persist: (token, work, ...rest) =>
          Effect.suspend(() => {
            if (!isFirst) return store.persist(token, work, ...rest)
            isFirst = false
            return Effect.delay(Effect.fail(away("persist")), "1 second")
          })
      })))
      const fiber = yield* Effect.forkChild(Effect.flip(Effect.provide(recordNow("a"), drain)))
      yield* TestClock.adjust("500 millis")
      expect(recorded).toBe(1)
      yield* Pauses.Pauses.use((pauses) => pauses.pause({ namespace: "clinic", schemaIdentity: "*" }, "it is moved"))
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(fiber)).toMatchObject({ _tag: "ChunkBusy", state: "parked" })
      expect(yield* written).toEqual([])
      expect(yield* chunkOf("a")).toMatchObject({ state: "parked", attempts: 0, crashes: 0 })
    }).pipe(Effect.scoped, Effect.provide(application())))
})

describe("recordNow, and a database that is away", () => {
  it.effect("while it asks whether the call is new: it is recorded once the database is back, and the caller is told", () =>
    Effect.gen(function*() {
      let times = 4
      const drain = yield* Layer.build(drainWith((store) => ({
        isNew: () => Effect.fail(away("isNew")),
        record: (calls) => Effect.suspend(() => times-- > 0 ? Effect.fail(away("record")) : store.record(calls))
      })))
      const fiber = yield* Effect.forkChild(Effect.flip(Effect.provide(recordNow("a", {}, "knee"), drain)))
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(fiber)).toMatchObject({ _tag: "ChunkStoreError", operation: "isNew" })
      expect(yield* chunkOf("a")).toMatchObject({ state: "ready", attempts: 0, crashes: 0 })
      expect(yield* cycle).toMatchObject({ persisted: 1 })
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("while it asks, and the caller goes away: it is recorded", () =>
    Effect.gen(function*() {
      const asked = yield* Deferred.make<void>()
      const drain = yield* Layer.build(
        drainWith(() => ({ isNew: () => Effect.andThen(Deferred.succeed(asked, undefined), Effect.never) }))
      )
      const fiber = yield* Effect.forkChild(Effect.provide(recordNow("a", {}, "knee"), drain))
      yield* Deferred.await(asked)
      yield* Fiber.interrupt(fiber)
      expect(yield* chunkOf("a")).toMatchObject({ state: "ready", attempts: 0 })
    }).pipe(Effect.scoped, Effect.provide(application())))

  for (const verb of ["persist", "recordHeld"] as const) {
    it.effect(`at ${verb}, for a while: it is persisted, nobody is charged, and nothing is written twice`, () =>
      Effect.gen(function*() {
        let times = 3
        const flaky = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.suspend((): Effect.Effect<A, E | ChunkStoreError, R> => times-- > 0 ? Effect.fail(away(verb)) : effect)
        const drain = yield* Layer.build(drainWith((store) => ({
          persist: (token, work, ...rest) =>
            verb === "persist" ? flaky(store.persist(token, work, ...rest)) : store.persist(token, work, ...rest),
          recordHeld: (call, hold) =>
            verb === "recordHeld" ? flaky(store.recordHeld(call, hold)) : store.recordHeld(call, hold)
        })))
        const good = yield* Effect.forkChild(Effect.provide(recordNow("a"), drain))
        const bad = yield* Effect.forkChild(Effect.flip(Effect.provide(recordNow("bad", { trouble: "fails" }), drain)))
        yield* TestClock.adjust("10 seconds")
        expect(yield* Fiber.join(good)).toHaveLength(1)
        expect(yield* Fiber.join(bad)).toMatchObject({
          _tag: verb === "recordHeld" ? "ChunkStoreError" : "HandlerFailed"
        })
        expect((yield* chunkOf("a")).state).toBe("persisted")
        expect(yield* written).toHaveLength(1)
      }).pipe(Effect.scoped, Effect.provide(application())))
  }

  it.effect("when an answer of it is not heard: what its token may hold is given up, after the call is recorded for sure", () =>
    Effect.gen(function*() {
      const sent: Array<string> = []
      const noted = <A, E, R>(verb: string, effect: Effect.Effect<A, E, R>) =>
        Effect.suspend(() => {
          sent.push(verb)
          return effect
        })
      const drain = yield* Layer.build(drainWith((store) => ({
        // it is recorded, but nobody hears of it
        recordHeld: (call, hold) =>
          noted("recordHeld", Effect.andThen(store.recordHeld(call, hold), Effect.fail(away("recordHeld")))),
        record: (calls) => noted("record", store.record(calls)),
        giveUp: (token) => noted("giveUp", store.giveUp(token))
      })))
      const error = yield* Effect.flip(Effect.provide(recordNow("a", { trouble: "fails", times: 0 }, "knee"), drain))
      expect(error).toMatchObject({ _tag: "ChunkStoreError", operation: "recordHeld" })
      expect(sent.slice(-2)).toEqual(["record", "giveUp"])
      expect(yield* chunkOf("a")).toMatchObject({ state: "ready", attempts: 0 })
      expect(yield* cycle).toMatchObject({ claimed: 1 })
    }).pipe(Effect.scoped, Effect.provide(application())))
})
