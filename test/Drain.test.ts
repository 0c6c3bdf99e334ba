/**
 * One cycle and what follows from it: who is charged, who is not, and what a person is told.
 */
import { it } from "@effect/vitest"
import { CallRecorder, ChunkStore, Drain, HandlerPlugin, HandlerRegistry, Settings } from "effect-sluice"
import { type ClaimRequest, StoreError } from "effect-sluice/ChunkStore"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { application, keyOf, Note, note, noteHandler, record, registry, written } from "./support/clinic.ts"

const cycle = Effect.flatMap(Drain, (drain) => drain.cycle)
const untilEmpty = Effect.flatMap(Drain, (drain) => drain.untilEmpty)
const persistNow = (callId: string) => Effect.flatMap(Drain, (drain) => drain.persistNow(callId))
const chunkOf = (callId: string) =>
  ChunkStore.use((store) => Effect.map(store.call(callId), (view) => Option.getOrThrow(view).chunks[0]!))

/** Counts the transactions handlers run in. */
const counting = (seen: { transactions: number; sizes: Array<number> }) =>
  Layer.effect(
    ChunkStore,
    Effect.map(ChunkStore, (store) =>
      ({
        ...store,
        persist: (token, work) => {
          seen.transactions++
          return store.persist(
            token,
            (transaction) => Effect.tap(work(transaction), (lines) => Effect.sync(() => seen.sizes.push(lines.length)))
          )
        }
      }) satisfies ChunkStore["Service"])
  )

describe("a cycle", () => {
  it.effect("reports what became of each chunk", () =>
    Effect.gen(function*() {
      yield* record(
        note("persisted"),
        note("nothing", { trouble: "nothing", early: true }),
        note("failed", { trouble: "fails" }),
        note("rejected", { trouble: "rejects" }),
        note("undecodable", { text: 7 }),
        note("parked", {}, {
          outputs: [{ schema: "schemas.clinic.ward.unknown", version: 1, data: 1 }]
        })
      )
      expect(yield* cycle).toEqual({
        claimed: 6,
        persisted: 1,
        nothingToCreate: 1,
        alreadyPersisted: 0,
        failed: 1,
        parked: 1,
        dead: 2,
        released: 0
      })
      expect((yield* written).map((row) => row.callId)).toEqual(["persisted"])
    }).pipe(Effect.provide(application())))

  it.effect("a handler may create many, one or none", () =>
    Effect.gen(function*() {
      yield* record(note("none", { rows: 0 }), note("one"), note("many", { rows: 3 }))
      yield* untilEmpty
      const store = yield* ChunkStore
      const entries = yield* store.ledger(["none", "one", "many"].map(keyOf))
      expect(entries.map((entry) => entry.objects.length).sort()).toEqual([0, 1, 3])
    }).pipe(Effect.provide(application())))

  it.effect("the handlers of one kind share a transaction", () => {
    const seen = { transactions: 0, sizes: [] as Array<number> }
    return Effect.gen(function*() {
      yield* record(...Array.from({ length: 50 }, (_, n) => note(`call-${n}`)))
      yield* cycle.pipe(Effect.provide(drainOver(seen)))
      expect(seen).toEqual({ transactions: 1, sizes: [50] })
    }).pipe(Effect.provide(application()))
  })

  it.effect("an older version is brought up to date; one from the future waits for its program", () =>
    Effect.gen(function*() {
      const at = (version: number) => ({
        outputs: [{ schema: Note.identity, version, data: version === 1 ? "an old note" : { text: "from the future" } }]
      })
      yield* record(note("old", {}, at(1)), note("future", {}, at(3)))
      yield* untilEmpty
      expect(yield* written).toMatchObject([{ callId: "old", text: "an old note" }])
      expect(yield* chunkOf("future")).toMatchObject({
        state: "dead",
        attempts: 0,
        death: { reason: "unknown-version", message: expect.stringContaining("deploy the newer program") }
      })
    }).pipe(Effect.provide(application())))
})

/** A drain over a store whose transactions are counted. */
const drainOver = (seen: { transactions: number; sizes: Array<number> }) =>
  Layer.fresh(Drain.layer).pipe(Layer.provide(Layer.fresh(counting(seen))))

