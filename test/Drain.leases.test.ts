/**
 * A drain whose handlers take long, that is given up in the middle, or whose database is away: nobody is charged, nothing
 * is done twice, and nothing is held for longer than it must be.
 */
import { it } from "@effect/vitest"
import { ChunkStore, HandlerPlugin, HandlerRegistry } from "effect-sluice"
import type { Definition, HandlerInput } from "effect-sluice/Handler"
import type { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { application, Note, note, noteHandler, record, written } from "./support/clinic.ts"
import { away, chunkOf, cycle, drainWith } from "./support/drain.ts"

type Input = HandlerInput<typeof Note.schema.Type>
const plugin = (definition: Definition<typeof Note.schema.Type, MemoryDatabase>, namespace = "clinic") =>
  HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer(namespace, Note, definition)))

describe("leases", () => {
  const slow = (minutes: number) =>
    plugin({
      timeout: "1 hour",
      persist: (input: Input) => Effect.delay(noteHandler().persist(input), Duration.minutes(minutes))
    })

  it.effect("a long handler's lease is renewed: no other worker takes its chunk", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      const first = yield* Effect.forkChild(cycle)
      for (let minute = 0; minute < 4; minute++) {
        yield* TestClock.adjust("1 minute")
        expect(yield* cycle).toMatchObject({ claimed: 0 })
      }
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(first)).toMatchObject({ persisted: 1 })
      expect(yield* chunkOf("a")).toMatchObject({ crashes: 0, attempts: 0 })
    }).pipe(Effect.provide(application({ lease: Duration.minutes(1) }, slow(5)))))

  it.effect("a worker that was frozen beyond its lease changes nothing when it comes back", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      const frozen = drainWith(() => ({ renew: () => Effect.never }))
      const first = yield* Effect.forkChild(Effect.provide(cycle, frozen))
      yield* TestClock.adjust("61 seconds")
      const second = yield* Effect.forkChild(cycle)
      yield* TestClock.adjust("2 minutes")
      expect(yield* Fiber.join(first)).toMatchObject({ claimed: 1, persisted: 0, released: 0, lost: 1 })
      yield* TestClock.adjust("2 minutes")
      expect(yield* Fiber.join(second)).toMatchObject({ claimed: 1, persisted: 1 })
      expect(yield* written).toHaveLength(1)
      expect((yield* chunkOf("a")).failures).toEqual([])
    }).pipe(Effect.provide(application({ lease: Duration.minutes(1) }, slow(2)))))

  it.effect("given up in the middle: what is committed stays, the rest comes back at no cost", () =>
    Effect.gen(function*() {
      // the larger share of the claim goes first
      yield* record(note("a"), note("b"), note("c", { trouble: "hangs" }, { namespace: "triage" }))
      const fiber = yield* Effect.forkChild(cycle)
      yield* TestClock.adjust("1 second")
      expect((yield* chunkOf("c")).state).toBe("in-flight")
      yield* Fiber.interrupt(fiber)
      for (const id of ["a", "b"]) expect((yield* chunkOf(id)).state).toBe("persisted")
      expect(yield* chunkOf("c")).toMatchObject({ state: "ready", attempts: 0, crashes: 0, failures: [] })
      expect((yield* written).map((row) => row.callId)).toEqual(["a", "b"])
    }).pipe(Effect.provide(application(
      {},
      HandlerRegistry.layer().pipe(
        Layer.provide(HandlerPlugin.layer("clinic", Note, noteHandler())),
        Layer.provide(HandlerPlugin.layer("triage", Note, noteHandler()))
      )
    ))))

  it.effect("given up while the database is away: the rest comes back as soon as it can", () =>
    Effect.gen(function*() {
      let down = false
      const drain = yield* Layer.build(drainWith((store) => ({
        settle: (token, settlements) =>
          Effect.suspend(() => down ? Effect.fail(away("settle")) : store.settle(token, settlements))
      })))
      yield* record(note("a", { trouble: "hangs" }))
      const fiber = yield* Effect.forkChild(Effect.provide(cycle, drain))
      yield* TestClock.adjust("1 second")
      down = true
      yield* Fiber.interrupt(fiber)
      expect((yield* chunkOf("a")).state).toBe("in-flight")
      down = false
      yield* TestClock.adjust("2 seconds")
      expect(yield* chunkOf("a")).toMatchObject({ state: "ready", attempts: 0, crashes: 0 })
    }).pipe(Effect.scoped, Effect.provide(application())))
})

