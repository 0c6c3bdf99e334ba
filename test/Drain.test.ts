/**
 * One cycle and what follows from it: what becomes of each chunk, what handlers are given, and who waits for whom.
 * What is given back is in `Drain.leases.test.ts`, what becomes of those that fail in `Drain.failures.test.ts`.
 */
import { it } from "@effect/vitest"
import { ChunkLedger, ChunkStore, Drain, HandlerPlugin, HandlerRegistry } from "effect-sluice"
import * as DomainObject from "effect-sluice/DomainObject"
import type { Definition, HandlerInput } from "effect-sluice/Handler"
import type { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { application, keyOf, Note, note, noteHandler, record, written } from "./support/clinic.ts"
import { chunkOf, counting, cycle, drainWith, untilEmpty } from "./support/drain.ts"
import * as inspect from "./support/inspect.ts"

type Input = HandlerInput<typeof Note.schema.Type>
const plugin = (definition: Definition<typeof Note.schema.Type, MemoryDatabase>, namespace = "clinic") =>
  HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer(namespace, Note, definition)))

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
        retried: 1,
        parked: 1,
        dead: 2,
        released: 0,
        lost: 0
      })
      expect((yield* written).map((row) => row.callId)).toEqual(["persisted"])
    }).pipe(Effect.provide(application())))

  it.effect("finds that another persisted one while its handler ran: its rows are rolled back, its mate comes again", () =>
    Effect.gen(function*() {
      yield* record(note("a"), note("b"))
      const outside = yield* Effect.context<ChunkLedger.ChunkLedger>()
      let meanwhile = 0
      const drain = drainWith((store) => ({
        persist: (token, work) =>
          store.persist(token, (transaction) =>
            Effect.tap(work(transaction), () => {
              if (meanwhile++ > 0) return Effect.void
              // as a program of the application's own does it, outside of this transaction
              const once = ChunkLedger.ChunkLedger.use((ledger) =>
                ledger.once(keyOf("a"), { namespace: "clinic" }, Effect.succeed([DomainObject.make("own", 1)]))
              )
              return Effect.orDie(Fiber.join(Effect.runForkWith(outside)(once)))
            }))
      }))
      expect(yield* Effect.provide(cycle, drain)).toMatchObject({
        claimed: 2,
        persisted: 1,
        retried: 0,
        alreadyPersisted: 1
      })
      expect(yield* cycle).toMatchObject({ claimed: 0 })
      expect((yield* written).map((row) => row.callId)).toEqual(["b"])
      expect((yield* chunkOf("a")).ledger?.objects).toEqual([{ type: "own", id: "1" }])
    }).pipe(Effect.provide(application())))

  it.effect("does not charge a chunk that failed while another process persisted it", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails", early: true }), note("b"))
      const outside = yield* Effect.context<ChunkLedger.ChunkLedger>()
      const drain = drainWith((store) => ({
        persist: (token, work) =>
          Effect.tap(store.persist(token, work), () => {
            // when the batch has committed without it, before it is charged
            const once = ChunkLedger.ChunkLedger.use((ledger) =>
              ledger.once(keyOf("a"), { namespace: "clinic" }, Effect.succeed([]))
            )
            return Effect.orDie(Fiber.join(Effect.runForkWith(outside)(once)))
          })
      }))
      expect(yield* Effect.provide(cycle, drain)).toMatchObject({ claimed: 2, persisted: 1, retried: 0, released: 0 })
      expect(yield* chunkOf("a")).toMatchObject({ failures: [], ledger: { handler: expect.any(String) } })
    }).pipe(Effect.provide(application())))

  it.effect("a claim runs nothing by itself, and what is not run is given back when its scope closes", () =>
    Effect.gen(function*() {
      yield* record(note("a"), note("b"))
      const { claim } = yield* Drain.Drain
      yield* Effect.scoped(Effect.gen(function*() {
        const { chunks } = yield* claim()
        expect(chunks.map((chunk) => chunk.key.callId)).toEqual(["a", "b"])
        expect((yield* chunkOf("a")).state).toBe("in-flight")
      }))
      expect(yield* written).toEqual([])
      expect((yield* chunkOf("a")).state).toBe("ready")
      const report = yield* Effect.scoped(Effect.flatMap(claim(), ({ run }) => run))
      expect(report).toMatchObject({ claimed: 2, persisted: 2 })
    }).pipe(Effect.provide(application())))

  it.effect("until empty: all that is due, nothing that waits", () =>
    Effect.gen(function*() {
      const soon = DateTime.add(yield* DateTime.now, { minutes: 1 })
      yield* record(
        ...Array.from({ length: 25 }, (_, n) => note(`call-${n}`)),
        note("later", {}, { notBefore: soon }),
        note("again", { trouble: "fails", times: 1 })
      )
      expect(yield* untilEmpty).toMatchObject({ claimed: 26, persisted: 25, retried: 1 })
      expect(yield* untilEmpty).toMatchObject({ claimed: 0 })
      yield* TestClock.adjust("1 minute")
      expect(yield* untilEmpty).toMatchObject({ claimed: 2, persisted: 2 })
    }).pipe(Effect.provide(application({ batchSize: 10 }))))
})

