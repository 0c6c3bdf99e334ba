/**
 * The claim, on every store: what is taken, in which order, by whom, and until when.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ChunkStore from "../../ChunkStore.ts"
import type { ClaimedChunk, ClaimRequest, Settlement } from "../../ChunkStore.ts"
import * as Inspector from "../../Inspector.ts"
import { call, claim, claimWith, giveBack, idsOf, record, reply, results, settle, statesOf } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"
import { Edits, Rows, Time } from "./services.ts"

/** Call ids in the order they were claimed in. */
const takenWith = (request: Partial<ClaimRequest>) =>
  Effect.map(claimWith(request), ({ chunks }) => chunks.map((chunk) => chunk.key.callId))

const dataOf = (chunk: ClaimedChunk | undefined) =>
  chunk !== undefined && "data" in chunk.payload ? chunk.payload.data : undefined

export const claiming = topic("claiming", (test) => {
  test("a claim takes the oldest chunks first, as many as asked for, and nobody else can claim them", () =>
    Effect.gen(function*() {
      for (const id of ["a", "b", "c", "d", "e"]) yield* record(call(id))
      expect(yield* takenWith({ limit: 2 })).toEqual(["a", "b"])
      expect(yield* statesOf("a")).toEqual(["in-flight"])
      expect(yield* takenWith({ limit: 2 })).toEqual(["c", "d"])
      expect(yield* takenWith({ limit: 2 })).toEqual(["e"])
      expect(yield* takenWith({ limit: 2 })).toEqual([])
    }))

  test("concurrent workers never claim the same chunk", () =>
    Effect.gen(function*() {
      const ids = Array.from({ length: 200 }, (_, n) => `call-${n}`)
      yield* record(...ids.map((id) => call(id)))
      const shares = yield* Effect.forEach(
        Array.from({ length: 30 }),
        () => takenWith({ limit: 10 }),
        { concurrency: 8 }
      )
      const rest = yield* takenWith({ limit: 1000 })
      expect([...shares.flat(), ...rest].sort()).toEqual([...ids].sort())
    }))

  test("a claim takes no more bytes than asked for, but at least one chunk", () =>
    Effect.gen(function*() {
      const big = (id: string) => call(id, {}, { data: { text: "x".repeat(1000) } })
      yield* record(big("a"), big("b"), big("c"))
      expect(yield* takenWith({ maxBytes: 10 })).toEqual(["a"])
      expect(yield* takenWith({ maxBytes: 2600 })).toEqual(["b", "c"])
    }))

  test("what the chunks of a call share is read, and its bytes counted, once", () =>
    Effect.gen(function*() {
      const outputs = Array.from({ length: 60 }, (_, n) => ({ schema: reply, version: 1, part: `${n}`, data: n }))
      const input = "x".repeat(50_000)
      yield* record(call("a", { outputs, input }), call("b", { outputs, input }))
      // all of one, and of the other what has room
      const first = yield* claimWith({ maxBytes: 60_000 })
      expect(first.chunks.map(({ key, payload }) => [key.callId, key.part, payload])).toEqual(
        outputs.map(({ data, part }) => ["a", part, { data }])
      )
      expect(first.chunks.every(({ call }) => call.input === input && call.outputs === 60)).toBe(true)
      expect(first.chunks.every(({ call }) => call.context["simulationId"] === "knee")).toBe(true)
      const second = yield* claimWith({ maxBytes: 52_000 })
      expect(second.chunks.length).toBeGreaterThan(10)
      expect(second.chunks.length).toBeLessThan(60)
      // one that comes with nothing before it brings it all
      const third = yield* claimWith({ maxBytes: 1, limit: 1 })
      expect(third.chunks[0]?.call).toMatchObject({
        input,
        service: call("b").service,
        correlationId: "b",
        outputs: 60
      })
    }))

  test("each chunk has its own output, whichever chunks of its call are claimed together", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const outputs = Array.from({ length: 40 }, (_, n) => ({ schema: reply, version: 1, part: `${n}`, data: { n } }))
      yield* record(
        call("single"),
        call("a", { outputs }),
        call("b", { outputs: outputs.slice(0, 7) }),
        call("c", { outputs })
      )
      const isRight = (chunk: ClaimedChunk) =>
        chunk.key.part === "" || Number(chunk.key.part) === (dataOf(chunk) as { n: number }).n
      for (let round = 0; round < 5; round++) {
        const { chunks, token } = yield* claimWith({})
        expect(chunks.map((chunk) => [chunk.key, isRight(chunk)])).toEqual(chunks.map(({ key }) => [key, true]))
        expect(chunks.every(({ call: { context, input } }) => context["simulationId"] === "knee" && input !== null))
          .toBe(true)
        // some of them again, in an order of their own
        const again = chunks.filter((_, index) => index % 3 !== round % 3)
        yield* store.settle(
          token,
          again.map((chunk, index): Settlement => ({
            _tag: "Retry",
            chunk,
            delay: Duration.millis((index * 7) % 11),
            failure: { handler: "chatlab/patient-reply", kind: "failed", message: "once" }
          }))
        )
        yield* (yield* Time).pass("1 second")
      }
    }))

  test("changing the context or input of one chunk does not affect the others of its call", () =>
    Effect.gen(function*() {
      const outputs = ["a", "b"].map((part) => ({ schema: reply, version: 1, part, data: { list: [1] } }))
      yield* record(call("a", { outputs, context: { list: [1] }, input: { list: [1] } }))
      const { chunks: [one, other] } = yield* claimWith({})
      for (const value of [one?.call.context, one?.call.input, dataOf(one)]) {
        // what a handler without types may do
        ;(value as { readonly list: Array<number> }).list.push(2)
      }
      expect([other?.call.context, other?.call.input, dataOf(other)]).toEqual([{ list: [1] }, { list: [1] }, {
        list: [1]
      }])
    }))

  test("a claim can be limited to a namespace or a call, and leaves out kinds that only other workers serve", () =>
    Effect.gen(function*() {
      yield* record(
        call("a"),
        call("b", { namespace: "triage" }),
        call("c", { namespace: "triage" }, { schema: results }),
        call("d", { outputs: [{ schema: reply, version: 1, data: 1 }, { schema: results, version: 1, data: 2 }] })
      )
      expect(yield* takenWith({ namespace: "triage", limit: 1 })).toEqual(["b"])
      expect(yield* takenWith({ callId: "d" })).toEqual(["d", "d"])
      expect(yield* takenWith({ except: [{ namespace: "triage", schemaIdentity: results }] })).toEqual(["a"])
      // what is served for all namespaces elsewhere is left alone in all of them
      expect(yield* takenWith({ except: [{ namespace: "core", schemaIdentity: results }] })).toEqual([])
      expect(yield* takenWith({})).toEqual(["c"])
    }))

  test("each step of priority is a head start of one minute", () =>
    Effect.gen(function*() {
      const time = yield* Time
      yield* record(call("old"))
      yield* time.pass("3 minutes")
      yield* record(call("plain"), call("urgent", { priority: 2 }), call("most urgent", { priority: 5 }))
      expect(yield* takenWith({})).toEqual(["most urgent", "old", "urgent", "plain"])
    }))

  test("priority counts however a call is recorded, and for its retries", () =>
    Effect.gen(function*() {
      yield* record(call("plain"))
      yield* record(call("urgent", { priority: 5 }))
      yield* record(call("plain too"), call("urgent too", { priority: 4 }))
      const order = ["urgent", "urgent too", "plain", "plain too"]
      const first = yield* claimWith({ limit: 4 })
      expect(first.chunks.map((chunk) => chunk.key.callId)).toEqual(order)
      yield* giveBack(first)
      // the urgent ones are due last
      const delays = new Map([["plain", 1], ["plain too", 2], ["urgent too", 3], ["urgent", 4]])
      yield* settle(({ key }) => ({ retry: Duration.seconds(delays.get(key.callId) ?? 0) }))
      yield* (yield* Time).pass("1 hour")
      expect(yield* takenWith({})).toEqual(order)
    }))

  test("many chunks of a higher priority go before one of priority 0 only for their head start", () =>
    Effect.gen(function*() {
      const time = yield* Time
      yield* record(call("plain"))
      const taken: Array<ReadonlyArray<string>> = []
      // twice as many as are claimed, each minute
      for (let minute = 0; minute < 8; minute++) {
        yield* record(...Array.from({ length: 10 }, (_, n) => call(`urgent-${minute}-${n}`, { priority: 3 })))
        taken.push(yield* takenWith({ limit: 5, lease: Duration.hours(1) }))
        yield* time.pass("1 minute")
        // a store may remember for a second where it was, and no minute has really passed
        yield* (yield* ChunkStore.ChunkStore).giveUp(crypto.randomUUID())
      }
      // behind those of the first three minutes, which take six to claim
      expect(taken.map((ids) => ids.indexOf("plain"))).toEqual([-1, -1, -1, -1, -1, -1, 0, -1])
    }))

  test("a lease that ran out counts as a crash, not as an attempt, and the chunk is claimed alone from then on", () =>
    Effect.gen(function*() {
      const time = yield* Time
      yield* record(call("a"), call("b"))
      const first = yield* claim
      yield* record(call("fresh"))
      yield* time.pass("61 seconds")
      // each of the two alone, and the fresh one is not held up by them
      const second = yield* claim
      expect(second.chunks).toHaveLength(1)
      expect(second.chunks[0]).toMatchObject({ key: { callId: "a" }, attempts: 0, crashes: 1, loneCrashes: 0 })
      expect(second.token).not.toBe(first.token)
      expect(idsOf((yield* claim).chunks)).toEqual(["b"])
      expect(idsOf((yield* claim).chunks)).toEqual(["fresh"])
      expect(idsOf((yield* claim).chunks)).toEqual([])
      // its worker says that it has nothing else under way: what happens from now on is the chunk's doing
      yield* (yield* ChunkStore.ChunkStore).renew(second.token, second.chunks, Duration.minutes(1), true)
      yield* time.pass("61 seconds")
      const third = yield* claim
      expect(third.chunks).toMatchObject([{ key: { callId: "a" }, attempts: 0, crashes: 2, loneCrashes: 1 }])
      const fourth = yield* claim
      expect(fourth.chunks).toMatchObject([{ key: { callId: "b" }, attempts: 0, crashes: 2, loneCrashes: 0 }])
    }))

  test("a chunk is not claimed by others before its lease ends", () =>
    Effect.gen(function*() {
      const edits = yield* Edits
      const { transaction } = yield* Rows
      yield* record(call("a"))
      yield* claim
      // in one transaction time stands still
      const claimedAt = (span: Duration.Input) =>
        transaction(Effect.andThen(edits.leaseEndsIn("a", span), Effect.map(claim, ({ chunks }) => idsOf(chunks))))
      expect(yield* claimedAt("1 second")).toEqual([])
      expect(yield* claimedAt("1 millis")).toEqual([])
      expect(yield* claimedAt(0)).toEqual([])
      expect(yield* claimedAt(Duration.millis(-1))).toEqual(["a"])
    }))

  test("a worker that was only cut off or frozen did not crash: after its return its crash no longer counts", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const time = yield* Time
      yield* record(call("a"), call("b"), call("c"))
      const cutOff = yield* claim
      yield* time.pass("61 seconds")
      const taken = yield* claim
      expect(taken.chunks).toMatchObject([{ key: { callId: "a" }, crashes: 1 }])
      // it holds none any more and can give back none; what others hold stays theirs
      expect(yield* giveBack({ ...cutOff, chunks: cutOff.chunks.slice(0, 1) })).toEqual([])
      expect(idsOf((yield* claim).chunks)).toEqual(["b"])
      yield* store.giveUp(cutOff.token)
      yield* giveBack(taken)
      // the last one was never taken over, and is given back by the same word; b is another's
      expect((yield* claim).chunks).toMatchObject([
        { key: { callId: "a" }, crashes: 0, loneCrashes: 0 },
        { key: { callId: "c" }, crashes: 0 }
      ])
      yield* time.pass("61 seconds")
      expect((yield* claim).chunks).toMatchObject([{ crashes: 1 }])
    }))

  test("each of several workers takes back its own crash, also that of a chunk it held alone", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const time = yield* Time
      yield* record(call("a"))
      const first = yield* claim
      yield* time.pass("61 seconds")
      const second = yield* claim
      yield* store.renew(second.token, second.chunks, Duration.minutes(1), true)
      yield* time.pass("61 seconds")
      const third = yield* claim
      expect(third.chunks).toMatchObject([{ crashes: 2, loneCrashes: 1 }])
      yield* giveBack(second)
      // said twice it counts once
      yield* giveBack(second)
      yield* giveBack(third)
      const fourth = yield* claim
      expect(fourth.chunks).toMatchObject([{ crashes: 1, loneCrashes: 0 }])
      yield* giveBack(first)
      yield* giveBack(fourth)
      expect((yield* claim).chunks).toMatchObject([{ crashes: 0, loneCrashes: 0 }])
    }))

  test("a handler that hung counts as a crash: its worker cannot take it back", () =>
    Effect.gen(function*() {
      yield* record(call("a"))
      const hung = yield* claim
      yield* (yield* Time).pass("61 seconds")
      const taken = yield* claim
      yield* giveBack(hung, true)
      yield* giveBack(taken)
      expect((yield* claim).chunks).toMatchObject([{ crashes: 1 }])
    }))

  test("renewing extends the lease of the chunks that are still held, and returns them", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const time = yield* Time
      yield* record(call("a"), call("b"))
      const { chunks, token } = yield* claim
      yield* time.pass("45 seconds")
      yield* store.renew(token, chunks, Duration.minutes(1))
      yield* time.pass("45 seconds")
      expect(idsOf((yield* claim).chunks)).toEqual([])
      yield* time.pass("16 seconds")
      expect(idsOf((yield* claim).chunks)).toEqual(["a"])
      const kept = yield* store.renew(token, chunks, Duration.minutes(1))
      expect(idsOf(kept)).toEqual(["b"])
      yield* time.pass("30 seconds")
      expect(idsOf((yield* claim).chunks)).toEqual([])
    }))

  test("a failed chunk is claimed again when it is due, and not sooner", () =>
    Effect.gen(function*() {
      yield* record(call("a"))
      yield* settle({ retry: "10 seconds" })
      expect(yield* takenWith({})).toEqual([])
      yield* (yield* Time).pass("11 seconds")
      const { chunks } = yield* claim
      expect(chunks).toMatchObject([{ key: { callId: "a" }, attempts: 1, crashes: 0 }])
    }))

  test("a store says how many chunks wait until later, and until when", () =>
    Effect.gen(function*() {
      const later = (namespace?: string) => Inspector.Inspector.use((inspector) => inspector.later(namespace))
      yield* record(call("due"))
      expect(yield* later()).toEqual({ chunks: 0, next: undefined })
      yield* record(call("failed"))
      yield* settle({ retry: "10 seconds" })
      const first = (yield* later("chatlab")).next
      const notBefore = DateTime.addDuration(first ?? (yield* DateTime.now), Duration.hours(1))
      yield* record(call("put off", { notBefore }))
      expect(yield* later("chatlab")).toEqual({ chunks: 3, next: first })
      expect(first === undefined).toBe(false)
      expect(yield* later("elsewhere")).toEqual({ chunks: 0, next: undefined })
    }))

  test("a store says when the next chunk will be due", () =>
    Effect.gen(function*() {
      expect((yield* inspect.nextDue)._tag).toBe("None")
      yield* record(call("a"))
      expect((yield* inspect.nextDue)._tag).toBe("Some")
      yield* settle("persisted")
      expect((yield* inspect.nextDue)._tag).toBe("None")
    }))
})