describe("a handler that cannot be interrupted, and hangs", () => {
  const stubborn = plugin({
    persist: (input: Input) =>
      input.call.callId.startsWith("hangs") ? Effect.uninterruptible(Effect.never) : noteHandler().persist(input)
  })
  const settings = { handlerTimeout: Duration.seconds(10), lease: Duration.minutes(1), maxAttempts: 2 }

  it.effect("keeps neither its batch-mates nor its worker, and is buried", () =>
    Effect.gen(function*() {
      yield* record(note("hangs"), note("mate"))
      const worker = yield* Effect.forkChild(Effect.forever(Effect.andThen(cycle, Effect.sleep("1 second"))))
      yield* TestClock.adjust("1 second")
      expect(yield* chunkOf("mate")).toMatchObject({ state: "in-flight" })
      // its time, and a second for it to end
      yield* TestClock.adjust("11 seconds")
      expect(yield* chunkOf("mate")).toMatchObject({ state: "persisted", failures: [] })
      yield* record(note("later"))
      yield* TestClock.adjust("12 seconds")
      expect(yield* chunkOf("later")).toMatchObject({ state: "persisted", failures: [] })
      yield* TestClock.adjust("1 minute")
      expect(yield* chunkOf("hangs")).toMatchObject({
        state: "dead",
        attempts: 2,
        crashes: 0,
        death: { reason: "exhausted", message: expect.stringContaining("could not be interrupted") }
      })
      yield* Fiber.interrupt(worker)
    }).pipe(Effect.provide(application(settings, stubborn))))

  it.effect("holds up its worker's end for a moment only, and is not given back", () =>
    Effect.gen(function*() {
      yield* record(note("hangs"), note("mate"))
      const worker = yield* Effect.forkChild(cycle)
      yield* TestClock.adjust("1 second")
      const ended = yield* Effect.forkChild(Fiber.interrupt(worker))
      yield* TestClock.adjust("6 seconds")
      expect(ended.pollUnsafe()).toBeDefined()
      // its lease goes on: whoever claims it next knows that a worker did not come back from it
      expect(yield* chunkOf("hangs")).toMatchObject({ state: "in-flight", attempts: 0 })
      yield* TestClock.adjust("1 minute")
      expect(yield* chunkOf("hangs")).toMatchObject({ state: "ready" })
    }).pipe(Effect.provide(application(settings, stubborn))))

  it.effect("that ends after its lease does takes no crash back", () => {
    const late = plugin({ persist: () => Effect.uninterruptible(Effect.sleep("3 minutes")) })
    return Effect.gen(function*() {
      yield* record(note("a"))
      const worker = yield* Effect.forkChild(cycle)
      yield* TestClock.adjust("1 second")
      yield* Effect.forkChild(Fiber.interrupt(worker))
      // its lease ends, and another worker holds the chunk by the time the run is over
      yield* TestClock.adjust("90 seconds")
      const other = yield* Effect.forkChild(cycle)
      yield* TestClock.adjust("1 second")
      expect(yield* chunkOf("a")).toMatchObject({ state: "in-flight", crashes: 1 })
      yield* TestClock.adjust("4 minutes")
      yield* Fiber.join(other)
      expect(yield* chunkOf("a")).toMatchObject({ crashes: 1 })
    }).pipe(Effect.provide(application(settings, late)))
  })

  it.effect("is given back at no cost if it ends after all before its lease does", () => {
    const late = plugin({ persist: () => Effect.uninterruptible(Effect.sleep("20 seconds")) })
    return Effect.gen(function*() {
      yield* record(note("a"))
      const worker = yield* Effect.forkChild(cycle)
      yield* TestClock.adjust("1 second")
      yield* Effect.forkChild(Fiber.interrupt(worker))
      yield* TestClock.adjust("10 seconds")
      expect(yield* chunkOf("a")).toMatchObject({ state: "in-flight" })
      yield* TestClock.adjust("10 seconds")
      expect(yield* chunkOf("a")).toMatchObject({ state: "ready", attempts: 0, crashes: 0 })
      expect(yield* written).toEqual([])
    }).pipe(Effect.provide(application(settings, late)))
  })
})

