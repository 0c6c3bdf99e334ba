/**
 * Phase 1, by the port's verbs, on every store.
 */
import { ChunkStore } from "effect-sluice"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { expect } from "vitest"
import { call, claim, idsOf, record, results, settle, statesOf } from "./operators/dialogues.ts"
import { onEveryStore, Rows, Time } from "./operators/ground.ts"

const lease = Duration.minutes(1)
const spec = {
  callId: "a",
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply"
}

onEveryStore((test) => {
  test("a call is recorded with its chunks, and reads as it was given", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore
      const given = call("a", {
        correlationId: "thread-1",
        context: { simulationId: "knee", "with \"quotes\"": [1, null, { deep: true }] },
        details: { provider: "p", tokens: 12 },
        outputs: [
          { schema: results, version: 2, data: { metadata: [] } },
          { schema: results, version: 3, part: "second", data: { text: "Überraschung 🩺" } }
        ]
      })
      expect(yield* record(given)).toEqual(["recorded"])
      const view = Option.getOrThrow(yield* store.call("a"))
      expect(view).toMatchObject({
        callId: "a",
        namespace: "chatlab",
        correlationId: "thread-1",
        status: "succeeded",
        outputs: given.outputs,
        chunks: [
          { key: { part: "" }, schemaVersion: 2, state: "pending" },
          { key: { part: "second" }, schemaVersion: 3, state: "pending" }
        ]
      })
      const { chunks } = yield* claim
      expect(chunks.map((chunk) => [chunk.key.part, chunk.data, chunk.call.context])).toEqual([
        ["", { metadata: [] }, given.context],
        ["second", { text: "Überraschung 🩺" }, given.context]
      ])
    }))

  test("the same again is unchanged, also when its keys stand in another order; another content is a conflict", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore
      yield* record(call("a", { context: { one: 1, two: 2 } }))
      expect(yield* record(call("a", { context: { two: 2, one: 1 } }))).toEqual(["unchanged"])
      const before = yield* store.call("a")
      for (
        const other of [
          call("a", { context: { one: 1, two: 3 } }),
          call("a", { context: { one: 1, two: 2 } }, { data: { text: "something else" } }),
          call("a", { context: { one: 1, two: 2 } }, { version: 2 }),
          call("a", { context: { one: 1, two: 2 }, namespace: "triage" }),
          call("a", { context: { one: 1, two: 2 }, orderingKey: "knee" })
        ]
      ) expect(yield* record(other)).toEqual(["conflict"])
      expect(yield* store.call("a")).toEqual(before)
      expect(yield* settle("persisted")).toEqual(["a"])
      expect(yield* record(call("a", { context: { one: 1, two: 2 } }))).toEqual(["unchanged"])
      expect(yield* statesOf("a")).toEqual(["persisted"])
    }))

  test("many at once: each has its own answer, also when one id comes twice", () =>
    Effect.gen(function*() {
      yield* record(call("old"))
      const other = call("new", {}, { data: { text: "another answer" } })
      expect(yield* record(call("old"), call("new"), call("new"), other, call("old", { namespace: "triage" })))
        .toEqual(["unchanged", "recorded", "unchanged", "conflict", "conflict"])
      expect(yield* settle("persisted")).toEqual(["old", "new"])
      expect(yield* record()).toEqual([])
    }))

  test("the application's rows and the call are one transaction", () =>
    Effect.gen(function*() {
      const rows = yield* Rows
      const store = yield* ChunkStore
      const both = (id: string) => Effect.andThen(rows.add(`row of ${id}`), record(call(id)))
      yield* rows.transaction(both("a"))
      yield* Effect.flip(rows.transaction(Effect.andThen(both("b"), Effect.fail("no"))))
      expect(yield* rows.list).toEqual(["row of a"])
      expect(Option.isSome(yield* store.call("a"))).toBe(true)
      expect(Option.isSome(yield* store.call("b"))).toBe(false)
      expect(yield* settle("persisted")).toEqual(["a"])
    }))

  test("not before its time", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore
      yield* record(call("now"))
      const { recordedAt } = Option.getOrThrow(yield* store.call("now"))
      yield* record(call("later", { notBefore: DateTime.add(recordedAt, { minutes: 1 }) }))
      expect(yield* statesOf("later")).toEqual(["scheduled"])
      expect(yield* settle("persisted")).toEqual(["now"])
      yield* (yield* Time).pass("61 seconds")
      expect(yield* settle("persisted")).toEqual(["later"])
    }))

  test("a call begun runs in one place at a time; a run that died is taken over, and its token is worth nothing then", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore
      const first = yield* store.begin(spec, lease)
      if (first._tag !== "Begun") throw new Error("not begun")
      expect(first.takenOver).toBe(false)
      expect(yield* store.begin(spec, lease)).toMatchObject({ _tag: "Running" })
      expect(yield* store.renewRun("a", first.token, lease)).toBe(true)
      expect(Option.getOrThrow(yield* store.call("a"))).toMatchObject({ status: "running", chunks: [] })

      yield* (yield* Time).pass("2 minutes")
      const second = yield* store.begin(spec, lease)
      if (second._tag !== "Begun") throw new Error("not begun")
      expect(second.takenOver).toBe(true)
      expect(yield* store.renewRun("a", first.token, lease)).toBe(false)
      yield* store.abandon("a", first.token, "too late")
      expect(Option.getOrThrow(yield* store.call("a"))).toMatchObject({ status: "running", error: null })

      expect(yield* record(call("a"))).toEqual(["recorded"])
      expect(yield* store.begin(spec, lease)).toMatchObject({ _tag: "Succeeded", call: { callId: "a" } })
      expect(idsOf((yield* claim).chunks)).toEqual(["a"])
    }))

  test("a failed run says why, and may be begun again; one given back as if it had not begun", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore
      const begin = Effect.map(store.begin(spec, lease), (begun) => begun._tag === "Begun" ? begun.token : "")
      yield* store.abandon("a", yield* begin, "the model was down")
      expect(Option.getOrThrow(yield* store.call("a"))).toMatchObject({ status: "failed", error: "the model was down" })
      const token = yield* begin
      expect(token).not.toBe("")
      yield* store.abandon("a", token, undefined)
      expect(yield* begin).not.toBe("")
      expect(yield* record(call("a"))).toEqual(["recorded"])
      expect(Option.getOrThrow(yield* store.call("a"))).toMatchObject({ status: "succeeded", error: null })
    }))
})
