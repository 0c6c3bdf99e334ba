/**
 * What people are told of a call, on every store: where each chunk stands, who holds it, and what holds it up.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ChunkStore from "../../ChunkStore.ts"
import type { ClaimedChunk, Settlement } from "../../ChunkStore.ts"
import * as DeadLetters from "../../DeadLetters.ts"
import * as DomainObject from "../../DomainObject.ts"
import { call, claim, keyOf, record, reply, settle } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"

const view = (callId: string) => Effect.map(inspect.call(callId), Option.getOrThrow)
const chunk = (callId: string) => Effect.map(view(callId), ({ chunks: [first] }) => first)
const knee = { orderingKey: "knee" }

export const views = topic("views", (test) => {
  test("a call shows its context and the trace of its request", () =>
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

  test("a chunk shows the worker that holds it, until it is given back", () =>
    Effect.gen(function*() {
      yield* record(call("a"))
      const { chunks, token } = yield* claim
      expect(yield* chunk("a")).toMatchObject({ state: "in-flight", leasedBy: "test" })
      const store = yield* ChunkStore.ChunkStore
      yield* store.settle(token, chunks.map((chunk) => ({ _tag: "Release", chunk })))
      expect(yield* chunk("a")).toMatchObject({ state: "ready", leasedBy: null })
    }))

  test("a parked chunk shows why it is parked", () =>
    Effect.gen(function*() {
      yield* record(call("a"))
      yield* settle("parked")
      expect(yield* chunk("a")).toMatchObject({ state: "parked", parkedFor: "no-handler" })
    }))

  test("a call with many outputs, each with failures and many objects, is read whole, in the order of its outputs", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const size = 600
      const part = (index: number) => `part-${(index * 7) % size}`
      yield* record(call("many", {
        outputs: Array.from({ length: size }, (_, index) => ({
          schema: reply,
          version: 1,
          part: part(index),
          data: { text: `${index} ${"x".repeat(10_000)}` }
        }))
      }))
      const text = (chunk: ClaimedChunk, what: string) => `${what} ${chunk.key.part} ${"\u0001".repeat(3000)}`
      const failing = (chunk: ClaimedChunk, delay: number): Settlement => ({
        _tag: "Retry",
        chunk,
        delay: Duration.millis(delay),
        failure: { handler: "chatlab/patient-reply", kind: "failed", message: text(chunk, "once") }
      })
      for (const delay of [0, 0]) {
        const { chunks, token } = yield* claim
        yield* store.settle(token, chunks.map((chunk) => failing(chunk, delay)))
      }
      const { chunks, token } = yield* claim
      expect(chunks).toHaveLength(size)
      // each of a third is persisted, dead, and outstanding
      const third = (chunk: ClaimedChunk) => Number(chunk.key.part.slice(5)) % 3
      const objects = Array.from({ length: 300 }, (_, n) => DomainObject.make("chatlab.Message", `message ${n}`))
      yield* store.persist(token, () =>
        Effect.succeed(
          chunks.filter((chunk) => third(chunk) === 0).map((chunk) => (
            { chunk, handler: "chatlab/patient-reply", handlerVersion: 1, objects }
          ))
        ))
      yield* store.settle(
        token,
        chunks.filter((chunk) => third(chunk) !== 0).map((chunk): Settlement =>
          third(chunk) === 1
            ? failing(chunk, 3_600_000)
            : {
              _tag: "Bury",
              chunk,
              reason: "exhausted",
              charge: true,
              failure: { handler: "chatlab/patient-reply", kind: "failed", message: text(chunk, "at last") }
            }
        )
      )
      const shown = yield* view("many")
      expect(shown.outputs).toHaveLength(size)
      expect(shown.chunks.map(({ key }) => key.part)).toEqual(Array.from({ length: size }, (_, index) => part(index)))
      const states = ["persisted", "scheduled", "dead"]
      for (const { failures, key, ledger, state } of shown.chunks) {
        const index = Number(key.part.slice(5)) % 3
        expect([key.part, state, failures.length, ledger?.objects.length]).toEqual([
          key.part,
          states[index],
          index === 0 ? 2 : 3,
          index === 0 ? 300 : undefined
        ])
      }
      const entries = yield* store.ledger(shown.chunks.map(({ key }) => key))
      expect(entries).toHaveLength(size / 3)
      expect(entries.every((entry) => entry.objects.length === 300)).toBe(true)
    }))

  test("very many objects of one ledger row are all read, in order", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(call("a"))
      const { chunks, token } = yield* claim
      // more than one message holds: a line may have been written before there was a limit
      const objects = Array.from({ length: 40_000 }, (_, n) =>
        DomainObject.make("clinic.ward.Observation", `observation-${String(n).padStart(440, "0")}`))
      yield* store.persist(token, () =>
        Effect.succeed([{ chunk: chunks[0]!, handler: "chatlab/patient-reply", handlerVersion: 1, objects }]))
      const shown = yield* chunk("a")
      expect(shown?.ledger?.objects.length).toBe(objects.length)
      expect(shown?.ledger?.objects[12_345]).toEqual(objects[12_345])
      const [entry] = yield* store.ledger([keyOf("a")])
      expect(entry?.objects.at(-1)).toEqual(objects.at(-1))
    }))

  test("a chunk shows the oldest chunk before it in its ordering key, outstanding or dead", () =>
    Effect.gen(function*() {
      yield* record(call("other"), call("first", knee), call("second", knee), call("third", knee))
      expect(yield* chunk("first")).toMatchObject({ behind: null })
      expect(yield* chunk("second")).toMatchObject({ behind: "first" })
      expect(yield* chunk("third")).toMatchObject({ behind: "first" })
      yield* settle((one) => one.key.callId === "first" ? { dead: "rejected" } : "released")
      expect(yield* chunk("third")).toMatchObject({ behind: "first" })
      yield* DeadLetters.DeadLetters.use((letters) => letters.discard({ callId: "first" }, "said twice"))
      expect(yield* chunk("second")).toMatchObject({ behind: null })
      expect(yield* chunk("third")).toMatchObject({ behind: "second" })
    }))
})