describe("a database that is away", () => {
  for (const verb of ["persist", "settle", "ledger"] as const) {
    it.effect(`for a while, at ${verb}: nobody is charged, and nothing is lost`, () =>
      Effect.gen(function*() {
        let times = 3
        const flaky = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.suspend((): Effect.Effect<A, E | ChunkStore.ChunkStoreError, R> =>
            times-- > 0 ? Effect.fail(away(verb)) : effect
          )
        const drain = yield* Layer.build(drainWith((store) => ({
          persist: (token, work) => verb === "persist" ? flaky(store.persist(token, work)) : store.persist(token, work),
          settle: (token, list) => verb === "settle" ? flaky(store.settle(token, list)) : store.settle(token, list),
          ledger: (keys) => verb === "ledger" ? flaky(store.ledger(keys)) : store.ledger(keys)
        })))
        yield* record(note("a"), note("bad", { trouble: "fails" }))
        const worker = yield* Effect.forkChild(Effect.forever(
          Effect.andThen(Effect.ignore(Effect.provide(cycle, drain)), Effect.sleep("1 second"))
        ))
        yield* TestClock.adjust("9 seconds")
        yield* Fiber.interrupt(worker)
        expect((yield* chunkOf("a")).state).toBe("persisted")
        expect(yield* written).toHaveLength(1)
        expect(yield* chunkOf("bad")).toMatchObject({ state: "scheduled", attempts: 1, crashes: 0, failures: [{}] })
      }).pipe(Effect.scoped, Effect.provide(application())))
  }

  it.effect("for longer than a cycle waits: the cycle fails, its chunks come back, nobody is charged", () =>
    Effect.gen(function*() {
      const drain = yield* Layer.build(
        drainWith(() => ({ persist: () => Effect.fail(away("persist")), probe: Effect.fail(away("probe")) }))
      )
      yield* record(note("a"))
      const fiber = yield* Effect.forkChild(Effect.flip(Effect.provide(cycle, drain)))
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(fiber)).toMatchObject({ _tag: "ChunkStoreError", transient: true })
      expect(yield* chunkOf("a")).toMatchObject({ state: "ready", attempts: 0, crashes: 0, failures: [] })
      expect(yield* cycle).toMatchObject({ persisted: 1 })
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("as a handler sees it: the error is the database's, however it is wrapped", () => {
    let times = 2
    const wrapping = plugin({
      persist: (input: Input) =>
        Effect.andThen(
          noteHandler().persist(input),
          Effect.suspend(() =>
            times-- > 0 ? Effect.fail({ _tag: "RepositoryError", cause: { reason: away("insert") } }) : Effect.void
          )
        )
    })
    return Effect.gen(function*() {
      yield* record(note("a"))
      // and the transaction has suffered from it
      const drain = yield* Layer.build(drainWith((store) => ({
        persist: (token, work) =>
          store.persist(token, (transaction) =>
            work({
              ...transaction,
              isSound: Effect.suspend(() => times >= 0 ? Effect.fail(away("persist")) : transaction.isSound)
            }))
      })))
      const fiber = yield* Effect.forkChild(Effect.provide(cycle, drain))
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(fiber)).toMatchObject({ claimed: 1, nothingToCreate: 1, retried: 0 })
      expect(yield* written).toHaveLength(1)
      expect((yield* chunkOf("a")).failures).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(application({}, wrapping)))
  })

  it.effect("another database than this one: its error is the handler's failure", () => {
    const wrapping = plugin({
      persist: () => Effect.fail({ _tag: "WarehouseError", cause: away("insert") })
    })
    return Effect.gen(function*() {
      yield* record(note("a"))
      expect(yield* cycle).toMatchObject({ claimed: 1, retried: 1 })
      expect(yield* chunkOf("a")).toMatchObject({ attempts: 1, state: "scheduled" })
    }).pipe(Effect.provide(application({}, wrapping)))
  })
})
