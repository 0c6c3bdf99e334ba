/**
 * Twenty-five ways the original broke, by their numbers: for each a test that would have caught it. Those that need a
 * killed process are shown with real ones in `test/faults`; the last seven are in `defects.wiring.test.ts`.
 */
import { it } from "@effect/vitest"
import {
  CallRecorder,
  ChunkLedger,
  ChunkStore,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry
} from "effect-sluice"
import { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import { globSync, readFileSync } from "node:fs"
import path from "node:path"
import { describe, expect } from "vitest"
import { application, keyOf, Note, note, noteHandler, record, registry, rows, written } from "../support/clinic.ts"
import { chunkOf, cycle, untilEmpty } from "../support/drain.ts"

const root = path.resolve(import.meta.dirname, "../..")
const claim = ChunkStore.ChunkStore.use((store) =>
  store.claim({ worker: "other", limit: 100, maxBytes: 1e9, lease: Duration.minutes(1) })
)
const lines = (...ids: ReadonlyArray<string>) => ChunkStore.ChunkStore.use((store) => store.ledger(ids.map(keyOf)))

describe("exactly once", () => {
  it.effect("1. write, ledger and settlement are one commit: a crash in between leaves none of them", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const db = yield* MemoryDatabase
      yield* record(note("a"))
      const { token } = yield* claim
      const dies = store.persist(
        token,
        () =>
          Effect.andThen(db.use((access) => access.set(rows, "1", { id: "1", callId: "a", text: "" })), Effect.never)
      )
      const fiber = yield* Effect.forkChild(dies)
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(fiber)
      expect(yield* written).toEqual([])
      yield* TestClock.adjust("2 minutes")
      yield* untilEmpty
      expect(yield* written).toHaveLength(1)
    }).pipe(Effect.provide(application())))

  it.effect("2. what is written is linked: the ledger names the rows", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      yield* untilEmpty
      const [row] = yield* written
      expect(yield* lines("a")).toMatchObject([{ objects: [{ type: "clinic.Note", id: row?.id }] }])
    }).pipe(Effect.provide(application())))

  it.effect("3. a persisted chunk can be read back", () =>
    Effect.gen(function*() {
      const drain = yield* Drain.Drain
      yield* record(note("a"))
      const first = yield* drain.persistNow("a")
      expect(yield* drain.persistNow("a")).toEqual(first)
      const ledger = yield* ChunkLedger.ChunkLedger
      expect(yield* ledger.once(keyOf("a"), { namespace: "clinic" }, Effect.die("again"))).toEqual({
        created: false,
        objects: first
      })
    }).pipe(Effect.provide(application())))

  it.effect("4. a second worker leaves alone what the first is still at, for as long as it takes", () => {
    let runs = 0
    const slow = HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer("clinic", Note, {
      timeout: "1 hour",
      persist: () => Effect.andThen(Effect.sync(() => runs++), Effect.asVoid(Effect.sleep("10 minutes")))
    })))
    return Effect.gen(function*() {
      yield* record(note("a"))
      const first = yield* Effect.forkChild(cycle)
      for (let minute = 1; minute < 10; minute++) {
        yield* TestClock.adjust("1 minute")
        expect(yield* cycle).toMatchObject({ claimed: 0 })
      }
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(first)).toMatchObject({ nothingToCreate: 1 })
      expect(runs).toBe(1)
    }).pipe(Effect.provide(application({}, slow)))
  })

  it.effect("5. a redelivered call is the same call, whatever its correlation id", () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      let asked = 0
      const { outputs, ...spec } = note("a")
      const service = Effect.sync(() => {
        asked++
        return outputs
      })
      yield* recorder.run(spec, service)
      yield* untilEmpty
      yield* recorder.run({ ...spec, correlationId: "another" }, service)
      yield* untilEmpty
      // delivered finished, by whoever delivers
      expect(yield* recorder.record(note("a", {}, { correlationId: "a third" }))).toBe("unchanged")
      yield* untilEmpty
      expect(asked).toBe(1)
      expect(yield* written).toHaveLength(1)
    }).pipe(Effect.provide(application())))

  it.effect("6. a line in the ledger means done: one that was begun and failed has none", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails", times: 1 }))
      yield* cycle
      expect(yield* lines("a")).toEqual([])
      expect(yield* written).toEqual([])
    }).pipe(Effect.provide(application())))

  it.effect("7. a row that the application deletes does not come back", () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      const db = yield* MemoryDatabase
      yield* record(note("a"))
      yield* untilEmpty
      yield* db.use((access) => {
        for (const row of access.values(rows)) access.delete(rows, row.id)
      })
      expect(yield* recorder.record(note("a"))).toBe("unchanged")
      yield* untilEmpty
      expect(yield* written).toEqual([])
      expect(yield* lines("a")).toHaveLength(1)
      // nor is there anything whose deletion would take the ledger's line with it
      const sql = globSync("*.sql", { cwd: path.join(root, "sql") }).map((file) =>
        readFileSync(path.join(root, "sql", file), "utf8")
      )
      expect(sql.length).toBeGreaterThan(0)
      expect(sql.filter((text) => /\breferences\b|\bcascade\b/.test(text))).toEqual([])
    }).pipe(Effect.provide(application())))

  it.effect("8. rows may be named by anything", () =>
    Effect.gen(function*() {
      const ledger = yield* ChunkLedger.ChunkLedger
      const ids = ["7", "018f0000-0000-7000-8000-000000000000", "knie/links"]
      const { objects } = yield* ledger.once(
        keyOf("a"),
        { namespace: "clinic" },
        Effect.succeed(ids.map((id) => DomainObject.make("clinic.Note", id)))
      )
      expect(objects.map(({ id }) => id)).toEqual(ids)
    }).pipe(Effect.provide(application())))

  it.effect("9. a chunk of many rows: all of them or none, and all are named", () =>
    Effect.gen(function*() {
      yield* record(note("a", { rows: 4, trouble: "fails", times: 1 }))
      yield* cycle
      expect(yield* written).toEqual([])
      yield* TestClock.adjust("10 seconds")
      yield* cycle
      expect(yield* written).toHaveLength(4)
      expect((yield* lines("a"))[0]?.objects).toHaveLength(4)
    }).pipe(Effect.provide(application())))
})

