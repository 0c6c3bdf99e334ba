/**
 * Chunks of one ordering key, on every store: persisted in the order of recording, whatever comes between.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DeadLetters from "../../DeadLetters.ts"
import { call, claim, claimWith, idsOf, keyOf, persist, record, settle, statesOf } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"
import { Edits, Time } from "./services.ts"

const knee = (id: string) => call(id, { orderingKey: "knee" })
const claimed = Effect.map(claim, ({ chunks }) => idsOf(chunks))
const claimOne = claimWith({ limit: 1 })
/** Claims the first, and has the others of its key put aside behind it. */
const claimFirst = Effect.gen(function*() {
  const first = yield* claimOne
  expect(yield* claimed).toEqual([])
  return first
})

export const ordering = topic("ordering", (test) => {
  test("consecutive chunks of a key are claimed together; the rest waits until they are settled", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(knee("a"), knee("b"), knee("c"), call("free"))
      const first = yield* claimOne
      expect(idsOf(first.chunks)).toEqual(["a"])
      // b and c are behind a, which is in another's hands; others are not held up
      expect(yield* claimed).toEqual(["free"])
      expect(yield* statesOf("b")).toEqual(["waiting"])
      yield* store.persist(
        first.token,
        () => Effect.succeed(first.chunks.map((chunk) => ({ chunk, handler: "h", handlerVersion: 1, objects: [] })))
      )
      expect(yield* claimed).toEqual(["b", "c"])
    }))

  test("a retry holds back the younger chunks of its key, and no others", () =>
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

  test("a younger chunk does not overtake by priority", () =>
    Effect.gen(function*() {
      yield* record(knee("a"), call("b", { orderingKey: "knee", priority: 100 }))
      const { chunks } = yield* claimOne
      expect(idsOf(chunks)).toEqual(["a"])
    }))

  test("a dead letter blocks its key until it is redriven", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      yield* record(knee("a"), knee("b"))
      yield* settle((chunk) => chunk.key.callId === "a" ? { dead: "exhausted" } : "released")
      expect(yield* claimed).toEqual([])
      expect(yield* letters.redrive({})).toBe(1)
      expect(yield* settle("persisted")).toEqual(["a"])
      expect(yield* settle("persisted")).toEqual(["b"])
    }))

  test("a dead letter blocks its key until it is discarded", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      yield* record(knee("a"), knee("b"))
      yield* settle((chunk) => chunk.key.callId === "a" ? { dead: "exhausted" } : "released")
      expect(yield* claimed).toEqual([])
      expect(yield* letters.discard({}, "said twice")).toBe(1)
      expect(yield* settle("persisted")).toEqual(["b"])
    }))

  test("a dead letter does not block its key if the settings say so", () =>
    Effect.gen(function*() {
      yield* record(knee("a"), knee("b"))
      yield* settle((chunk) => chunk.key.callId === "a" ? { dead: "exhausted" } : "released")
      expect(yield* settle("persisted")).toEqual(["b"])
    }), { deadBlocksKey: false })

  test("a chunk that is in the ledger already does not block its key", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(knee("a"), knee("b"))
      const first = yield* claimOne
      expect(yield* claimed).toEqual([])
      const [chunk] = first.chunks
      if (chunk === undefined) throw new Error("nothing claimed")
      yield* store.settle(first.token, [{ _tag: "Already", chunk }])
      expect(yield* claimed).toEqual(["b"])
    }))

  test("the order of a key is kept after a crash", () =>
    Effect.gen(function*() {
      yield* record(knee("a"), knee("b"), knee("c"))
      expect(yield* claimed).toEqual(["a", "b", "c"])
      yield* (yield* Time).pass("61 seconds")
      for (const id of ["a", "b", "c"]) expect(yield* settle("persisted")).toEqual([id])
    }))

  test("a chunk that is made waiting after its lease ended can still be given back by its holder, without a crash", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(knee("a"), knee("b"), knee("c"))
      const cutOff = yield* claimWith({ limit: 2 })
      yield* (yield* Time).pass("61 seconds")
      const first = yield* claimOne
      expect(idsOf(first.chunks)).toEqual(["a"])
      expect(yield* claimed).toEqual([])
      expect([yield* statesOf("b"), yield* statesOf("c")]).toEqual([["waiting"], ["waiting"]])
      yield* store.giveUp(cutOff.token)
      yield* persist(first)
      expect((yield* claim).chunks).toMatchObject([
        { key: { callId: "b" }, crashes: 0 },
        { key: { callId: "c" }, crashes: 0 }
      ])
    }))

  test("a claim finds the chunks of other keys behind many chunks of one", () =>
    Effect.gen(function*() {
      yield* record(...Array.from({ length: 50 }, (_, n) => knee(`knee-${n}`)), call("free"))
      const store = yield* ChunkStore.ChunkStore
      const request = { worker: "test", limit: 10, maxBytes: 1e9, lease: Duration.minutes(1) }
      expect(idsOf((yield* store.claim(request)).chunks)).toHaveLength(10)
      expect(idsOf((yield* store.claim(request)).chunks)).toEqual(["free"])
    }))

  test("a claim of one chunk or few bytes finds other keys behind the chunks of one, and those once its first is settled", () =>
    Effect.gen(function*() {
      const large = { data: { text: "x".repeat(1000) } }
      const line = Array.from({ length: 5 }, (_, n) => call(`knee-${n}`, { orderingKey: "knee" }, large))
      yield* record(...line, call("free"), call("free too", { orderingKey: "hip" }))
      const first = yield* claimOne
      expect(idsOf((yield* claimWith({ limit: 1 })).chunks)).toEqual(["free"])
      expect(idsOf((yield* claimWith({ maxBytes: 10 })).chunks)).toEqual(["free too"])
      expect(yield* claimed).toEqual([])
      yield* persist(first)
      expect(idsOf((yield* claimWith({ maxBytes: 10 })).chunks)).toEqual(["knee-1"])
    }))

  test("a claim finds the chunks of other keys behind many due retries of one", () =>
    Effect.gen(function*() {
      yield* record(...Array.from({ length: 6 }, (_, n) => knee(`knee-${n}`)), call("free"))
      yield* settle(({ key }) => ({ retry: key.callId === "free" ? "2 seconds" : "1 second" }))
      yield* (yield* Time).pass("10 seconds")
      expect(idsOf((yield* claimWith({ limit: 1 })).chunks)).toEqual(["knee-0"])
      expect(idsOf((yield* claimWith({ limit: 1 })).chunks)).toEqual(["free"])
      expect(idsOf((yield* claimWith({ limit: 1 })).chunks)).toEqual([])
    }))

  test("a claim never takes a chunk without those before it in its key, whatever their times and sizes", () =>
    Effect.gen(function*() {
      yield* record(knee("a"), knee("b"), knee("c"), call("free"))
      const first = yield* claimOne
      // the oldest is due after the others by now
      yield* ChunkStore.ChunkStore.use((store) =>
        store.settle(
          first.token,
          first.chunks.map((chunk) => ({
            _tag: "Retry",
            chunk,
            delay: Duration.seconds(1),
            failure: { handler: "h", kind: "failed", message: "no bed" }
          }))
        )
      )
      yield* (yield* Time).pass("10 seconds")
      const taken: Array<string> = []
      for (let n = 0; n < 4; n++) {
        const one = yield* claimWith({ limit: 1 })
        taken.push(...idsOf(one.chunks))
        yield* persist(one)
      }
      expect(taken.filter((id) => id !== "free")).toEqual(["a", "b", "c"])
    }))

  test(
    "if dead letters do not block, a buried chunk frees its key at once, also for chunks that are waiting",
    () =>
      Effect.gen(function*() {
        yield* record(knee("a"), knee("b"))
        const { chunks, token } = yield* claimFirst
        const failure = { handler: "h", kind: "failed", message: "no bed" } as const
        yield* ChunkStore.ChunkStore.use((store) =>
          store.settle(
            token,
            chunks.map((chunk) => ({ _tag: "Bury", chunk, reason: "exhausted", charge: true, failure }))
          )
        )
        expect(yield* claimed).toEqual(["b"])
      }),
    { deadBlocksKey: false }
  )

  test("a chunk that is persisted outside the drain frees its key at once", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(knee("a"), knee("b"))
      yield* claimFirst
      yield* store.once({ key: keyOf("a"), namespace: "chatlab", handler: "by hand" }, Effect.succeed([]))
      expect(yield* claimed).toEqual(["b"])
    }))

  // --- a key counts within its namespace

  const elsewhere = (id: string) => call(id, { orderingKey: "knee", namespace: "triage" })

  test("a key counts within its namespace: the same key in another namespace blocks nothing", () =>
    Effect.gen(function*() {
      yield* record(knee("a"), elsewhere("other a"), knee("b"), elsewhere("other b"))
      const first = yield* claimOne
      expect(idsOf(first.chunks)).toEqual(["a"])
      expect(yield* claimed).toEqual(["other a", "other b"])
      expect(yield* statesOf("b")).toEqual(["waiting"])
      yield* persist(first)
      expect(yield* claimed).toEqual(["b"])
    }))

  test("a dead letter blocks its key only in its own namespace, and chunks of the key show that they are behind it", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      yield* record(knee("a"), elsewhere("other a"), knee("b"), elsewhere("other b"))
      yield* settle(({ key }) => key.callId === "a" ? { dead: "undecodable" } : "released")
      expect(yield* claimed).toEqual(["other a", "other b"])
      const behind = (id: string) =>
        Effect.map(inspect.call(id), (view) => view._tag === "Some" ? view.value.chunks[0]?.behind : undefined)
      expect([yield* behind("b"), yield* behind("other a"), yield* behind("other b")]).toEqual(["a", null, "other a"])
      yield* letters.discard({}, "said twice")
      expect(yield* claimed).toEqual(["b"])
    }))

  test("a settled chunk wakes no chunk of the same key in another namespace", () =>
    Effect.gen(function*() {
      yield* record(knee("a"), elsewhere("other a"), knee("b"), elsewhere("other b"))
      const first = yield* claimWith({ namespace: "chatlab", limit: 1 })
      const other = yield* claimWith({ namespace: "triage", limit: 1 })
      expect(yield* claimed).toEqual([])
      yield* persist(first)
      expect([yield* statesOf("b"), yield* statesOf("other b")]).toEqual([["ready"], ["waiting"]])
      yield* persist(other)
      expect(yield* claimed).toEqual(["b", "other b"])
    }))

  // --- what waits behind nothing

  const beat = ChunkStore.ChunkStore.use((store) => store.beat("worker", []))

  test("a waiting chunk with nothing before it, as after a manual edit, is released by a worker's beat", () =>
    Effect.gen(function*() {
      const edits = yield* Edits
      yield* record(knee("a"), knee("b"), call("c", { orderingKey: "hip" }), call("d"))
      for (const id of ["a", "b", "c", "d"]) yield* edits.putAside(id)
      expect(yield* claimed).toEqual([])
      yield* beat
      expect(yield* settle("persisted")).toEqual(["a", "c", "d"])
      // those behind the first of a key are woken by its end, as always
      expect(yield* settle("persisted")).toEqual(["b"])
    }))

  test("a waiting chunk with another before it stays waiting", () =>
    Effect.gen(function*() {
      yield* record(knee("a"), knee("b"), call("c", { orderingKey: "hip" }), call("d", { orderingKey: "hip" }))
      yield* settle(({ key }) => key.callId === "c" ? { dead: "exhausted" } : "released")
      const first = yield* claimOne
      expect(yield* claimed).toEqual([])
      yield* beat
      expect([yield* statesOf("b"), yield* statesOf("d")]).toEqual([["waiting"], ["waiting"]])
      yield* persist(first)
      expect(yield* claimed).toEqual(["b"])
    }))

  test(
    "a chunk that waits for a dead letter is released if dead letters no longer block",
    () =>
      Effect.gen(function*() {
        const edits = yield* Edits
        yield* record(knee("a"), knee("b"))
        yield* settle(({ key }) => key.callId === "a" ? { dead: "exhausted" } : "released")
        yield* edits.putAside("b")
        yield* beat
        expect(yield* settle("persisted")).toEqual(["b"])
      }),
    { deadBlocksKey: false }
  )

  test("a beat checks some keys at a time, and all of them in turn", () =>
    Effect.gen(function*() {
      const edits = yield* Edits
      const ids = Array.from({ length: 600 }, (_, n) => `call-${n}`)
      yield* record(...ids.map((id) => call(id, { orderingKey: id })))
      yield* Effect.forEach(ids, (id) => edits.putAside(id), { discard: true })
      for (let n = 0; n < 4; n++) yield* beat
      expect(yield* settle("persisted")).toHaveLength(ids.length)
    }))
})
