/**
 * Chunks that fail: who is charged and who is not, what it costs to find them, when they come again, and when they are
 * buried.
 */
import { it } from "@effect/vitest"
import { ChunkStore, Drain, HandlerPlugin, HandlerRegistry } from "effect-sluice"
import { ChunkStoreError, type ClaimRequest, TransactionSpoiled } from "effect-sluice/ChunkStore"
import type { Definition, HandlerInput } from "effect-sluice/Handler"
import type { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { application, Note, note, noteHandler, record, registry, written } from "./support/clinic.ts"
import { chunkOf, counting, cycle, drainWith, type Seen, untilEmpty } from "./support/drain.ts"

const plugin = (definition: Definition<typeof Note.schema.Type, MemoryDatabase>) =>
  HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer("clinic", Note, definition)))

/** A handler of batches, which fails as a whole and does not say at whom. */
const many = plugin({
  retry: Schedule.spaced("10 seconds"),
  persistMany: (inputs: ReadonlyArray<HandlerInput<typeof Note.schema.Type>>) =>
    Effect.forEach(inputs, (input) => noteHandler().persist(input))
})

describe("culprits among many", () => {
  /** A database that refuses to commit what a bad handler left behind, and does not say whose it is. */
  const spoiling =
    (bad: ReadonlySet<string>) =>
    (store: ChunkStore.ChunkStore["Service"]): Partial<ChunkStore.ChunkStore["Service"]> => ({
      persist: (token, work) =>
        store.persist(
          token,
          (transaction) =>
            Effect.filterOrFail(
              work(transaction),
              (lines) => !lines.some((line) => bad.has(line.chunk.key.callId)),
              () => new TransactionSpoiled({ reason: "a deferred constraint does not hold" })
            )
        )
    })

  /**
   * How one fails, the failure it is charged with, and whether it is known who it was. If it is not,
   * the batch is halved until it stands alone: two halves on each of log2 n levels for each culprit, and the whole once.
   */
  const ways = [
    ["before it writes anything", { trouble: "fails", early: true }, "failed", true, registry()],
    ["after it has written", { trouble: "fails" }, "failed", true, registry()],
    ["by a bug", { trouble: "throws" }, "defect", true, registry()],
    ["by running out of time", { trouble: "hangs" }, "timeout", true, registry()],
    ["together with its whole batch", { trouble: "fails" }, "failed", false, many],
    ["by leaving what cannot commit", {}, "spoiled", false, registry()]
  ] as const

  for (const [how, data, kind, known, handlers] of ways) {
    it.effect(
      `one that fails ${how} is found in O(k log n) transactions, and costs its mates nothing`,
      () =>
        Effect.gen(function*() {
          const seed = yield* Random.nextIntBetween(0, 2 ** 31)
          let state = seed
          // a small generator of its own, so that a failing seed can be put in here and runs again the same
          const random = (below: number) => {
            state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
            return (state >> 8) % below
          }
          for (const [k, n] of [[0, 64], [1, 64], [1, 1], [3, 100], [7, 128], [16, 16]] as const) {
            const label = `${k} culprits in ${n}, seed ${seed}`
            const prefix = `${k}-${n}-`
            const bad = new Set<string>()
            while (bad.size < k) bad.add(`${prefix}${random(n)}`)
            const ids = Array.from({ length: n }, (_, each) => `${prefix}${each}`)
            const before = (yield* written).length
            yield* record(...ids.map((id) => note(id, bad.has(id) ? data : {})))

            const seen: Seen = { transactions: 0, sizes: [] }
            const drain = drainWith((store) => {
              const counted = { ...store, ...counting(seen)(store) }
              return kind === "spoiled" ? { ...counted, ...spoiling(bad)(counted) } : counted
            })
            const fiber = yield* Effect.forkChild(Effect.provide(cycle, drain))
            yield* TestClock.adjust("1 hour")
            const report = yield* Fiber.join(fiber)

            expect(report, label).toMatchObject({ claimed: n, persisted: n - k, retried: k, released: 0, dead: 0 })
            expect((yield* written).length - before, label).toBe(n - k)
            const levels = Math.ceil(Math.log2(n))
            expect(seen.transactions, label).toBeLessThanOrEqual(1 + 2 * k * Math.max(1, levels))
            // where the culprit is known, what comes before it and what comes after it need not be halved
            if (known) expect(seen.transactions, label).toBeLessThanOrEqual(1 + 3 * k)
            if (k === 0) expect(seen, label).toEqual({ transactions: 1, sizes: [n] })
            for (const id of ids) {
              const chunk = yield* chunkOf(id)
              expect([id, chunk.attempts, chunk.failures.map((failure) => failure.kind)], label).toEqual(
                bad.has(id) ? [id, 1, [kind]] : [id, 0, []]
              )
            }
            // what is left of them would come again among the next
            const store = yield* ChunkStore.ChunkStore
            const { chunks, token } = yield* store.claim({
              worker: "w",
              limit: 1000,
              maxBytes: 1e9,
              lease: Duration.minutes(1)
            })
            const failure = { handler: "", kind: "rejected", message: "" } as const
            yield* store.settle(
              token,
              chunks.map((chunk) => ({ _tag: "Bury", chunk, reason: "rejected", charge: false, failure }))
            )
          }
        }).pipe(Effect.provide(application({ batchSize: 128, lease: Duration.hours(2) }, handlers))),
      30_000
    )
  }

  it.effect("one that failed before runs alone", () => {
    const seen: Seen = { transactions: 0, sizes: [] }
    return Effect.gen(function*() {
      yield* record(note("bad", { trouble: "fails", times: 1 }))
      yield* cycle
      yield* TestClock.adjust("10 seconds")
      yield* record(note("a"), note("b"))
      yield* Effect.provide(cycle, drainWith(counting(seen)))
      expect(seen).toEqual({ transactions: 2, sizes: [2, 1] })
    }).pipe(Effect.provide(application()))
  })

  it.effect("a handler that fails after some of its writes leaves none of them, alone or among others", () =>
    Effect.gen(function*() {
      yield* record(note("a", { rows: 3, trouble: "fails", times: 1 }))
      yield* cycle
      expect(yield* written).toEqual([])
      yield* record(note("b", { rows: 3, trouble: "throws" }), note("c", { rows: 2 }))
      yield* cycle
      expect((yield* written).map((row) => row.callId)).toEqual(["c", "c"])
      yield* TestClock.adjust("10 seconds")
      yield* cycle
      expect((yield* written).map((row) => row.callId)).toEqual(["c", "c", "a", "a", "a"])
    }).pipe(Effect.provide(application())))
})