describe("failures", () => {
  for (const early of [true, false]) {
    it.effect(`k culprits in n cost O(k log n) transactions, and mates nothing (failing ${early ? "before" : "after"} a write)`, () => {
      const seen = { transactions: 0, sizes: [] as Array<number> }
      return Effect.gen(function*() {
        const total = 128
        const bad = [3, 64, 127]
        yield* record(...Array.from(
          { length: total },
          (_, n) => note(`call-${n}`, bad.includes(n) ? { trouble: "fails", early } : {})
        ))
        const report = yield* cycle.pipe(Effect.provide(drainOver(seen)))
        expect(report).toMatchObject({ claimed: total, persisted: total - bad.length, failed: bad.length })
        // all at once; then the innocent, and the culprits apart: 2 k log2 n at most
        expect(seen.transactions).toBeLessThanOrEqual(2 * bad.length * Math.log2(total))
        expect((yield* written).length).toBe(total - bad.length)
        for (let n = 0; n < total; n++) {
          const chunk = yield* chunkOf(`call-${n}`)
          expect([chunk.attempts, chunk.failures.length]).toEqual(bad.includes(n) ? [1, 1] : [0, 0])
        }
      }).pipe(Effect.provide(application({ batchSize: 128 })))
    })
  }

  it.effect("one that failed before runs alone", () => {
    const seen = { transactions: 0, sizes: [] as Array<number> }
    return Effect.gen(function*() {
      yield* record(note("bad", { trouble: "fails", times: 1 }))
      yield* cycle
      yield* TestClock.adjust("10 seconds")
      yield* record(note("a"), note("b"))
      yield* cycle.pipe(Effect.provide(drainOver(seen)))
      expect(seen.sizes.sort()).toEqual([1, 2])
    }).pipe(Effect.provide(application()))
  })

  it.effect("backoff is the handler's schedule, replayed over the attempts that are on record", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails" }))
      for (const [attempt, delay] of [[1, 1], [2, 2], [3, 4]] as const) {
        expect(yield* untilEmpty).toMatchObject({ claimed: 1, failed: 1 })
        expect((yield* chunkOf("a")).attempts).toBe(attempt)
        yield* TestClock.adjust(delay * 60_000 - 1)
        expect(yield* cycle).toMatchObject({ claimed: 0 })
        yield* TestClock.adjust(1)
      }
    }).pipe(Effect.provide(application({}, registry({ retry: Schedule.exponential("1 minute") })))))

  it.effect("as many attempts as the handler says, then it is dead, with its history", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails" }))
      for (let attempt = 1; attempt <= 3; attempt++) {
        yield* untilEmpty
        yield* TestClock.adjust("10 seconds")
      }
      const chunk = yield* chunkOf("a")
      expect(chunk).toMatchObject({ state: "dead", attempts: 3, death: { reason: "exhausted" } })
      expect(chunk.failures.map(({ attempt, kind }) => [attempt, kind])).toEqual([[1, "failed"], [2, "failed"], [
        3,
        "failed"
      ]])
      expect(chunk.failures[2]?.message).toContain("it fails at attempt 3")
    }).pipe(Effect.provide(application({}, registry({ maxAttempts: 3 })))))

  it.effect("a bug is charged, with its stack", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "throws", times: 1 }), note("b"))
      expect(yield* untilEmpty).toMatchObject({ persisted: 1, failed: 1 })
      const [failure] = (yield* chunkOf("a")).failures
      expect(failure).toMatchObject({ kind: "defect", message: expect.stringContaining("a bug") })
      expect(failure?.message).toContain("clinic.ts")
    }).pipe(Effect.provide(application())))

  it.effect("one that hangs is timed out, and holds up nobody for longer than that", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "hangs", times: 1 }), note("b"))
      const fiber = yield* Effect.forkChild(untilEmpty)
      yield* TestClock.adjust("2 minutes")
      expect(yield* Fiber.join(fiber)).toMatchObject({ persisted: 1, failed: 1 })
      expect(yield* chunkOf("a")).toMatchObject({ attempts: 1, failures: [{ kind: "timeout" }] })
      yield* TestClock.adjust("10 seconds")
      expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
    }).pipe(Effect.provide(application({ handlerTimeout: Duration.seconds(20) }))))

  it.effect("what cannot help to try again is buried at once: rejected, permanent, a missing context", () =>
    Effect.gen(function*() {
      yield* record(
        note("rejects", { trouble: "rejects" }),
        note("permanent", { trouble: "fails" }),
        note("context", { trouble: "no-context" })
      )
      expect(yield* untilEmpty).toMatchObject({ dead: 3 })
      expect(yield* chunkOf("rejects")).toMatchObject({
        death: { reason: "rejected", message: expect.stringContaining("closed") }
      })
      expect(yield* chunkOf("context")).toMatchObject({
        death: { message: expect.stringContaining("\"ward\" of call context is missing") }
      })
    }).pipe(Effect.provide(application({}, registry({ permanent: () => true })))))

  it.effect("what does not decode is buried at once, in the schema's words", () =>
    Effect.gen(function*() {
      yield* record(note("a", { text: 7 }))
      expect(yield* untilEmpty).toMatchObject({ dead: 1 })
      expect(yield* chunkOf("a")).toMatchObject({
        attempts: 0,
        death: { reason: "undecodable", message: expect.stringMatching(/Expected string[^]*text/) }
      })
    }).pipe(Effect.provide(application())))

  it.effect("given up in the middle, everything comes back at no cost", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "hangs" }), note("b"))
      const fiber = yield* Effect.forkChild(cycle)
      yield* TestClock.adjust("1 second")
      expect((yield* chunkOf("b")).state).toBe("in-flight")
      yield* Fiber.interrupt(fiber)
      for (const id of ["a", "b"]) {
        expect(yield* chunkOf(id)).toMatchObject({ state: "pending", attempts: 0, crashes: 0, failures: [] })
      }
      expect(yield* written).toEqual([])
    }).pipe(Effect.provide(application())))

  it.effect("one that takes its workers down is found alone, and buried; its mates pass at once", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore
      const drain = yield* Drain
      yield* record(note("killer"), note("mate"))
      // a worker that dies is one that claims and says nothing more
      const dies = Effect.fnUntraced(function*(request: Partial<ClaimRequest>) {
        const lease = Duration.minutes(1)
        const { chunks, token } = yield* store.claim({ worker: "w", limit: 10, maxBytes: 1e9, lease, ...request })
        yield* store.renew(token, chunks, lease, chunks.length === 1)
        yield* TestClock.adjust("61 seconds")
      })
      yield* dies({})
      yield* dies({ callId: "killer" })
      expect(yield* drain.persistNow("mate")).toHaveLength(1)
      yield* dies({ callId: "killer" })
      yield* dies({ callId: "killer" })
      expect(yield* drain.cycle).toMatchObject({ claimed: 1, dead: 1 })
      expect(yield* chunkOf("killer")).toMatchObject({
        state: "dead",
        attempts: 0,
        crashes: 4,
        death: { reason: "crashing" }
      })
      expect((yield* chunkOf("mate")).attempts).toBe(0)
    }).pipe(Effect.provide(application())))

  it.effect("while the database is away nobody is charged, and the cycle goes on when it is back", () => {
    let away = 3
    const flaky = Layer.effect(
      ChunkStore,
      Effect.map(ChunkStore, (store) =>
        ({
          ...store,
          persist: (token, work) =>
            away-- > 0
              ? Effect.fail(
                new StoreError({ operation: "persist", transient: true, reason: "the server is restarting" })
              )
              : store.persist(token, work)
        }) satisfies ChunkStore["Service"])
    )
    return Effect.gen(function*() {
      yield* record(note("a"))
      const fiber = yield* Effect.forkChild(
        Effect.provide(cycle, Layer.fresh(Drain.layer).pipe(Layer.provide(Layer.fresh(flaky))))
      )
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(fiber)).toMatchObject({ persisted: 1, failed: 0 })
      expect((yield* chunkOf("a")).failures).toEqual([])
    }).pipe(Effect.provide(application()))
  })
})