describe("lost or hidden work", () => {
  it.effect("10. one that kills its worker ten times costs its mates nothing", () =>
    Effect.gen(function*() {
      const mates = Array.from({ length: 5 }, (_, n) => `mate-${n}`)
      yield* record(note("killer"), ...mates.map((id) => note(id)))
      // the first time all of them are in the dying worker's hands
      expect((yield* claim).chunks).toHaveLength(6)
      yield* TestClock.adjust("61 seconds")
      // from now on each goes alone, and the killer strikes again and again
      for (let crash = 2; crash <= 10; crash++) {
        const { chunks } = yield* claim
        expect(chunks).toHaveLength(1)
        if (chunks[0]?.key.callId !== "killer") throw new Error("the killer is claimed first")
        // in between there are others at work
        yield* untilEmpty
        yield* TestClock.adjust("61 seconds")
      }
      expect((yield* written).map((row) => row.callId).sort()).toEqual(mates)
      for (const id of mates) {
        expect(yield* chunkOf(id)).toMatchObject({ state: "persisted", attempts: 0, failures: [] })
      }
      expect(yield* chunkOf("killer")).toMatchObject({ attempts: 0, crashes: 9 })
    }).pipe(Effect.provide(application())))

  it.effect("11. a typo in a namespace loses nothing: it is parked, and goes on when the handler is there", () =>
    Effect.gen(function*() {
      yield* record(note("a", {}, { namespace: "clinc" }))
      yield* untilEmpty
      expect(yield* chunkOf("a")).toMatchObject({ state: "parked", attempts: 0 })
      const mended = Layer.fresh(Drain.layer).pipe(Layer.provide(registry({}, "clinc")))
      yield* Effect.provide(untilEmpty, mended)
      expect(yield* written).toHaveLength(1)
    }).pipe(Effect.provide(application())))

  it.effect("12. to create nothing is an end of its own", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "nothing", early: true }))
      expect(yield* untilEmpty).toMatchObject({ nothingToCreate: 1, parked: 0 })
      expect(yield* chunkOf("a")).toMatchObject({ state: "nothing-to-create" })
    }).pipe(Effect.provide(application())))

  it.effect("13. what can never decode is not tried ten times", () =>
    Effect.gen(function*() {
      yield* record(note("a", { text: null }))
      expect(yield* untilEmpty).toMatchObject({ claimed: 1, dead: 1 })
      expect(yield* chunkOf("a")).toMatchObject({ attempts: 0, death: { reason: "undecodable" } })
    }).pipe(Effect.provide(application())))

  it.effect("14. an outage of two minutes exhausts nothing", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails" }))
      for (let second = 0; second < 120; second += 10) {
        yield* untilEmpty
        yield* TestClock.adjust("10 seconds")
      }
      expect((yield* chunkOf("a")).attempts).toBeLessThan(6)
      expect((yield* chunkOf("a")).state).not.toBe("dead")
      // the standard policy, not the test's
    }).pipe(Effect.provide(application(
      {},
      HandlerRegistry.layer().pipe(
        Layer.provide(HandlerPlugin.layer("clinic", Note, noteHandler().persist))
      )
    ))))

  it.effect("15. a slow handler and old failures hold up nobody, and a key keeps its order over retries", () =>
    Effect.gen(function*() {
      const knee = { orderingKey: "knee" }
      yield* record(
        note("slow", { trouble: "hangs", times: 1 }),
        note("first", { trouble: "fails", times: 1 }, knee),
        note("second", {}, knee),
        note("other")
      )
      const fiber = yield* Effect.forkChild(cycle)
      // as long as the slow one may take, and not a moment longer
      yield* TestClock.adjust("30 seconds")
      expect((yield* written).map((row) => row.callId)).toEqual(["other"])
      expect(yield* chunkOf("first")).toMatchObject({ state: "scheduled", attempts: 1 })
      // alone it is slow again, and to blame
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.join(fiber)
      expect(yield* chunkOf("slow")).toMatchObject({ state: "scheduled", attempts: 1 })
      yield* TestClock.adjust("10 seconds")
      yield* untilEmpty
      const order = (yield* written).map((row) => row.callId)
      expect(order.filter((id) => id !== "slow")).toEqual(["other", "first", "second"])
      expect(order).toContain("slow")
    }).pipe(Effect.provide(application({ handlerTimeout: Duration.seconds(30) }))))

  it.effect("16. a slow worker's late failure does not overwrite another's success", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(note("a"))
      const { chunks: [chunk], token } = yield* claim
      yield* TestClock.adjust("61 seconds")
      yield* untilEmpty
      const failure = { handler: "clinic/note", kind: "failed", message: "too late" } as const
      expect(yield* store.settle(token, [{ _tag: "Retry", chunk: chunk!, delay: Duration.zero, failure }])).toEqual([])
      expect(yield* chunkOf("a")).toMatchObject({ state: "persisted", failures: [] })
    }).pipe(Effect.provide(application())))

  it.effect("17. an error in an item is the chunk's error: nothing is swallowed", () => {
    // items are rows under their names; a second one of a name is an error
    const items = HandlerPlugin.layer("clinic", Note, {
      maxAttempts: 2,
      retry: Schedule.spaced("1 second"),
      persist: Effect.fnUntraced(function*({ call, output }) {
        const db = yield* MemoryDatabase
        return yield* Effect.forEach(
          output.text.split(" "),
          Effect.fnUntraced(function*(name) {
            const id = `${call.callId} ${name}`
            const taken = yield* db.use((access) => access.get(rows, id) !== undefined)
            if (taken) return yield* Effect.fail(new Error(`two items are called ${name}`))
            yield* db.use((access) => access.set(rows, id, { id, callId: call.callId, text: name }))
            return DomainObject.make("clinic.Item", id)
          })
        )
      })
    })
    return Effect.gen(function*() {
      yield* record(note("a", { text: "age age sex" }), note("b", { text: "age sex" }))
      expect(yield* cycle).toMatchObject({ retried: 1, persisted: 1, nothingToCreate: 0 })
      // of the one neither row nor line, and its history says which item it was; the other is whole
      expect((yield* written).map(({ id }) => id)).toEqual(["b age", "b sex"])
      expect(yield* lines("a")).toEqual([])
      expect(yield* chunkOf("a")).toMatchObject({
        state: "scheduled",
        attempts: 1,
        failures: [{ message: expect.stringContaining("two items are called age") }]
      })
      yield* TestClock.adjust("2 seconds")
      expect(yield* cycle).toMatchObject({ dead: 1 })
      expect(yield* chunkOf("a")).toMatchObject({ state: "dead", ledger: null })
      expect((yield* written).map(({ id }) => id)).toEqual(["b age", "b sex"])
    }).pipe(Effect.provide(application({}, HandlerRegistry.layer().pipe(Layer.provide(items)))))
  })

  it.effect("18. replies of one simulation are persisted one after the other", () =>
    Effect.gen(function*() {
      const ids = Array.from({ length: 20 }, (_, n) => `reply-${n}`)
      yield* record(...ids.map((id) => note(id, {}, { orderingKey: "knee" })))
      yield* Effect.all([untilEmpty, untilEmpty, untilEmpty], { concurrency: "unbounded" })
      yield* untilEmpty
      expect((yield* written).map((row) => row.callId)).toEqual(ids)
    }).pipe(Effect.provide(application({ batchSize: 3 }))))
})