describe("a database that begins no transaction, and answers otherwise", () => {
  for (
    const [what, transient, times] of [["for long", true, 30], ["now and then", true, 4], [
      "as a pooler says it",
      false,
      4
    ]] as const
  ) {
    it.effect(`${what}: charges no chunk`, () =>
      Effect.gen(function*() {
        yield* record(note("a"), note("b"))
        let refusals = 0
        const refusing = drainWith((store) => ({
          persist: (token, work) =>
            refusals++ < times
              ? Effect.fail(new ChunkStoreError({ operation: "persist", transient, reason: "no connection is free" }))
              : store.persist(token, work)
        }))
        const fiber = yield* Effect.forkChild(
          Effect.provide(Effect.retry(cycle, Schedule.spaced("1 second")), refusing)
        )
        yield* TestClock.adjust("1 hour")
        expect(yield* Fiber.join(fiber)).toMatchObject({ persisted: 2, retried: 0 })
        for (const id of ["a", "b"]) expect(yield* chunkOf(id)).toMatchObject({ attempts: 0, crashes: 0, failures: [] })
      }).pipe(Effect.provide(application())))
  }
})

describe("attempts", () => {
  it.effect("backoff is the handler's schedule, replayed over the attempts that are on record", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails" }))
      for (const [attempt, minutes] of [[1, 1], [2, 2], [3, 4], [4, 8]] as const) {
        // each time another worker, as after a restart
        expect(yield* Effect.provide(cycle, drainWith())).toMatchObject({ claimed: 1, retried: 1 })
        expect((yield* chunkOf("a")).attempts).toBe(attempt)
        yield* TestClock.adjust(minutes * 60_000 - 1)
        expect(yield* cycle).toMatchObject({ claimed: 0 })
        yield* TestClock.adjust(1)
      }
    }).pipe(Effect.provide(application({}, registry({ retry: Schedule.exponential("1 minute") })))))

  it.effect("a schedule's end is not the end: as many attempts as there may be", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails" }))
      for (let attempt = 0; attempt < 6; attempt++) {
        yield* cycle
        yield* TestClock.adjust("1 second")
      }
      expect(yield* chunkOf("a")).toMatchObject({ state: "dead", attempts: 5, death: { reason: "exhausted" } })
    }).pipe(Effect.provide(application({ maxAttempts: 5 }, registry({ retry: Schedule.recurs(2) })))))

  it.effect("as many as the handler says, then it is dead, with its history", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails" }))
      for (let attempt = 1; attempt <= 3; attempt++) {
        yield* untilEmpty
        yield* TestClock.adjust("10 seconds")
      }
      const chunk = yield* chunkOf("a")
      expect(chunk).toMatchObject({ state: "dead", attempts: 3, death: { reason: "exhausted" } })
      expect(chunk.failures.map(({ attempt, handler, kind }) => [attempt, handler, kind])).toEqual([
        [1, "clinic/note", "failed"],
        [2, "clinic/note", "failed"],
        [3, "clinic/note", "failed"]
      ])
      expect(chunk.failures.map(({ message }) => /at attempt (\d)/.exec(message)?.[1])).toEqual(["1", "2", "3"])
      expect(chunk.death?.message).toContain("it fails at attempt 3")
    }).pipe(Effect.provide(application({ maxAttempts: 7 }, registry({ maxAttempts: 3 })))))

  it.effect("a bug is charged, with its stack", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "throws", times: 1 }), note("b"))
      expect(yield* untilEmpty).toMatchObject({ persisted: 1, retried: 1 })
      const [failure] = (yield* chunkOf("a")).failures
      expect(failure).toMatchObject({ kind: "defect", message: expect.stringContaining("a bug") })
      expect(failure?.message).toContain("clinic.ts")
    }).pipe(Effect.provide(application())))

  it.effect("a run that hangs is timed out, and delays no other chunk beyond its timeout", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "hangs", times: 1 }), note("b"))
      const fiber = yield* Effect.forkChild(untilEmpty)
      yield* TestClock.adjust("2 minutes")
      expect(yield* Fiber.join(fiber)).toMatchObject({ persisted: 1, retried: 1 })
      expect(yield* chunkOf("a")).toMatchObject({
        attempts: 1,
        failures: [{ kind: "timeout", message: expect.stringContaining("did not finish within 20s") }]
      })
      yield* TestClock.adjust("10 seconds")
      expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
    }).pipe(Effect.provide(application({ handlerTimeout: Duration.seconds(20) }))))

  it.effect("a run that hangs beside many chunks of an ordering key delays the batch by its timeout, once", () =>
    Effect.gen(function*() {
      const line = Array.from({ length: 60 }, (_, n) => `knee-${n}`)
      yield* record(
        note("hangs", { trouble: "hangs" }),
        ...line.map((id) => note(id, {}, { orderingKey: "knee" })),
        note("free")
      )
      const fiber = yield* Effect.forkChild(untilEmpty)
      yield* TestClock.adjust(9_999)
      expect(yield* written).toEqual([])
      yield* TestClock.adjust(1)
      const order = (yield* written).map((row) => row.callId)
      expect(order.filter((id) => id !== "free")).toEqual(line)
      expect(order).toContain("free")
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(fiber)).toMatchObject({ persisted: 61, retried: 1 })
    }).pipe(Effect.provide(application({ handlerTimeout: Duration.seconds(10) }))))

  it.effect("how long a handler may run is its own to say", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "hangs" }))
      const fiber = yield* Effect.forkChild(cycle)
      yield* TestClock.adjust("2 seconds")
      expect((yield* chunkOf("a")).state).toBe("in-flight")
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(fiber)).toMatchObject({ retried: 1 })
      expect((yield* chunkOf("a")).failures[0]?.message).toContain("did not finish within 3s")
    }).pipe(Effect.provide(application({}, registry({ timeout: "3 seconds" })))))
})