describe("old and new workers side by side", () => {
  const Other = HandlerPlugin.layer("core", Note, noteHandler())

  it.effect("what the old one does not serve is parked, and the new one takes it up; neither burns attempts", () =>
    Effect.gen(function*() {
      const none = HandlerRegistry.layer()
      const oldDrain = yield* Layer.build(Layer.fresh(Drain.layer).pipe(Layer.provide(none)))
      yield* record(note("a"))
      expect(yield* Effect.provide(cycle, oldDrain)).toMatchObject({ parked: 1 })
      const newDrain = yield* Layer.build(
        Layer.fresh(Drain.layer).pipe(Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(Other))))
      )
      for (let tick = 0; tick < 5; tick++) {
        yield* TestClock.adjust("6 seconds")
        expect((yield* Effect.provide(cycle, oldDrain)).claimed).toBe(0)
      }
      expect(yield* Effect.provide(cycle, newDrain)).toMatchObject({ persisted: 1 })
      // at its next beat the old one learns what is served elsewhere, and leaves it alone from then on
      yield* TestClock.adjust("6 seconds")
      yield* record(note("b"))
      expect(yield* Effect.provide(cycle, oldDrain)).toMatchObject({ claimed: 0 })
      expect(yield* Effect.provide(cycle, newDrain)).toMatchObject({ persisted: 1 })
      expect((yield* chunkOf("a")).failures).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(application({}, HandlerRegistry.layer()))))
})

