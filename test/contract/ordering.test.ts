/**
 * Chunks of one ordering key, on every store: persisted in the order of recording, whatever comes between.
 */
import { ChunkStore, DeadLetters } from "effect-sluice"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { expect } from "vitest"
import { call, claim, idsOf, record, settle, statesOf } from "./operators/dialogues.ts"
import { onEveryStore, Time } from "./operators/ground.ts"

const knee = (id: string) => call(id, { orderingKey: "knee" })
const claimed = Effect.map(claim, ({ chunks }) => idsOf(chunks))
const claimOne = ChunkStore.use((store) =>
  store.claim({ worker: "test", limit: 1, maxBytes: 1e9, lease: Duration.minutes(1) })
)

onEveryStore((test) => {
  test("an unbroken run is claimed together; the rest waits until it is settled", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore
      yield* record(knee("a"), knee("b"), knee("c"), call("free"))
      const first = yield* claimOne
      expect(idsOf(first.chunks)).toEqual(["a"])
      // b and c are behind a, which is in another's hands; others are not held up
      expect(yield* claimed).toEqual(["free"])
      expect(yield* statesOf("b")).toEqual(["waiting"])
      yield* store.persist(first.token, () =>
        Effect.succeed(first.chunks.map((chunk) => ({ chunk, handler: "h", handlerVersion: 1, objects: [] }))))
      expect(yield* claimed).toEqual(["b", "c"])
    }))

  test("a retry holds back the younger ones of its key, and no others", () =>
    Effect.gen(function*() {
      yield* record(knee("a"), knee("b"), call("other", { orderingKey: "hip" }))
      expect(yield* settle((chunk) => chunk.key.callId === "a" ? { retry: "10 seconds" } : "released"))
        .toEqual(["a", "b", "other"])
      expect(yield* settle("persisted")).toEqual(["other"])
      yield* (yield* Time).pass("11 seconds")
      // b was put aside; it comes once a is done
      expect(yield* settle("persisted")).toEqual(["a"])
      expect(yield* settle("persisted")).toEqual(["b"])
    }))

  test("a younger one does not overtake by priority", () =>
    Effect.gen(function*() {
      yield* record(knee("a"), call("b", { orderingKey: "knee", priority: 100 }))
      const { chunks } = yield* claimOne
      expect(idsOf(chunks)).toEqual(["a"])
    }))

  test("a dead one blocks its key until it is redriven", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters
      yield* record(knee("a"), knee("b"))
      yield* settle((chunk) => chunk.key.callId === "a" ? { dead: "exhausted" } : "released")
      expect(yield* claimed).toEqual([])
      expect(yield* letters.redrive({})).toBe(1)
      expect(yield* settle("persisted")).toEqual(["a"])
      expect(yield* settle("persisted")).toEqual(["b"])
    }))

  test("or until it is discarded", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters
      yield* record(knee("a"), knee("b"))
      yield* settle((chunk) => chunk.key.callId === "a" ? { dead: "exhausted" } : "released")
      expect(yield* claimed).toEqual([])
      expect(yield* letters.discard({}, "said twice")).toBe(1)
      expect(yield* settle("persisted")).toEqual(["b"])
    }))

  test("or not at all, by policy", () =>
    Effect.gen(function*() {
      yield* record(knee("a"), knee("b"))
      yield* settle((chunk) => chunk.key.callId === "a" ? { dead: "exhausted" } : "released")
      expect(yield* settle("persisted")).toEqual(["b"])
    }), { deadBlocksKey: false })

  test("what stands in the ledger already makes way", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore
      yield* record(knee("a"), knee("b"))
      const first = yield* claimOne
      expect(yield* claimed).toEqual([])
      const [chunk] = first.chunks
      if (chunk === undefined) throw new Error("nothing claimed")
      yield* store.settle(first.token, [{ _tag: "Already", chunk }])
      expect(yield* claimed).toEqual(["b"])
    }))

  test("over a crash as well", () =>
    Effect.gen(function*() {
      yield* record(knee("a"), knee("b"), knee("c"))
      expect(yield* claimed).toEqual(["a", "b", "c"])
      yield* (yield* Time).pass("61 seconds")
      for (const id of ["a", "b", "c"]) expect(yield* settle("persisted")).toEqual([id])
    }))

  test("a long line behind one does not hide what is free", () =>
    Effect.gen(function*() {
      yield* record(...Array.from({ length: 50 }, (_, n) => knee(`knee-${n}`)), call("free"))
      const store = yield* ChunkStore
      const request = { worker: "test", limit: 10, maxBytes: 1e9, lease: Duration.minutes(1) }
      expect(idsOf((yield* store.claim(request)).chunks)).toHaveLength(10)
      expect(idsOf((yield* store.claim(request)).chunks)).toEqual(["free"])
    }))
})
