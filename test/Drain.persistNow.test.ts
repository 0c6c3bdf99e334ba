/**
 * The inline path: one call's chunks, now, and an answer in the caller's hand, whatever it is.
 */
import { it } from "@effect/vitest"
import { CallRecorder, ChunkStore, Handler, HandlerPlugin, HandlerRegistry, OutputGroup } from "effect-sluice"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { application, Note, note, noteHandler, record, registry, written } from "./support/clinic.ts"
import { away, chunkOf, cycle, drainWith, persistNow, untilEmpty } from "./support/drain.ts"
import * as inspect from "./support/inspect.ts"

const claim = (callId: string, lease = Duration.minutes(1)) =>
  ChunkStore.ChunkStore.use((store) => store.claim({ worker: "other", limit: 10, maxBytes: 1e9, lease, callId }))
const parts = (...data: ReadonlyArray<{ readonly [key: string]: string | number | boolean }>) => ({
  outputs: data.map((each, n) => ({
    schema: Note.identity,
    version: 2,
    part: `part-${n}`,
    data: { text: "", ...each }
  }))
})
const none = HandlerRegistry.layer()

describe("persistNow", () => {
  it.effect("gives back the domain objects, also when they were created before", () =>
    Effect.gen(function*() {
      yield* record(note("a", { rows: 2 }), note("other"))
      const objects = yield* persistNow("a")
      expect(objects).toMatchObject([{ type: "clinic.Note", id: "1" }, { type: "clinic.Note", id: "2" }])
      expect(yield* persistNow("a")).toEqual(objects)
      // it leaves the others alone
      expect((yield* written).map((row) => row.callId)).toEqual(["a", "a"])
    }).pipe(Effect.provide(application())))

  it.effect("persists all of a call that has more outputs than one claim takes, in their order", () =>
    Effect.gen(function*() {
      yield* record(note("a", {}, parts(...Array.from({ length: 1050 }, () => ({})))), note("b", {}, parts({}, {}, {})))
      const objects = yield* persistNow("a")
      expect(objects).toHaveLength(1050)
      expect(yield* persistNow("a")).toEqual(objects)
      const view = yield* inspect.call("a")
      expect(Option.getOrThrow(view).chunks.map(({ ledger }) => ledger?.objects[0])).toEqual(objects)
      expect((yield* written).every((row) => row.callId === "a")).toBe(true)
    }).pipe(Effect.provide(application({ batchSize: 10 }))))

  it.effect("gives them back in the order of the outputs, whoever persisted them, and none where there are none", () =>
    Effect.gen(function*() {
      yield* record(note("a", {}, parts({ rows: 2 }, { trouble: "nothing", early: true }, { rows: 1 })))
      yield* record(note("nothing", { rows: 0 }))
      const objects = yield* persistNow("a")
      const store = yield* ChunkStore.ChunkStore
      const lines = yield* store.ledger(
        [0, 2].map((n) => ({ callId: "a", schemaIdentity: Note.identity, part: `part-${n}` }))
      )
      const byPart = new Map(lines.map((line) => [line.key.part, line.objects]))
      expect(objects.map(({ id }) => id)).toEqual(
        [...byPart.get("part-0") ?? [], ...byPart.get("part-2") ?? []].map(({ id }) => id)
      )
      expect(objects).toHaveLength(3)
      expect(yield* persistNow("nothing")).toEqual([])
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

  it.effect("and races the drain: one of them persists, both know the outcome", () =>
    Effect.gen(function*() {
      const may = yield* Deferred.make<void>()
      const slow = HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer("clinic", Note, {
        timeout: "1 hour",
        persist: (input) => Effect.andThen(Deferred.await(may), noteHandler().persist(input))
      })))
      yield* Effect.gen(function*() {
        yield* record(note("a"))
        const draining = yield* Effect.forkChild(cycle)
        yield* TestClock.adjust("1 second")
        const now = yield* Effect.forkChild(persistNow("a"))
        yield* TestClock.adjust("1 second")
        yield* Deferred.succeed(may, undefined)
        expect(yield* Fiber.join(draining)).toMatchObject({ persisted: 1 })
        yield* TestClock.adjust("1 second")
        expect(yield* Fiber.join(now)).toMatchObject([{ type: "clinic.Note", id: "1" }])
        expect(yield* written).toHaveLength(1)
      }).pipe(Effect.provide(application({}, slow)))
    }))

  it.effect("waits for the older ones of its key, which others are at", () =>
    Effect.gen(function*() {
      yield* record(note("first", {}, { orderingKey: "knee" }), note("second", {}, { orderingKey: "knee" }))
      const now = yield* Effect.forkChild(persistNow("second"))
      yield* TestClock.adjust("1 second")
      expect(yield* written).toEqual([])
      yield* cycle
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(now)).toHaveLength(1)
      expect((yield* written).map((row) => row.callId)).toEqual(["first", "second"])
    }).pipe(Effect.provide(application())))

  it.effect("takes up what its own handler serves and others parked", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      const old = Layer.fresh(drainWith()).pipe(Layer.provide(none))
      expect(yield* Effect.provide(cycle, old)).toMatchObject({ parked: 1 })
      // the beat that takes it up is the drain's, at its next cycle
      yield* cycle
      expect(yield* persistNow("a")).toHaveLength(1)
    }).pipe(Effect.provide(application())))
})