describe("persistNow", () => {
  it.effect("gives back the domain objects, also when they were created before", () =>
    Effect.gen(function*() {
      yield* record(note("a", { rows: 2 }))
      const objects = yield* persistNow("a")
      expect(objects.map((object) => object.type)).toEqual(["clinic.Note", "clinic.Note"])
      expect(yield* persistNow("a")).toEqual(objects)
    }).pipe(Effect.provide(application())))

  it.effect("claims like any worker: two at once, and the chunk is persisted once", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      const [one, two] = yield* Effect.all([
        persistNow("a"),
        Effect.delay(persistNow("a"), 1),
        TestClock.adjust("1 second")
      ], { concurrency: "unbounded" })
      expect(one).toEqual(two)
      expect(yield* written).toHaveLength(1)
    }).pipe(Effect.provide(application())))

  const errors = [
    ["CallNotFound", "nobody", {}],
    ["HandlerFailed", "fails", { trouble: "fails" }],
    ["ChunkDead", "rejects", { trouble: "rejects" }],
    ["ChunkDead", "undecodable", { text: 1 }]
  ] as const
  for (const [tag, callId, data] of errors) {
    it.effect(`says ${tag} of a call that is ${callId}`, () =>
      Effect.gen(function*() {
        if (tag !== "CallNotFound") yield* record(note(callId, data))
        const error = yield* Effect.flip(persistNow(callId))
        expect(error._tag).toBe(tag)
        expect(error.message).toContain(callId)
      }).pipe(Effect.provide(application())))
  }

  it.effect("says HandlerNotFound, and what handlers there are", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      const error = yield* Effect.flip(persistNow("a"))
      expect(error).toMatchObject({ _tag: "HandlerNotFound", namespace: "clinic", schemaIdentity: Note.identity })
    }).pipe(Effect.provide(application({}, HandlerRegistry.layer()))))

  it.effect("says RetriesExhausted once it is", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails" }))
      const error = yield* Effect.flip(persistNow("a"))
      expect(error).toMatchObject({
        _tag: "RetriesExhausted",
        attempts: 1,
        reason: expect.stringContaining("it fails")
      })
    }).pipe(Effect.provide(application({ maxAttempts: 1 }))))

  it.effect("says ChunkBusy of one that waits for its next attempt", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails" }))
      yield* cycle
      expect(yield* Effect.flip(persistNow("a"))).toMatchObject({ _tag: "ChunkBusy", state: "scheduled" })
    }).pipe(Effect.provide(application())))
})

describe("settings", () => {
  it.effect("of the environment hold, and a wrong one is named", () =>
    Effect.gen(function*() {
      const wrong = [
        ["SLUICE_BATCH_SIZE", "0"],
        ["SLUICE_BATCH_SIZE", "many"],
        ["SLUICE_MAX_ATTEMPTS", "-1"],
        ["SLUICE_LEASE", "soon"],
        ["SLUICE_LEASE", "0 seconds"],
        ["SLUICE_SCHEMA", "not a name"],
        ["SLUICE_DEAD_BLOCKS_KEY", "perhaps"]
      ] as const
      for (const [name, value] of wrong) {
        const provider = ConfigProvider.layer(ConfigProvider.fromEnv({ env: { [name]: value } }))
        const error = yield* Effect.flip(Effect.provide(Settings.load, provider))
        expect(error).toMatchObject({ _tag: "SettingInvalid", setting: name })
        expect(error.message).toContain(name)
      }
      const good = ConfigProvider.layer(
        ConfigProvider.fromEnv({ env: { SLUICE_BATCH_SIZE: "7", SLUICE_LEASE: "5 minutes" } })
      )
      expect(yield* Effect.provide(Settings.load, good)).toMatchObject({
        batchSize: 7,
        lease: Duration.minutes(5),
        maxAttempts: 10
      })
      expect((yield* CallRecorder).record).toBeDefined()
    }).pipe(Effect.provide(application())))
})
