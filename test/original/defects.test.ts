/**
 * Twenty-five ways the original broke, by their numbers: for each a test that would have caught it. Those that need a
 * killed process are shown with real ones in `test/faults`.
 */
import { it } from "@effect/vitest"
import {
  CallRecorder,
  ChunkLedger,
  ChunkStore,
  DomainEvents,
  DomainObject,
  Drain,
  DrainWorker,
  EventLog,
  HandlerPlugin,
  HandlerRegistry,
  Output
} from "effect-sluice"
import { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { globSync, readFileSync } from "node:fs"
import path from "node:path"
import { describe, expect } from "vitest"
import { application, keyOf, Note, note, noteHandler, record, registry, rows, written } from "../support/clinic.ts"

const cycle = Effect.flatMap(Drain, (drain) => drain.cycle)
const untilEmpty = Effect.flatMap(Drain, (drain) => drain.untilEmpty)
const chunkOf = (callId: string) =>
  ChunkStore.use((store) => Effect.map(store.call(callId), (view) => Option.getOrThrow(view).chunks[0]!))
const claim = ChunkStore.use((store) =>
  store.claim({ worker: "other", limit: 100, maxBytes: 1e9, lease: Duration.minutes(1) })
)
const lines = (...ids: ReadonlyArray<string>) => ChunkStore.use((store) => store.ledger(ids.map(keyOf)))

describe("exactly once", () => {
  it.effect("1. write, ledger and settlement are one commit: a crash in between leaves none of them", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore
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
      const drain = yield* Drain
      yield* record(note("a"))
      const first = yield* drain.persistNow("a")
      expect(yield* drain.persistNow("a")).toEqual(first)
      const ledger = yield* ChunkLedger
      expect(yield* ledger.once(keyOf("a"), { namespace: "clinic" }, Effect.die("again"))).toEqual({
        created: false,
        objects: first
      })
    }).pipe(Effect.provide(application())))

  it.effect("4. a second worker leaves alone what the first is still at", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "hangs", times: 1 }))
      const first = yield* Effect.forkChild(cycle)
      yield* TestClock.adjust("20 seconds")
      expect(yield* cycle).toMatchObject({ claimed: 0 })
      yield* Fiber.interrupt(first)
    }).pipe(Effect.provide(application())))

  it.effect("5. a redelivered call is the same call, whatever its correlation id", () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder
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
      const recorder = yield* CallRecorder
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
    }).pipe(Effect.provide(application())))

  it.effect("8. rows may be named by anything", () =>
    Effect.gen(function*() {
      const ledger = yield* ChunkLedger
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
  it.effect("10. one that kills its worker costs its mates nothing", () =>
    Effect.gen(function*() {
      yield* record(note("killer"), note("mate"))
      yield* claim
      yield* TestClock.adjust("61 seconds")
      // alone from now on, the killer strikes again; the mate has its turn all the same
      expect((yield* claim).chunks.map((chunk) => chunk.key.callId)).toEqual(["killer"])
      yield* cycle
      expect((yield* written).map((row) => row.callId)).toEqual(["mate"])
      expect((yield* chunkOf("killer")).attempts).toBe(0)
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
      yield* TestClock.adjust("90 seconds")
      yield* Fiber.join(fiber)
      expect((yield* written).map((row) => row.callId)).toEqual(["other"])
      yield* TestClock.adjust("10 seconds")
      yield* untilEmpty
      const order = (yield* written).map((row) => row.callId)
      expect(order.filter((id) => id !== "slow")).toEqual(["other", "first", "second"])
      expect(order).toContain("slow")
    }).pipe(Effect.provide(application())))

  it.effect("16. a slow worker's late failure does not overwrite another's success", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore
      yield* record(note("a"))
      const { chunks: [chunk], token } = yield* claim
      yield* TestClock.adjust("61 seconds")
      yield* untilEmpty
      const failure = { handler: "clinic/note", kind: "failed", message: "too late" }
      expect(yield* store.settle(token, [{ _tag: "Retry", chunk: chunk!, delay: Duration.zero, failure }])).toEqual([])
      expect(yield* chunkOf("a")).toMatchObject({ state: "persisted", failures: [] })
    }).pipe(Effect.provide(application())))

  it.effect("17. an error in an item is the chunk's error: nothing is swallowed", () =>
    Effect.gen(function*() {
      // it writes two rows, then meets an error
      yield* record(note("a", { rows: 2, trouble: "fails" }))
      expect(yield* cycle).toMatchObject({ failed: 1, persisted: 0 })
      expect(yield* written).toEqual([])
      expect((yield* chunkOf("a")).failures).toHaveLength(1)
    }).pipe(Effect.provide(application())))

  it.effect("18. replies of one simulation are persisted one after the other", () =>
    Effect.gen(function*() {
      const ids = Array.from({ length: 20 }, (_, n) => `reply-${n}`)
      yield* record(...ids.map((id) => note(id, {}, { orderingKey: "knee" })))
      yield* Effect.all([untilEmpty, untilEmpty, untilEmpty], { concurrency: "unbounded" })
      yield* untilEmpty
      expect((yield* written).map((row) => row.callId)).toEqual(ids)
    }).pipe(Effect.provide(application({ batchSize: 3 }))))
})