describe("what cannot help to try again", () => {
  it.effect("is buried at once: rejected, permanent, a missing context", () =>
    Effect.gen(function*() {
      yield* record(
        note("rejects", { trouble: "rejects" }),
        note("permanent", { trouble: "fails" }),
        note("context", { trouble: "no-context" }),
        note("mate")
      )
      expect(yield* untilEmpty).toMatchObject({ persisted: 1, dead: 3 })
      const deaths = yield* Effect.forEach(["rejects", "permanent", "context"], chunkOf)
      expect(deaths.map((chunk) => [chunk.attempts, chunk.failures.length])).toEqual([[1, 1], [1, 1], [1, 1]])
      expect(deaths.map((chunk) => chunk.death)).toMatchObject([
        { reason: "rejected", message: expect.stringContaining("the ward is closed") },
        { reason: "rejected", message: expect.stringContaining("it fails") },
        { reason: "rejected", message: expect.stringContaining("\"ward\" of call context is missing") }
      ])
      expect((yield* written).map((row) => row.callId)).toEqual(["mate"])
    }).pipe(Effect.provide(application({}, registry({ permanent: (error) => String(error).includes("it fails") })))))

  it.effect("is buried at once also when a bundled handler rejects with its own copy of the class", () => {
    class HandlerRejected extends Data.TaggedError("HandlerRejected")<{ readonly reason: string }> {}
    const bundled = plugin({ persist: () => Effect.fail(new HandlerRejected({ reason: "the ward is closed" })) })
    return Effect.gen(function*() {
      yield* record(note("a"))
      expect(yield* untilEmpty).toMatchObject({ dead: 1 })
      expect(yield* chunkOf("a")).toMatchObject({ attempts: 1, death: { reason: "rejected" } })
    }).pipe(Effect.provide(application({}, bundled)))
  })

  it.effect("what does not decode is buried at once, in the schema's words; no handler ran", () =>
    Effect.gen(function*() {
      yield* record(note("a", { text: 7 }), note("b"))
      expect(yield* untilEmpty).toMatchObject({ persisted: 1, dead: 1 })
      expect(yield* chunkOf("a")).toMatchObject({
        attempts: 0,
        death: { reason: "undecodable", message: expect.stringMatching(/Expected string[^]*text/) }
      })
    }).pipe(Effect.provide(application())))
})