describe("persistNow says why not", () => {
  const crashed = Effect.fnUntraced(function*(callId: string) {
    const store = yield* ChunkStore.ChunkStore
    for (let crash = 0; crash < 3; crash++) {
      const { chunks, token } = yield* claim(callId)
      yield* store.renew(token, chunks, Duration.minutes(1), true)
      yield* TestClock.adjust("61 seconds")
    }
  })
  const at = (version: number) => ({ outputs: [{ schema: Note.identity, version, data: {} }] })

  /** What is done with call `a`, the error, and what it says. */
  const table: ReadonlyArray<
    readonly [
      name: string,
      given: Effect.Effect<unknown, unknown, CallRecorder.CallRecorder | ChunkStore.ChunkStore>,
      error: Readonly<Record<string, unknown>>,
      message: RegExp
    ]
  > = [
    ["not recorded", Effect.void, { _tag: "CallNotFound", callId: "a" }, /no call "a" is recorded/],
    [
      "begun and not yet finished",
      ChunkStore.ChunkStore.use((store) => store.begin(note("a"), Duration.minutes(1))),
      { _tag: "CallNotFound" },
      /has not succeeded yet/
    ],
    [
      "failing",
      record(note("a", { trouble: "fails" })),
      { _tag: "HandlerFailed", handler: "clinic/note", attempt: 1, schemaIdentity: Note.identity, part: "" },
      /clinic\/note failed attempt 1 .* tried again: .*it fails at attempt 1/
    ],
    ["a bug", record(note("a", { trouble: "throws" })), { _tag: "HandlerFailed", attempt: 1 }, /a bug/],
    ["hanging", record(note("a", { trouble: "hangs" })), { _tag: "HandlerFailed" }, /did not finish within 30s/],
    [
      "rejected",
      record(note("a", { trouble: "rejects" })),
      { _tag: "ChunkDead", reason: "rejected" },
      /ward is closed.* Fix the cause, then redrive it$/
    ],
    [
      "short of context",
      record(note("a", { trouble: "no-context" })),
      { _tag: "ChunkDead" },
      /"ward" .* is missing.* keeps its context: .*`optionalContext`.* discard .* another id/
    ],
    [
      "undecodable",
      record(note("a", { text: 1 })),
      { _tag: "ChunkDead", reason: "undecodable" },
      /Expected string.*\n?.* stays as it is: widen its schema, .* upcast .* redrive it; or discard it with a reason$/
    ],
    ["of the future", record(note("a", {}, at(3))), { _tag: "UnknownVersion", known: 2 }, /newer program/],
    [
      "killing workers",
      Effect.andThen(record(note("a")), crashed("a")),
      { _tag: "ChunkDead", reason: "crashing" },
      /3 workers died/
    ],
    [
      "of a namespace nobody serves",
      record(note("a", {}, { namespace: "clinc" })),
      { _tag: "HandlerNotFound", namespace: "clinc", schemaIdentity: Note.identity },
      /no handler for .* in namespace clinc or core; there is clinic\//
    ],
    [
      "of a schema nobody serves",
      record(note("a", {}, { outputs: [{ schema: "schemas.clinic.ward.unheard-of", version: 1, data: 1 }] })),
      { _tag: "HandlerNotFound", schemaIdentity: "schemas.clinic.ward.unheard-of" },
      /unheard-of/
    ],
    [
      "in another worker's hands for longer than a handler may run",
      Effect.andThen(record(note("a")), claim("a", Duration.hours(1))),
      { _tag: "ChunkBusy", state: "in-flight" },
      /is in-flight: the drain will persist it/
    ],
    [
      "behind an older one that does not come",
      record(note("first", { trouble: "rejects" }, { orderingKey: "k" }), note("a", {}, { orderingKey: "k" })),
      { _tag: "ChunkBusy" },
      /the drain will persist it when it can/
    ],
    [
      "in part: some of its outputs are persisted all the same",
      record(note("a", {}, parts({}, { trouble: "rejects" }))),
      { _tag: "ChunkDead", part: "part-1" },
      /ward is closed/
    ]
  ]
  for (const [name, given, error, message] of table) {
    it.effect(`of a call that is ${name}`, () =>
      Effect.gen(function*() {
        yield* given
        const fiber = yield* Effect.forkChild(Effect.flip(persistNow("a")))
        yield* TestClock.adjust("2 minutes")
        const found = yield* Fiber.join(fiber)
        expect(found).toMatchObject(error)
        expect(found.message).toMatch(message)
        if (name.startsWith("in part")) expect(yield* written).toHaveLength(1)
      }).pipe(Effect.provide(application())))
  }

  it.effect("of one whose retries are exhausted", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails" }))
      expect(yield* Effect.flip(persistNow("a"))).toMatchObject({ _tag: "HandlerFailed", attempt: 1 })
      yield* TestClock.adjust("10 seconds")
      const error = yield* Effect.flip(persistNow("a"))
      expect(error).toMatchObject({ _tag: "RetriesExhausted", callId: "a", attempts: 2 })
      expect(error.message).toContain("failed 2 times and is a dead letter")
      expect(error.message).toContain("it fails at attempt 2")
      // and for as long as it is
      expect(yield* Effect.flip(persistNow("a"))).toEqual(error)
    }).pipe(Effect.provide(application({ maxAttempts: 2 }))))

  it.effect("in the error's own words and fields, and no stack: that stands in a defect's history and in the cause", () => {
    class WardClosed extends Data.TaggedError("WardClosed")<{ readonly why: string }> {}
    const error = new WardClosed({ why: "a fire" })
    const failing = (namespace: string, options: Handler.Options, handle: () => Effect.Effect<never, WardClosed>) =>
      HandlerPlugin.layer(namespace, Note, { ...options, persist: handle })
    const handlers = HandlerRegistry.layer().pipe(Layer.provide([
      failing("fails", {}, () => Effect.fail(error)),
      failing("dies", {}, () => Effect.die(error)),
      failing("exhausted", { maxAttempts: 1 }, () => Effect.die(error)),
      failing("rejected", { permanent: () => true }, () => Effect.fail(error))
    ]))
    return Effect.gen(function*() {
      for (const namespace of ["fails", "dies", "exhausted", "rejected"]) {
        yield* record(note(namespace, {}, { namespace }))
        const told = yield* Effect.flip(persistNow(namespace))
        expect(told.message).toContain(`WardClosed {"why":"a fire"}`)
        expect(told.message.split("\n")).toHaveLength(1)
        if (told._tag === "HandlerFailed") expect(told.cause).toBe(error)
      }
      expect((yield* chunkOf("fails")).failures[0]?.message).toBe(`WardClosed {"why":"a fire"}`)
      expect((yield* chunkOf("rejected")).death?.message).toBe(`WardClosed {"why":"a fire"}`)
      const stack = /^WardClosed \{"why":"a fire"\}\n {4}at .*Drain\.persistNow\.test\.ts/
      expect((yield* chunkOf("dies")).failures[0]?.message).toMatch(stack)
      expect((yield* chunkOf("exhausted")).death?.message).toMatch(stack)
    }).pipe(Effect.provide(application({}, handlers)))
  })

  it.effect("of one that waits for its next attempt: it is not tried before its time", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "fails" }))
      yield* cycle
      expect(yield* Effect.flip(persistNow("a"))).toMatchObject({ _tag: "ChunkBusy", state: "scheduled" })
      expect((yield* chunkOf("a")).attempts).toBe(1)
    }).pipe(Effect.provide(application())))

  it.effect("of a database that is away: nothing is lost, the drain goes on with it", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      const drain = yield* Layer.build(
        drainWith(() => ({ persist: () => Effect.fail(away("persist")), probe: Effect.fail(away("probe")) }))
      )
      const fiber = yield* Effect.forkChild(Effect.flip(Effect.provide(persistNow("a"), drain)))
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(fiber)).toMatchObject({ _tag: "ChunkStoreError", transient: true })
      expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("where there is no handler at all", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      const error = yield* Effect.flip(persistNow("a"))
      expect(error).toMatchObject({ _tag: "HandlerNotFound", known: [] })
      expect(error.message).toContain("none at all")
    }).pipe(Effect.provide(application({}, none))))

  it.effect("given up: the chunk comes back at no cost", () =>
    Effect.gen(function*() {
      yield* record(note("a", { trouble: "hangs", times: 1 }))
      const fiber = yield* Effect.forkChild(persistNow("a"))
      yield* TestClock.adjust("1 second")
      expect((yield* chunkOf("a")).state).toBe("in-flight")
      yield* Fiber.interrupt(fiber)
      expect(yield* chunkOf("a")).toMatchObject({ state: "ready", attempts: 0, crashes: 0, failures: [] })
    }).pipe(Effect.provide(application({}, registry()))))
})

// a group works the same as a plug-in
describe("persistNow of a group", () => {
  const Clinic = OutputGroup.make("clinic", Note)
  it.effect("gives back what its handler made", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      expect(yield* persistNow("a")).toMatchObject([{ type: "clinic.Note" }])
    }).pipe(Effect.provide(application(
      {},
      HandlerRegistry.layer(Clinic).pipe(Layer.provide(Clinic.toLayer({ note: noteHandler() })))
    ))))
})