describe("handlers", () => {
  it.effect("may create many, one or none", () =>
    Effect.gen(function*() {
      yield* record(note("none", { rows: 0 }), note("one"), note("many", { rows: 3 }))
      yield* untilEmpty
      const store = yield* ChunkStore.ChunkStore
      const entries = yield* store.ledger(["none", "one", "many"].map(keyOf))
      expect(entries.map((entry) => [entry.key.callId, entry.objects.length]).sort()).toEqual([
        ["many", 3],
        ["none", 0],
        ["one", 1]
      ])
    }).pipe(Effect.provide(application())))

  it.effect("of one kind share a transaction; of each kind there is one", () => {
    const seen = { transactions: 0, sizes: [] as Array<number> }
    const handlers = HandlerRegistry.layer().pipe(
      Layer.provide(HandlerPlugin.layer("clinic", Note, noteHandler())),
      Layer.provide(HandlerPlugin.layer("triage", Note, noteHandler()))
    )
    return Effect.gen(function*() {
      yield* record(
        ...Array.from({ length: 50 }, (_, n) => note(`call-${n}`, {}, n % 5 === 0 ? { namespace: "triage" } : {}))
      )
      yield* Effect.provide(cycle, drainWith(counting(seen)))
      expect(seen).toEqual({ transactions: 2, sizes: [40, 10] })
    }).pipe(Effect.provide(application({}, handlers)))
  })

  it.effect("that ask for the batch itself are given it, and give back what belongs to each", () => {
    const batches: Array<ReadonlyArray<string>> = []
    const many = plugin({
      version: 3,
      persistMany: (inputs: ReadonlyArray<Input>) => {
        batches.push(inputs.map(({ call }) => call.callId))
        return Effect.succeed(
          inputs.map(({ call, output }) =>
            Array.from({ length: output.rows }, (_, n) => DomainObject.make("clinic.Note", `${call.callId}-${n}`))
          )
        )
      }
    })
    return Effect.gen(function*() {
      yield* record(note("a", { rows: 2 }), note("b", { rows: 0 }), note("c"))
      expect(yield* cycle).toMatchObject({ persisted: 2, nothingToCreate: 1 })
      expect(batches).toEqual([["a", "b", "c"]])
      expect((yield* chunkOf("a")).ledger).toMatchObject({
        handlerVersion: 3,
        objects: [{ type: "clinic.Note", id: "a-0" }, { id: "a-1" }]
      })
      expect((yield* chunkOf("c")).ledger?.objects).toEqual([{ type: "clinic.Note", id: "c-0" }])
    }).pipe(Effect.provide(application({}, many)))
  })

  it.effect("are told of their call, and of the attempt", () => {
    const told: Array<unknown> = []
    const telling = plugin(
      Effect.fnUntraced(function*({ call, output }: Input) {
        const bed = yield* call.context("bed")
        const visit = yield* call.contextAs("visit", Schema.Struct({ at: Schema.DateTimeUtcFromString }))
        told.push([
          output.text,
          bed,
          DateTime.formatIso(visit.at),
          call.correlationId,
          call.part,
          call.orderingKey,
          call.input
        ])
        told.push([
          call.attempt,
          call.idempotencyKey,
          call.namespace,
          call.service,
          DateTime.formatIso(call.finishedAt)
        ])
        if (call.attempt === 1) return yield* Effect.fail("once")
      }),
      "core"
    )
    return Effect.gen(function*() {
      yield* record(note("a", {}, {
        context: { bed: "7", visit: { at: "2026-01-01T08:00:00Z" } },
        correlationId: "thread",
        orderingKey: "knee",
        input: ["Does it hurt?"],
        finishedAt: DateTime.makeUnsafe("2026-01-01T09:00:00Z"),
        outputs: [{ schema: Note.identity, version: 2, part: "second", data: { text: "It hurts." } }]
      }))
      yield* cycle
      yield* TestClock.adjust("1 hour")
      yield* cycle
      const key = "a schemas.clinic.ward.note#second"
      const service = "services.clinic.ward.take-notes"
      const first = ["It hurts.", "7", "2026-01-01T08:00:00.000Z", "thread", "second", "knee", ["Does it hurt?"]]
      expect(told).toEqual([
        first,
        [1, key, "clinic", service, "2026-01-01T09:00:00.000Z"],
        first,
        [2, key, "clinic", service, "2026-01-01T09:00:00.000Z"]
      ])
    }).pipe(Effect.provide(application({}, telling)))
  })

  it.effect("are given an older version brought up to date; one from the future waits for its program", () =>
    Effect.gen(function*() {
      const at = (version: number) => ({
        outputs: [{ schema: Note.identity, version, data: version === 1 ? "an old note" : { text: "from the future" } }]
      })
      yield* record(note("old", {}, at(1)), note("future", {}, at(3)))
      yield* untilEmpty
      expect(yield* written).toMatchObject([{ callId: "old", text: "an old note" }])
      expect(yield* chunkOf("future")).toMatchObject({
        state: "parked",
        attempts: 0,
        parkedFor: "newer-version"
      })
    }).pipe(Effect.provide(application())))
})

