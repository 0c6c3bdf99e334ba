/**
 * What is recorded, what is refused and in which words, and calls that are run.
 */
import { it } from "@effect/vitest"
import { CallRecorder, ChunkStore, type ServiceCall, Settings } from "effect-sluice"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { call, reply } from "./contract/operators/dialogues.ts"

const recorder = CallRecorder.layer.pipe(
  Layer.provideMerge(MemoryStore.layer),
  Layer.provideMerge(Settings.layer({ maxResultBytes: 10_000, lease: Duration.minutes(1) }))
)
const given = <A, E>(test: Effect.Effect<A, E, CallRecorder | ChunkStore>) => () => Effect.provide(test, recorder)

const withData = (data: unknown) => ({ ...call("a"), outputs: [{ schema: reply, version: 1, data }] })
const nested = (depth: number): unknown => JSON.parse(`${"[".repeat(depth)}${"]".repeat(depth)}`)
const cycle: { self?: unknown } = {}
cycle.self = cycle
class Note {
  readonly text = "a"
}

/** What a caller may give, where the trouble is, and what is said of it. */
const refused: ReadonlyArray<readonly [name: string, call: unknown, path: string, reason: RegExp]> = [
  ["nothing", undefined, "call", /not an object/],
  ["null", null, "call", /not an object/],
  ["a text", "call-1", "call", /not an object/],
  ["an empty object", {}, "callId", /not a text/],
  ["a number as id", { ...call("a"), callId: 7 }, "callId", /not a text/],
  ["an empty id", call(""), "callId", /empty/],
  ["an id that is too long", call("x".repeat(65)), "callId", /65 characters/],
  ["an id with NUL", call("a\u0000b"), "callId", /u0000/],
  ["an id that is half an emoji", call("\ud83e"), "callId", /lone surrogate/],
  ["no namespace", { ...call("a"), namespace: "" }, "namespace", /empty/],
  ["a namespace with a dot", { ...call("a"), namespace: "a.b" }, "namespace", /may hold only/],
  ["a service that is none", { ...call("a"), service: "generate-reply" }, "service", /1 parts, not 4/],
  ["a service of another domain", { ...call("a"), service: reply }, "service", /domain schemas, not services/],
  ["an empty correlation id", { ...call("a"), correlationId: "" }, "correlationId", /empty/],
  ["a correlation id of another type", { ...call("a"), correlationId: 1 }, "correlationId", /not a text/],
  ["a long ordering key", { ...call("a"), orderingKey: "k".repeat(257) }, "orderingKey", /longer than 256/],
  ["a priority below 0", { ...call("a"), priority: -1 }, "priority", /0 to 1000/],
  ["half a priority", { ...call("a"), priority: 0.5 }, "priority", /0 to 1000/],
  ["context that is a list", { ...call("a"), context: [] }, "context", /not an object|not JSON/],
  ["context that is a text", { ...call("a"), context: "knee" }, "context", /not an object/],
  ["NUL in a key of the context", { ...call("a"), context: { "a\u0000": 1 } }, "a key of context", /u0000/],
  ["a date that is none", { ...call("a"), finishedAt: "yesterday" }, "finishedAt", /not a DateTime/],
  ["no outputs", { ...call("a"), outputs: [] }, "outputs", /empty/],
  ["outputs that are no list", { ...call("a"), outputs: {} }, "outputs", /not an array/],
  ["an output that is none", { ...call("a"), outputs: [null] }, "outputs[0]", /not an output/],
  [
    "an output without version",
    { ...call("a"), outputs: [{ schema: reply, data: 1 }] },
    "outputs[0].version",
    /undefined/
  ],
  [
    "a schema identity of three parts",
    {
      ...call("a"),
      outputs: [{ schema: "schemas.a.b", version: 1, data: 1 }]
    },
    "outputs[0].schema",
    /3 parts/
  ],
  [
    "a hostile schema identity",
    {
      ...call("a"),
      outputs: [{ schema: "schemas.a.b.c'; drop table x; --", version: 1, data: 1 }]
    },
    "outputs[0].schema",
    /may hold only/
  ],
  ["version 0", { ...call("a"), outputs: [{ schema: reply, version: 0, data: 1 }] }, "outputs[0].version", /from 1/],
  [
    "a version beyond integers",
    {
      ...call("a"),
      outputs: [{ schema: reply, version: 2 ** 31, data: 1 }]
    },
    "outputs[0].version",
    /from 1/
  ],
  [
    "two outputs with one schema and part",
    {
      ...call("a"),
      outputs: [{ schema: reply, version: 1, data: 1 }, { schema: reply, version: 1, data: 2 }]
    },
    "outputs[1]",
    /give each its own part/
  ],
  [
    "a part that is too long",
    {
      ...call("a"),
      outputs: [{ schema: reply, version: 1, part: "p".repeat(129), data: 1 }]
    },
    "outputs[0].part",
    /longer than 128/
  ],
  ["undefined", withData({ text: undefined }), "outputs[0].data.text", /type undefined/],
  ["a function", withData({ text: () => 1 }), "outputs[0].data.text", /type function/],
  ["a bigint", withData(1n), "outputs[0].data", /type bigint/],
  ["a symbol", withData([Symbol("x")]), "outputs[0].data[0]", /type symbol/],
  ["a Date", withData({ at: new Date(0) }), "outputs[0].data.at", /is a Date/],
  ["a Map", withData(new Map()), "outputs[0].data", /is a Map/],
  ["a class of the application", withData([new Note()]), "outputs[0].data[0]", /is a Note/],
  ["NaN", withData(Number.NaN), "outputs[0].data", /NaN/],
  ["Infinity", withData([1, -Infinity]), "outputs[0].data[1]", /-Infinity/],
  ["a cycle", withData(cycle), "outputs[0].data", /holds itself/],
  ["a hole in a list", withData(Array.from({ length: 2 }).fill(1, 1)), "outputs[0].data[0]", /undefined/],
  ["600 levels", withData(nested(600)), "outputs[0].data", /more than 512 deep/],
  [
    "NUL deep down",
    withData({ messages: [{ "the text": "a\u0000" }] }),
    "outputs[0].data.messages[0][\"the text\"]",
    /u0000/
  ],
  ["a lone surrogate", withData(["\udc00"]), "outputs[0].data[0]", /lone surrogate/],
  ["more than the configured size", withData("x".repeat(10_001)), "outputs", /SLUICE_MAX_RESULT_BYTES/]
]

