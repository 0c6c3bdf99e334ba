/**
 * Dead letters are found, understood, moved back and put away, on every store.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DeadLetters from "../../DeadLetters.ts"
import type { DeadLetterFilter } from "../../DeadLetters.ts"
import * as DomainObject from "../../DomainObject.ts"
import { call, claim, type Fate, idsOf, keyOf, record, reply, results, settle, statesOf } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"
import { Time } from "./services.ts"

const sum = (counts: ReadonlyArray<{ readonly count: number }>) => counts.reduce((total, { count }) => total + count, 0)
const range = (count: number) => Array.from({ length: count }, (_, n) => n)

/** Four letters that differ in everything; the first two are a day older. */
const variety = Effect.gen(function*() {
  const fates: Record<string, Fate> = {
    a: { dead: "exhausted", message: "100% of the wards are closed" },
    b: { dead: "rejected", message: "simulation 'knee' is closed" },
    c: { dead: "undecodable", message: "expected a text at messages[0] 🩺", handler: "" },
    d: { dead: "exhausted", message: "the ward is closed", handler: "core/patient-results" }
  }
  const byCall = (chunk: { readonly key: { readonly callId: string } }) => fates[chunk.key.callId]!
  yield* record(call("a"), call("b", { namespace: "triage" }))
  yield* settle(byCall)
  yield* (yield* Time).pass("1 day")
  yield* record(call("c", {}, { part: "second" }), call("d", {}, { schema: results }))
  yield* settle(byCall)
})

