/**
 * What is recorded of a subject is forgotten for good, and what was forgotten is on record, on every store.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as CallRecorder from "../../CallRecorder.ts"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DeadLetters from "../../DeadLetters.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as Erasure from "../../Erasure.ts"
import type * as ServiceCall from "../../ServiceCall.ts"
import { call, claim, keyOf, persist, record, settle, statesOf } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"

const { Call, Context, Correlation } = Erasure.Subject
const reason: Erasure.ErasureReason = { because: "asked for in letter 12", by: "records office" }
const nothing: Erasure.Erased = { calls: 0, chunks: 0, deadLetters: 0, failures: 0, objects: [] }

/** Erases, having asked before and after what there is to erase. */
const erase = Effect.fnUntraced(function*(subject: Erasure.Subject) {
  const erasure = yield* Erasure.Erasure
  const preview = yield* erasure.preview(subject)
  const erased = yield* erasure.erase(subject, reason)
  expect(erased).toEqual(preview)
  expect(yield* erasure.preview(subject)).toEqual(nothing)
  return erased
})

const list = Erasure.Erasure.use((erasure) => erasure.list({ limit: 10 }))
const viewOf = (callId: string) => Effect.map(inspect.call(callId), Option.getOrThrow)

/** A call of Miller's: the name stands wherever a name can stand. */
const millers = (callId: string, fields: Partial<ServiceCall.ServiceCall> = {}) =>
  call(callId, {
    context: { patientId: "Miller", ward: 3 },
    input: { ask: "Miller" },
    details: { said: "Miller" },
    correlationId: "talk with Miller",
    orderingKey: "Miller",
    trace: { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", sampled: true },
    ...fields
  }, { data: { text: "Miller hurts." } })

export const erasure = topic("erasure", (test) => {
  test("the payloads, chunks, dead letters and failures of a subject are deleted; keys, the ledger and other calls stay", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      const { orderingKey: _, ...free } = millers("x")
      const own = (callId: string) => ({ ...free, callId })
      yield* record(...["done", "dead", "away", "retry", "parked"].map(own), call("others"))
      yield* settle(({ key: { callId } }) => {
        if (callId === "done" || callId === "others") return "persisted"
        if (callId === "parked") return "parked"
        return callId === "retry" ? { retry: "1000 days" } : { dead: "exhausted", message: "no bed for Miller" }
      })
      yield* letters.discard({ callId: "away" }, "Miller went home")
      yield* record(millers("first"), millers("second"), call("bystander"))
      const held = yield* claim
      expect(held.chunks.map(({ key }) => key.callId).sort()).toEqual(["bystander", "first", "second"])

      const before = yield* viewOf("others")
      expect(yield* erase(Context({ key: "patientId", value: "Miller" }))).toEqual({
        calls: 7,
        chunks: 4,
        deadLetters: 2,
        failures: 3,
        objects: [DomainObject.make("chatlab.Message", "message of done")]
      })
      for (const callId of ["done", "dead", "away", "retry", "parked", "first", "second"]) {
        const view = yield* viewOf(callId)
        expect(JSON.stringify(view)).not.toContain("Miller")
        expect(view).toMatchObject({
          callId,
          correlationId: callId,
          status: "succeeded",
          context: {},
          trace: null,
          outputs: null,
          erasure: expect.aNumber
        })
        expect(yield* statesOf(callId)).toEqual(callId === "done" ? ["persisted"] : [])
      }
      expect(yield* letters.list({}, { limit: 10 })).toEqual([])
      expect(yield* letters.list({ discarded: true }, { limit: 10 })).toEqual([])
      expect(yield* viewOf("others")).toEqual(before)
      // the ledger answers for ever
      const store = yield* ChunkStore.ChunkStore
      expect(yield* store.ledger([keyOf("done")])).toMatchObject([{ objects: [{ id: "message of done" }] }])

      // whoever holds one of them cannot end it, in any way
      expect(yield* Effect.flip(persist(held))).toMatchObject({ _tag: "LeaseLost", claimed: 3, held: 1 })
      const buried = yield* store.settle(
        held.token,
        held.chunks.map((chunk) =>
          ChunkStore.Settlement.Bury({
            chunk,
            reason: "exhausted",
            charge: true,
            failure: { handler: "h", kind: "failed", message: "no bed for Miller" }
          })
        )
      )
      expect(buried.map(({ settlement }) => settlement.chunk.key.callId)).toEqual(["bystander"])
      expect((yield* letters.list({}, { limit: 10 })).map(({ key }) => key.callId)).toEqual(["bystander"])
      expect(yield* list).toMatchObject([{
        id: (yield* viewOf("done")).erasure,
        by: "records office",
        because: "asked for in letter 12",
        subject: "context",
        contextKey: "patientId",
        calls: 7,
        chunks: 4,
        deadLetters: 2,
        failures: 3
      }])
      expect((yield* list)[0]?.finishedAt).not.toBe(null)
    }))

  test("an erased call is neither recorded nor run again, whatever its content", () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      const store = yield* ChunkStore.ChunkStore
      const spec = (one: ServiceCall.ServiceCall) => {
        const { outputs: _, ...rest } = one
        return rest
      }
      yield* record(millers("done"))
      const facts = { requestModel: "gpt-4o-mini", inputTokens: 7 }
      yield* Effect.flip(recorder.run(spec(millers("failed")), (run) =>
        Effect.andThen(run.answered({ text: "Miller hurts", facts }), Effect.fail("the model knows no Miller"))))
      for (const callId of ["done", "failed"]) {
        expect(yield* erase(Call({ callId }))).toMatchObject({ calls: 1 })
        expect(yield* recorder.record(millers(callId))).toBe("erased")
        expect(yield* recorder.record(call(callId, { namespace: "triage" }))).toBe("erased")
        const many = yield* recorder.recordMany([millers(callId), millers(callId), call(`new-${callId}`)])
        expect(many.map((one) =>
          one._tag === "Success" ? one.success : one.failure._tag
        )).toEqual(
          ["erased", "erased", "recorded"]
        )
        let paid = 0
        const service = Effect.sync(() => {
          paid++
          return millers(callId).outputs
        })
        const error = yield* Effect.flip(recorder.run(spec(millers(callId)), service))
        expect(error).toMatchObject({ _tag: "CallErased", callId })
        expect(error.message).toContain("was erased")
        expect(paid).toBe(0)
        expect((yield* viewOf(callId)).outputs).toBe(null)
      }
      // what was paid for is still told
      const failed = yield* viewOf("failed")
      expect(failed).toMatchObject({
        status: "invalid",
        error: null,
        facts: { inputTokens: 7 },
        attempts: [{ text: null, error: null, length: 12, facts }]
      })
      expect(JSON.stringify([failed, yield* recorder.find("failed")])).not.toContain("Miller")
      expect((yield* claim).chunks.map(({ key }) => key.callId).sort()).toEqual(["new-done", "new-failed"])
      expect(yield* store.begin(spec(millers("done")), Duration.minutes(1))).toEqual({ _tag: "Erased" })
    }).pipe(Effect.provide(CallRecorder.layer)))

  test("a call that is erased while its service runs is not recorded when the answer comes", () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      const { outputs, ...spec } = millers("a")
      const erasing = erase(Context({ key: "patientId", value: "Miller" }))
      const error = yield* Effect.flip(recorder.run(spec, Effect.as(erasing, outputs)))
      expect(error).toMatchObject({ _tag: "CallErased", callId: "a" })
      // nor is why it failed
      const { outputs: _, ...other } = millers("b")
      const failing = recorder.run(other, Effect.andThen(erase(Call({ callId: "b" })), Effect.fail("no Miller here")))
      expect(yield* Effect.flip(failing)).toBe("no Miller here")
      for (const callId of ["a", "b"]) {
        expect(yield* viewOf(callId)).toMatchObject({ status: "failed", error: null, outputs: null, context: {} })
      }
      expect((yield* claim).chunks).toEqual([])
    }).pipe(Effect.provide(CallRecorder.layer)))

  test("chunks behind an erased chunk or an erased dead letter are claimed", () =>
    Effect.gen(function*() {
      yield* record(...["a", "b"].map((id) => call(id, { orderingKey: "knee" })))
      yield* settle((chunk) => chunk.key.callId === "a" ? { dead: "rejected" } : "released")
      expect((yield* claim).chunks).toEqual([])
      expect(yield* statesOf("b")).toEqual(["waiting"])
      yield* erase(Call({ callId: "a" }))
      expect(yield* settle({ retry: "1000 days" })).toEqual(["b"])
      yield* record(call("c", { orderingKey: "knee" }))
      expect((yield* claim).chunks).toEqual([])
      yield* erase(Call({ callId: "b" }))
      expect(yield* settle("persisted")).toEqual(["c"])
    }), { deadBlocksKey: true })

  test("a subject is a call, a correlation id or a value of the context, and nothing else is erased", () =>
    Effect.gen(function*() {
      yield* record(
        call("a", { correlationId: "b" }),
        call("b"),
        call("number", { context: { patientId: 7 } }),
        call("text", { context: { patientId: "7" } }),
        call("none", { context: { patientId: null } }),
        call("deep", { context: { other: { patientId: "7" } } }),
        call("list", { context: { patientId: ["7", true] } })
      )
      const ids = (subject: Erasure.Subject) => Effect.map(erase(subject), ({ calls }) => calls)
      expect(yield* ids(Call({ callId: "nobody's" }))).toBe(0)
      expect(yield* ids(Call({ callId: "a\0" }))).toBe(0)
      expect(yield* ids(Context({ key: "patientId", value: "null" }))).toBe(0)
      expect(yield* ids(Context({ key: "toString", value: "7" }))).toBe(0)
      // nothing was found, so nothing is on record
      expect(yield* list).toEqual([])
      expect(yield* ids(Context({ key: "patientId", value: "7" }))).toBe(2)
      expect(yield* ids(Context({ key: "patientId", value: "[\"7\",true]" }))).toBe(1)
      expect(yield* ids(Correlation({ correlationId: "b" }))).toBe(2)
      expect((yield* list).map(({ calls, contextKey, subject }) => [subject, contextKey, calls])).toEqual([
        ["correlation", null, 2],
        ["context", "patientId", 1],
        ["context", "patientId", 2]
      ])
      expect((yield* viewOf("deep")).erasure).toBe(null)
    }))

  test("many calls are erased in portions, and other calls in between are skipped", () =>
    Effect.gen(function*() {
      const count = 1700
      const others = (n: number) => n % 3 === 0
      yield* record(
        ...Array.from({ length: count }, (_, n) => others(n) ? call(`call-${n}`) : { ...millers(`call-${n}`) })
      )
      const gone = count - Math.ceil(count / 3)
      expect(yield* erase(Correlation({ correlationId: "talk with Miller" }))).toEqual({
        ...nothing,
        calls: gone,
        chunks: gone
      })
      expect(yield* list).toMatchObject([{ calls: gone, chunks: gone }])
      expect((yield* claim).chunks).toHaveLength(count - gone)
    }))
})