describe("what cannot be stored is refused", () => {
  for (const [name, bad, path, reason] of refused) {
    it.effect(
      name,
      given(Effect.gen(function*() {
        const { record, recordMany } = yield* CallRecorder
        // what callers without types may do
        const untyped = bad as ServiceCall.ServiceCall
        const error = yield* Effect.flip(record(untyped))
        expect(error).toMatchObject({ _tag: "CallRefused", path: expect.stringContaining(path) })
        if (error._tag === "CallRefused") expect(error.reason).toMatch(reason)
        expect(error.message).toContain(path)

        // the good ones beside it are recorded
        const results = yield* recordMany([call("good-1"), untyped, call("good-2")])
        expect(results.map(Result.isSuccess)).toEqual([true, false, true])
        const store = yield* ChunkStore
        const kinds = yield* store.status
        expect(kinds.map((kind) => kind.pending)).toEqual([2])
      }))
    )
  }
})

describe("what can be stored", () => {
  const fine: ReadonlyArray<readonly [name: string, call: ServiceCall.ServiceCall]> = [
    ["64 characters, emoji counted as one", call("🩺".repeat(64))],
    ["hostile ids", call("'; drop table sluice.chunk_queue; -- \n\t\u202e <script>")],
    ["100 levels", withData(nested(100)) as ServiceCall.ServiceCall],
    ["numbers beyond 2^53", withData([2 ** 60, 1e300, -0, 5e-324]) as ServiceCall.ServiceCall],
    ["an object without prototype", withData(Object.assign(Object.create(null), { a: 1 })) as ServiceCall.ServiceCall],
    ["a key called __proto__", withData(JSON.parse("{\"__proto__\": {\"x\": 1}}")) as ServiceCall.ServiceCall],
    ["null", withData(null) as ServiceCall.ServiceCall]
  ]
  for (const [name, good] of fine) {
    it.effect(
      name,
      given(Effect.gen(function*() {
        const { record } = yield* CallRecorder
        expect(yield* record(good)).toBe("recorded")
        expect(yield* record(good)).toBe("unchanged")
      }))
    )
  }

  it.effect(
    "the same id with another content is a conflict that says what to do",
    given(Effect.gen(function*() {
      const { record } = yield* CallRecorder
      yield* record(call("a"))
      const error = yield* Effect.flip(record(call("a", { namespace: "triage" })))
      expect(error).toMatchObject({ _tag: "CallConflict", callId: "a" })
      expect(error.message).toContain("an id of its own")
    }))
  )
})