export const deadLetters = topic("deadLetters", (test) => {
  test("a filter lists the matching dead letters, the latest first, page by page, and the count agrees", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      yield* variety
      const found: ReadonlyArray<readonly [DeadLetterFilter, string]> = [
        [{}, "dcba"],
        [{ callId: "c" }, "c"],
        [{ namespace: "triage" }, "b"],
        [{ namespace: "chatlab", schemaIdentity: reply }, "ca"],
        [{ part: "" }, "dba"],
        [{ part: "second" }, "c"],
        [{ handler: "" }, "c"],
        [{ handler: "core/patient-results" }, "d"],
        [{ reason: "exhausted" }, "da"],
        [{ reason: "crashing" }, ""],
        [{ olderThan: Duration.hours(1) }, "ba"],
        [{ newerThan: Duration.hours(1) }, "dc"],
        [{ olderThan: Duration.hours(1), newerThan: Duration.days(2) }, "ba"],
        [{ olderThan: Duration.infinity }, ""],
        [{ newerThan: Duration.infinity }, "dcba"],
        [{ text: "closed" }, "dba"],
        [{ text: "%" }, "a"],
        [{ text: "_" }, ""],
        [{ text: "'knee'" }, "b"],
        [{ text: "🩺" }, "c"],
        [{ text: "CLOSED" }, ""],
        [{ reason: "exhausted", text: "100%" }, "a"],
        [{ callId: "' or true --" }, ""],
        [{ callId: "a\0" }, ""],
        [{ text: "\0" }, ""],
        [{ discarded: true }, ""]
      ]
      for (const [filter, expected] of found) {
        const list = yield* letters.list(filter, { limit: 10 })
        expect([filter, list.map((letter) => letter.key.callId).join("")]).toEqual([filter, expected])
        expect([filter, sum(yield* letters.count(filter))]).toEqual([filter, expected.length])
      }
      const page = yield* letters.list({}, { limit: 2, offset: 1 })
      expect(page.map((letter) => letter.key.callId)).toEqual(["c", "b"])
      expect(yield* letters.count({})).toEqual([
        { namespace: "chatlab", schemaIdentity: reply, reason: "exhausted", count: 1 },
        { namespace: "chatlab", schemaIdentity: reply, reason: "undecodable", count: 1 },
        { namespace: "chatlab", schemaIdentity: results, reason: "exhausted", count: 1 },
        { namespace: "triage", schemaIdentity: reply, reason: "rejected", count: 1 }
      ])
    }))

  test("a dead letter shows its whole history, before and after a redrive, and the recorded answer", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      const time = yield* Time
      yield* record(call("a", { orderingKey: "knee" }))
      yield* settle({ retry: "1 minute" })
      yield* time.pass("2 minutes")
      yield* settle({ dead: "exhausted", message: "still closed" })
      yield* letters.redrive({})
      yield* settle({ dead: "rejected", message: "closed\0for good" })

      const detail = Option.getOrThrow(yield* letters.inspect(keyOf("a")))
      expect(detail.letter).toMatchObject({
        key: keyOf("a"),
        namespace: "chatlab",
        schemaVersion: 1,
        orderingKey: "knee",
        handler: "chatlab/patient-reply",
        reason: "rejected",
        attempts: 1,
        crashes: 0,
        discarded: null
      })
      expect(detail.failures.map(({ attempt, message }) => [attempt, message.replace("\0", "\\0")])).toEqual([
        [1, "the ward is closed"],
        [2, "still closed"],
        [1, "closed\\0for good"]
      ])
      expect(detail.data).toEqual({ text: "Ouch, a." })
      expect(yield* letters.inspect(keyOf("b"))).toEqual(Option.none())
    }))

  test("a redrive moves as many as were counted: due at once, without attempts, at their old place, with their history", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const letters = yield* DeadLetters.DeadLetters
      yield* record(call("old-1"), call("old-2"), call("other"))
      yield* settle((chunk) => ({ dead: chunk.key.callId === "other" ? "rejected" : "exhausted" }))
      yield* (yield* Time).pass("1 minute")
      yield* record(call("young"))

      const preview = sum(yield* letters.count({ reason: "exhausted" }))
      expect(preview).toBe(2)
      expect(yield* letters.redrive({ reason: "exhausted" })).toBe(preview)
      expect(yield* letters.redrive({ reason: "exhausted" })).toBe(0)
      expect((yield* letters.list({}, { limit: 10 })).map((letter) => letter.key.callId)).toEqual(["other"])

      const { chunks } = yield* store.claim({ worker: "test", limit: 2, maxBytes: 1e9, lease: Duration.minutes(1) })
      expect(idsOf(chunks)).toEqual(["old-1", "old-2"])
      expect(chunks.map(({ attempts, crashes }) => [attempts, crashes])).toEqual([[0, 0], [0, 0]])
      expect(chunks[0]?.payload).toEqual({ data: { text: "Ouch, old-1." } })
      const view = Option.getOrThrow(yield* inspect.call("old-1"))
      expect(view.chunks[0]?.failures).toHaveLength(1)
      expect(view.chunks[0]?.death).toBe(null)
    }))

  test("two redrives at once move many dead letters in portions, each of them once", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      yield* record(...range(2345).map((n) => call(`call-${n}`)))
      yield* settle({ dead: "exhausted" })
      const moved = yield* Effect.all([letters.redrive({}), letters.redrive({})], { concurrency: "unbounded" })
      expect(moved[0] + moved[1]).toBe(2345)
      expect((yield* settle("persisted")).length).toBe(2345)
    }))

  test("a dead letter that was persisted meanwhile is not persisted again, and frees its ordering key", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const letters = yield* DeadLetters.DeadLetters
      yield* record(call("a", { orderingKey: "knee" }), call("b", { orderingKey: "knee" }))
      yield* settle((chunk) => chunk.key.callId === "a" ? { dead: "exhausted" } : "released")
      expect(yield* settle("persisted")).toEqual([])
      const byHand = Effect.succeed([DomainObject.make("chatlab.Message", "by hand")])
      yield* store.once({ key: keyOf("a"), namespace: "chatlab", handler: "by hand" }, byHand)

      // it is a dead letter no more, and nothing is left to redrive
      expect(yield* letters.count({})).toEqual([])
      expect(yield* letters.redrive({})).toBe(0)
      expect(yield* settle("persisted")).toEqual(["b"])
      const [entry] = yield* store.ledger([keyOf("a")])
      expect(entry?.handler).toBe("by hand")
    }))

  test("a chunk that is persisted between redrive and claim is not persisted again", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(call("a"))
      yield* settle({ dead: "exhausted" })
      yield* (yield* DeadLetters.DeadLetters).redrive({})
      const { chunks, token } = yield* claim
      const byHand = Effect.succeed([DomainObject.make("chatlab.Message", "by hand")])
      yield* store.once({ key: keyOf("a"), namespace: "chatlab", handler: "by hand" }, byHand)
      const again = { chunk: chunks[0]!, handler: "chatlab/patient-reply", handlerVersion: 1, objects: [] }
      const error = yield* Effect.flip(store.persist(token, () => Effect.succeed([again])))
      expect(["LeaseLost", "AlreadyPersisted"]).toContain(error._tag)
      expect(yield* store.ledger([keyOf("a")])).toMatchObject([{ handler: "by hand" }])
    }))

  test("a redriven chunk goes before those that waited behind it", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      yield* record(...["a", "b", "c"].map((id) => call(id, { orderingKey: "knee" })))
      yield* settle((chunk) => chunk.key.callId === "a" ? { dead: "exhausted" } : "released")
      expect(yield* settle("persisted")).toEqual([])
      yield* letters.redrive({})
      const order: Array<string> = []
      for (let left = 10; left > 0; left--) order.push(...(yield* settle("persisted")))
      expect(order).toEqual(["a", "b", "c"])
    }))

  test("a discarded dead letter frees its key, is kept with its reason, and is redriven only on request", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      yield* record(...["a", "b", "c"].map((id) => call(id, { orderingKey: "knee" })), call("d"))
      yield* settle((chunk) =>
        chunk.key.callId === "a" || chunk.key.callId === "d" ? { dead: "exhausted" } : "released"
      )
      expect(yield* settle("persisted")).toEqual([])
      expect(yield* statesOf("b")).toEqual(["waiting"])

      expect(yield* letters.discard({ callId: "a" }, "the session was a rehearsal")).toBe(1)
      expect(yield* letters.discard({ callId: "a" }, "again")).toBe(0)
      expect(yield* letters.discard({ callId: "a", discarded: true }, "again")).toBe(0)
      expect(yield* settle("persisted")).toEqual(["b", "c"])

      expect(yield* statesOf("a")).toEqual(["discarded"])
      expect((yield* letters.list({}, { limit: 10 })).map((letter) => letter.key.callId)).toEqual(["d"])
      const put = yield* letters.list({ discarded: true }, { limit: 10 })
      expect(put.map(({ discarded, key }) => [key.callId, discarded?.reason])).toEqual([
        ["a", "the session was a rehearsal"]
      ])
      expect(yield* letters.redrive({})).toBe(1)
      expect(yield* settle("persisted")).toEqual(["d"])
      expect(yield* letters.redrive({ discarded: true })).toBe(1)
      expect(yield* settle("persisted")).toEqual(["a"])
    }))

  test("no chunk stays behind a dead letter that is discarded while others claim", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      const keys = range(30).map((n) => `simulation-${n}`)
      yield* record(...keys.flatMap((key) => [`${key}:a`, `${key}:b`].map((id) => call(id, { orderingKey: key }))))
      // the first of each key dies; the second is found to be behind it, or not, while the first is discarded
      yield* settle((chunk) => chunk.key.callId.endsWith(":a") ? { dead: "exhausted" } : "released")
      const persisted: Array<string> = []
      yield* Effect.forEach(keys, (key) =>
        Effect.all([
          Effect.map(settle("persisted"), (ids) => persisted.push(...ids)),
          letters.discard({ callId: `${key}:a` }, "")
        ], { concurrency: "unbounded" }), { concurrency: 4 })
      persisted.push(...(yield* settle("persisted")))
      expect(persisted.sort()).toEqual(keys.map((key) => `${key}:b`).sort())
    }))
})