describe("signals", () => {
  it.effect("19. what was created is told after the commit, and a reader that was away is told later", () =>
    Effect.gen(function*() {
      const heard = yield* (yield* DomainEvents).subscribe
      yield* record(note("a"), note("b", { trouble: "fails" }))
      yield* cycle
      const [event] = yield* Stream.runCollect(Stream.take(heard, 1))
      expect(event).toMatchObject({ object: { type: "clinic.Note" }, key: keyOf("a"), handler: "clinic/note" })
      const log = yield* EventLog
      yield* log.open("media", "beginning")
      const taken = Option.getOrThrow(yield* log.take("media", { limit: 10, lease: Duration.minutes(1) }))
      expect(taken.entries.flatMap((entry) => entry.events).map((event) => event.key.callId)).toEqual(["a"])
    }).pipe(Effect.scoped, Effect.provide(application())))
})

describe("wiring", () => {
  it.effect("20. the drain is scheduled", () =>
    Effect.gen(function*() {
      yield* Layer.build(DrainWorker.layer({ schedule: Schedule.spaced("10 seconds") }))
      yield* TestClock.adjust("1 second")
      yield* record(note("a"))
      yield* TestClock.adjust("10 seconds")
      expect(yield* written).toHaveLength(1)
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("21. a result that cannot be stored is refused before it is paid for again, and one with UUIDs and dates can be", () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder
      class Visit extends Output.make("schemas.clinic.ward.visit", {
        version: 1,
        schema: Schema.Struct({ id: Schema.String, at: Schema.DateTimeUtcFromString })
      }) {}
      const at = yield* Schema.decodeUnknownEffect(Schema.DateTimeUtcFromString)("2026-01-01T00:00:00Z")
      const output = yield* Visit.encode({ id: "018f0000-0000-7000-8000-000000000000", at })
      expect(yield* recorder.record(note("a", {}, { outputs: [output] }))).toBe("recorded")
      expect(yield* Visit.decode(output.data, 1)).toMatchObject({ at })
    }).pipe(Effect.provide(application())))

  it.effect("22. a registry that cannot be set up stops the start: nothing is drained by a broken one", () =>
    Effect.gen(function*() {
      const broken = Layer.effect(HandlerRegistry, Effect.fail("no database" as const))
      const error = yield* Effect.flip(Effect.scoped(Layer.build(Layer.fresh(Drain.layer).pipe(Layer.provide(broken)))))
      expect(error).toBe("no database")
    }).pipe(Effect.provide(application())))

  it.effect("23. a registry cannot be changed, and duplicates are refused", () =>
    Effect.gen(function*() {
      const twice = HandlerRegistry.layer().pipe(
        Layer.provide(HandlerPlugin.layer("clinic", Note, noteHandler())),
        Layer.provide(HandlerPlugin.layer("clinic", Note, noteHandler()))
      )
      const error = yield* Effect.flip(Effect.scoped(Layer.build(twice)))
      expect(error).toMatchObject({ _tag: "DuplicateHandler", namespace: "clinic", schemaIdentity: Note.identity })
      const { list } = yield* HandlerRegistry
      expect(() => (list as Array<unknown>).push(1)).toThrow("not extensible")
    }).pipe(Effect.provide(application())))

  it("24. an identity is written down: renaming the class changes nothing", () => {
    const identity = "schemas.clinic.ward.note"
    class Renamed extends Output.make(identity, { version: 2, schema: Note.schema }) {}
    expect(Renamed.identity).toBe(Note.identity)
    expect(Renamed.name).not.toBe(Note.name)
  })

  it("25. the library knows no application", () => {
    const source = path.resolve(import.meta.dirname, "../../src")
    const files = globSync("**/*.ts", { cwd: source })
    const outside = files.filter((file) =>
      /from "(\.\.\/)+(examples|test|bench)/.test(readFileSync(path.join(source, file), "utf8"))
    )
    expect(files.length).toBeGreaterThan(30)
    expect(outside).toEqual([])
  })
})