describe("a call that is run", () => {
  const { outputs, ...spec } = call("a")
  const statusOf = ChunkStore.use((store) =>
    Effect.map(store.call("a"), Option.map(({ error, status }) => ({ status, error })))
  )

  it.effect(
    "is recorded with its outputs, and not run again",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder
      let ran = 0
      const service = Effect.sync(() => {
        ran++
        return outputs
      })
      expect(yield* run(spec, service)).toMatchObject({ ran: true, call: { callId: "a", outputs } })
      expect(yield* run(spec, service)).toMatchObject({ ran: false, call: { callId: "a", outputs } })
      expect(ran).toBe(1)
    }))
  )

  it.effect(
    "fails with the service's error, which is recorded; then it may run again",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder
      expect(yield* Effect.flip(run(spec, Effect.fail("overloaded" as const)))).toBe("overloaded")
      expect(Option.getOrThrow(yield* statusOf)).toMatchObject({
        status: "failed",
        error: expect.stringContaining("overloaded")
      })
      expect(yield* run(spec, Effect.succeed(outputs))).toMatchObject({ ran: true })
      expect(Option.getOrThrow(yield* statusOf)).toEqual({ status: "succeeded", error: null })
    }))
  )

  it.effect(
    "runs in one place at a time; while it does, its lease is renewed",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder
      const answer = yield* Deferred.make<typeof outputs>()
      const first = yield* Effect.forkChild(run(spec, Deferred.await(answer)))
      yield* TestClock.adjust("5 minutes")
      const error = yield* Effect.flip(run(spec, Effect.succeed(outputs)))
      expect(error).toMatchObject({ _tag: "CallRunning", callId: "a" })
      yield* Deferred.succeed(answer, outputs)
      expect(yield* Fiber.join(first)).toMatchObject({ ran: true })
    }))
  )

  it.effect(
    "that died is taken up after its lease",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder
      const store = yield* ChunkStore
      // as of a process that was killed: it says nothing more
      yield* store.begin(spec, Duration.minutes(1))
      expect(yield* Effect.flip(run(spec, Effect.succeed(outputs)))).toMatchObject({ _tag: "CallRunning" })
      yield* TestClock.adjust("61 seconds")
      expect(yield* run(spec, Effect.succeed(outputs))).toMatchObject({ ran: true })
    }))
  )

  it.effect(
    "that was interrupted can be run again at once",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder
      const fiber = yield* Effect.forkChild(run(spec, Effect.never))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(fiber)
      expect(yield* run(spec, Effect.succeed(outputs))).toMatchObject({ ran: true })
    }))
  )

  it.effect(
    "whose answer cannot be stored says so, and is recorded as failed",
    given(Effect.gen(function*() {
      const { run } = yield* CallRecorder
      const exit = yield* Effect.exit(run(spec, Effect.succeed([{ schema: reply, version: 1, data: "\u0000" }])))
      expect(Exit.isFailure(exit)).toBe(true)
      expect(Option.getOrThrow(yield* statusOf)).toMatchObject({
        status: "failed",
        error: expect.stringContaining("u0000")
      })
    }))
  )
})