describe("one that takes its workers down", () => {
  // a worker that dies is one that claims and says nothing more
  const dies = Effect.fnUntraced(function*(request: Partial<ClaimRequest> = {}) {
    const store = yield* ChunkStore.ChunkStore
    const lease = Duration.minutes(1)
    const { chunks, token } = yield* store.claim({ worker: "w", limit: 10, maxBytes: 1e9, lease, ...request })
    yield* store.renew(token, chunks, lease, chunks.length === 1)
    yield* TestClock.adjust("61 seconds")
    return chunks.map((chunk) => chunk.key.callId)
  })

  it.effect("is found alone, and buried; its mates pass at once", () =>
    Effect.gen(function*() {
      const drain = yield* Drain.Drain
      yield* record(note("killer"), note("mate"))
      expect(yield* dies()).toEqual(["killer", "mate"])
      yield* dies({ callId: "killer" })
      expect(yield* drain.persistNow("mate")).toHaveLength(1)
      yield* dies({ callId: "killer" })
      yield* dies({ callId: "killer" })
      expect(yield* drain.cycle).toMatchObject({ claimed: 1, dead: 1 })
      expect(yield* chunkOf("killer")).toMatchObject({
        state: "dead",
        attempts: 0,
        crashes: 4,
        death: { reason: "crashing", message: expect.stringContaining("3 workers died") }
      })
      expect(yield* chunkOf("mate")).toMatchObject({ state: "persisted", attempts: 0, failures: [] })
    }).pipe(Effect.provide(application())))

  for (const maxCrashes of [1, 2, 5]) {
    it.effect(`is buried after ${maxCrashes} alone, as SLUICE_MAX_CRASHES says`, () =>
      Effect.gen(function*() {
        yield* record(note("killer"))
        for (let crash = 1; crash <= maxCrashes; crash++) {
          expect((yield* chunkOf("killer")).state).toBe("ready")
          expect(yield* dies()).toEqual(["killer"])
        }
        expect(yield* cycle).toMatchObject({ claimed: 1, dead: 1 })
        expect((yield* chunkOf("killer")).death?.reason).toBe("crashing")
      }).pipe(Effect.provide(application({ maxCrashes }))))
  }

  it.effect("the deaths of ten workers while they hold a batch bury no chunk and cost no attempt", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const ids = Array.from({ length: 5 }, (_, n) => `call-${n}`)
      yield* record(...ids.map((id) => note(id)))
      const lease = Duration.minutes(1)
      for (let crash = 0; crash < 10; crash++) {
        // not alone: the worker had another batch under way
        yield* store.claim({ worker: "w", limit: 10, maxBytes: 1e9, lease })
        yield* TestClock.adjust("61 seconds")
      }
      expect(yield* untilEmpty).toMatchObject({ claimed: 5, persisted: 5, dead: 0 })
      for (const id of ids) expect(yield* chunkOf(id)).toMatchObject({ attempts: 0, failures: [] })
    }).pipe(Effect.provide(application())))
})
