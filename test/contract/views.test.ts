/**
 * What people are told of a call, on every store: where each chunk stands, who holds it, and what holds it up.
 */
import { ChunkStore, DeadLetters } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { expect } from "vitest"
import { call, claim, record, settle } from "./operators/dialogues.ts"
import { onEveryStore } from "./operators/ground.ts"

const view = (callId: string) => Effect.map(ChunkStore.use((store) => store.call(callId)), Option.getOrThrow)
const chunk = (callId: string) => Effect.map(view(callId), ({ chunks: [first] }) => first)
const knee = { orderingKey: "knee" }

onEveryStore((test) => {
  test("a call's context and the trace of its request", () =>
    Effect.gen(function*() {
      const trace = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", sampled: true }
      yield* record(call("traced", { trace, ...knee }), call("plain"))
      expect(yield* view("traced")).toMatchObject({
        context: { simulationId: "knee" },
        trace: { traceId: trace.traceId, spanId: trace.spanId },
        chunks: [{ orderingKey: "knee", behind: null, leasedBy: null, parkedFor: null }]
      })
      expect(yield* view("plain")).toMatchObject({ trace: null, chunks: [{ orderingKey: null }] })
      yield* settle("persisted")
      expect(yield* chunk("traced")).toMatchObject({ state: "persisted", orderingKey: "knee", behind: null })
    }))

  test("who holds a chunk, and no more once it is given back", () =>
    Effect.gen(function*() {
      yield* record(call("a"))
      const { chunks, token } = yield* claim
      expect(yield* chunk("a")).toMatchObject({ state: "in-flight", leasedBy: "test" })
      const store = yield* ChunkStore
      yield* store.settle(token, chunks.map((chunk) => ({ _tag: "Release", chunk })))
      expect(yield* chunk("a")).toMatchObject({ state: "pending", leasedBy: null })
    }))

  test("what a chunk is parked for", () =>
    Effect.gen(function*() {
      yield* record(call("a"))
      yield* settle("parked")
      expect(yield* chunk("a")).toMatchObject({ state: "parked", parkedFor: "no-handler" })
    }))

  test("the oldest before it of its ordering key, outstanding or dead", () =>
    Effect.gen(function*() {
      yield* record(call("other"), call("first", knee), call("second", knee), call("third", knee))
      expect(yield* chunk("first")).toMatchObject({ behind: null })
      expect(yield* chunk("second")).toMatchObject({ behind: "first" })
      expect(yield* chunk("third")).toMatchObject({ behind: "first" })
      yield* settle((one) => one.key.callId === "first" ? { dead: "rejected" } : "released")
      expect(yield* chunk("third")).toMatchObject({ behind: "first" })
      yield* DeadLetters.use((letters) => letters.discard({ callId: "first" }, "said twice"))
      expect(yield* chunk("second")).toMatchObject({ behind: null })
      expect(yield* chunk("third")).toMatchObject({ behind: "second" })
    }))
})