describe("order", () => {
  it.effect("a key's chunks are persisted one after the other, over retries, by any number of workers", () =>
    Effect.gen(function*() {
      const ids = Array.from({ length: 30 }, (_, n) => `call-${n}`)
      const keyed = (n: number) => ["knee", "hip", "none"][n % 3]!
      yield* record(...ids.map((id, n) =>
        note(
          id,
          n % 7 === 3 ? { trouble: "fails", times: 2 } : {},
          keyed(n) === "none" ? {} : { orderingKey: keyed(n) }
        )
      ))
      const drains = yield* Effect.forEach([1, 2, 3], () => Layer.build(drainWith()))
      for (let round = 0; round < 40; round++) {
        yield* Effect.forEach(drains, (drain) => Effect.provide(cycle, drain), { concurrency: "unbounded" })
        yield* TestClock.adjust("5 seconds")
      }
      const order = (yield* written).map((row) => row.callId)
      expect([...order].sort()).toEqual([...ids].sort())
      for (const key of ["knee", "hip"]) {
        const own = ids.filter((_, n) => keyed(n) === key)
        expect(order.filter((id) => own.includes(id))).toEqual(own)
      }
    }).pipe(Effect.scoped, Effect.provide(application({ batchSize: 4 }))))

  for (const isolation of ["batch", "together", "transaction"] as const) {
    for (const trouble of ["fails", "rejects", "hangs"] as const) {
      it.effect(`one that ${trouble} holds up none of another namespace with the same key; runs: ${isolation}`, () =>
        Effect.gen(function*() {
          const knee = { orderingKey: "knee" }
          yield* record(
            note("a", { trouble }, knee),
            note("other", {}, { ...knee, namespace: "triage" }),
            note("behind", {}, knee)
          )
          const cycles = yield* Effect.forkChild(cycle)
          yield* TestClock.adjust("10 minutes")
          expect(yield* Fiber.join(cycles)).toMatchObject({ claimed: 3, persisted: 1, released: 1 })
          expect((yield* written).map((row) => row.callId)).toEqual(["other"])
        }).pipe(Effect.provide(application({}, plugin(noteHandler({ isolation }), "core")))))
    }
  }

  it.effect("of keys that share a batch one that fails holds back its own key only, and only what is younger", () =>
    Effect.gen(function*() {
      const knee = { orderingKey: "knee" }
      const hip = { orderingKey: "hip" }
      yield* record(
        note("knee-1", {}, knee),
        note("knee-2", { trouble: "fails", times: 1 }, knee),
        note("hip-1", {}, hip),
        note("knee-3", {}, knee),
        note("hip-2", {}, hip)
      )
      expect(yield* cycle).toMatchObject({ claimed: 5, persisted: 3, retried: 1, released: 1 })
      expect((yield* written).map((row) => row.callId).sort()).toEqual(["hip-1", "hip-2", "knee-1"])
      expect(yield* chunkOf("knee-3")).toMatchObject({ attempts: 0, failures: [] })
      yield* TestClock.adjust("10 seconds")
      yield* untilEmpty
      expect((yield* written).map((row) => row.callId).slice(3)).toEqual(["knee-2", "knee-3"])
    }).pipe(Effect.provide(application())))

  for (const [deadBlocksKey, rest] of [[true, []], [false, ["second"]]] as const) {
    it.effect(`a dead one ${deadBlocksKey ? "blocks its key" : "makes way, by policy"}`, () =>
      Effect.gen(function*() {
        const knee = { orderingKey: "knee" }
        yield* record(note("first", { trouble: "rejects" }, knee), note("second", {}, knee), note("other"))
        yield* untilEmpty
        yield* TestClock.adjust("1 hour")
        yield* untilEmpty
        expect((yield* written).map((row) => row.callId).sort()).toEqual(["other", ...rest])
      }).pipe(Effect.provide(application({ deadBlocksKey }))))
  }
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
      yield* TestClock.adjust("10 seconds")
      yield* record(note("b"))
      expect(yield* Effect.provide(cycle, oldDrain)).toMatchObject({ claimed: 0 })
      expect(yield* Effect.provide(cycle, newDrain)).toMatchObject({ persisted: 1 })
      expect((yield* chunkOf("a")).failures).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(application({}, HandlerRegistry.layer()))))

  it.effect("a parked chunk is shown as parked, and keeps its place in its ordering key", () =>
    Effect.gen(function*() {
      const knee = { orderingKey: "knee" }
      yield* record(
        note("first", {}, { ...knee, namespace: "later" }),
        note("second", {}, { ...knee, namespace: "later" }),
        note("other")
      )
      yield* untilEmpty
      expect(yield* chunkOf("first")).toMatchObject({ state: "parked", attempts: 0, failures: [] })
      expect((yield* written).map((row) => row.callId)).toEqual(["other"])
      expect((yield* inspect.status).find((kind) => kind.namespace === "later")).toMatchObject({
        parked: 2,
        ready: 0
      })
      const both = HandlerRegistry.layer().pipe(
        Layer.provide(HandlerPlugin.layer("clinic", Note, noteHandler())),
        Layer.provide(HandlerPlugin.layer("later", Note, noteHandler()))
      )
      const newer = yield* Layer.build(Layer.fresh(Drain.layer).pipe(Layer.provide(both)))
      yield* Effect.provide(untilEmpty, newer)
      expect((yield* written).map((row) => row.callId)).toEqual(["other", "first", "second"])
    }).pipe(Effect.scoped, Effect.provide(application())))
})

describe("workers side by side", () => {
  it.effect("each chunk is run once, whatever they do", () => {
    const runs = new Map<string, number>()
    const counted = plugin({
      persist: (input: Input) =>
        Effect.suspend(() => {
          runs.set(input.call.callId, (runs.get(input.call.callId) ?? 0) + 1)
          return Effect.delay(noteHandler().persist(input), 10)
        })
    })
    return Effect.gen(function*() {
      const ids = Array.from({ length: 100 }, (_, n) => `call-${n}`)
      yield* record(...ids.map((id) => note(id)))
      const done = yield* Deferred.make<void>()
      const drains = yield* Effect.forEach([1, 2, 3, 4, 5], () => Layer.build(drainWith()))
      const all = Effect.forEach(drains, (drain) => Effect.provide(untilEmpty, drain), { concurrency: "unbounded" })
      const fiber = yield* Effect.forkChild(Effect.ensuring(all, Deferred.succeed(done, undefined)))
      yield* TestClock.adjust("10 seconds")
      const reports = yield* Fiber.join(fiber)
      expect(reports.reduce((sum, report) => sum + report.claimed, 0)).toBe(100)
      expect([...runs.values()].filter((count) => count !== 1)).toEqual([])
      expect(yield* written).toHaveLength(100)
    }).pipe(Effect.scoped, Effect.provide(application({ batchSize: 7 }, counted)))
  })
})
