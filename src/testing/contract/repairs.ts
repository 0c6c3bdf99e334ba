/**
 * A rejected answer is asked for again, and its chunk goes on with the new one, on every store.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { CallAttempt } from "../../CallAttempt.ts"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DeadLetters from "../../DeadLetters.ts"
import * as Erasure from "../../Erasure.ts"
import * as Inspector from "../../Inspector.ts"
import * as Retention from "../../Retention.ts"
import { call, claim, keyOf, persist, record, settle, statesOf } from "./dialogues.ts"
import { expect } from "./expect.ts"
import { topic } from "./scenes.ts"
import { Time } from "./services.ts"

const lease = Duration.minutes(1)
const rejected = { dead: "rejected", message: "the patient has no knee" } as const
const begin = (callId: string, most = 1, part = "") =>
  DeadLetters.DeadLetters.use((letters) => letters.beginRepair(keyOf(callId, undefined, part), { most, lease }))
const taken = (callId: string, most = 1, part = "") => Effect.map(begin(callId, most, part), Option.getOrThrow)
const end = (callId: string, token: string, ended: DeadLetters.RepairEnd, part = "") =>
  DeadLetters.DeadLetters.use((letters) => letters.endRepair(keyOf(callId, undefined, part), token, ended))
const found = (callId: string) =>
  ChunkStore.ChunkStore.use((store) => Effect.map(store.find(callId), Option.getOrThrow))
const answer = { output: { version: 2, data: { text: "It is the elbow, which is a much longer answer." } } }

const attempt = (text: string): CallAttempt => ({
  outcome: "succeeded",
  text,
  length: text.length,
  facts: { inputTokens: 7 },
  error: null,
  at: DateTime.makeUnsafe(0)
})
const usage = {
  schemas: "",
  provider: "openai",
  model: "gpt",
  calls: 0,
  failed: 0,
  invalid: 0,
  attempts: 1,
  inputTokens: 7,
  outputTokens: 0,
  cachedInputTokens: 0,
  reasoningTokens: 0,
  currency: "",
  micros: 0
}

export const repairs = topic("repairs", (test) => {
  test("the new answer takes the place of the rejected one, and the chunk its old place in the order", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      yield* record(
        call("a", {
          orderingKey: "knee",
          outputs: [
            { schema: keyOf("a").schemaIdentity, version: 1, part: "first", data: { text: "It is the knee." } },
            { schema: keyOf("a").schemaIdentity, version: 1, part: "second", data: { text: "It is the hip." } }
          ]
        }),
        call("b", { orderingKey: "knee" })
      )
      yield* settle(({ key: { callId, part } }) => callId === "a" && part === "second" ? rejected : "released")
      const repair = yield* taken("a", 1, "second")
      expect(repair).toMatchObject({
        call: { callId: "a", namespace: "chatlab", input: { user_message: "Does it hurt?" } },
        output: { part: "second", data: { text: "It is the hip." } },
        reason: "the patient has no knee"
      })
      const given = { ...answer, attempts: [attempt("elbow")], usage: [usage] }
      expect(yield* end("a", repair.token, given, "second")).toBe(true)

      expect(yield* letters.count({})).toEqual([])
      const { chunks, token } = yield* claim
      expect(chunks.map(({ key, payload, schemaVersion }) => [key.callId, key.part, schemaVersion, payload])).toEqual([
        ["a", "first", 1, { data: { text: "It is the knee." } }],
        ["a", "second", 2, answer.output],
        ["b", "", 1, { data: { text: "Ouch, b." } }]
      ].map(([callId, part, version, payload]) => [
        callId,
        part,
        version,
        payload === answer.output ? { data: answer.output.data } : payload
      ]))
      yield* persist({ chunks, token })
      const { attempts, call: recorded, status } = yield* found("a")
      expect(status).toBe("succeeded")
      expect(recorded.outputs).toEqual([
        { schema: keyOf("a").schemaIdentity, version: 1, part: "first", data: { text: "It is the knee." } },
        { schema: keyOf("a").schemaIdentity, part: "second", ...answer.output }
      ])
      expect(attempts).toMatchObject([{ text: "elbow", facts: { inputTokens: 7 } }])
      const inspector = yield* Inspector.Inspector
      expect(yield* inspector.usage({ by: "model" })).toMatchObject([{ calls: 0, attempts: 1, inputTokens: 7 }])
      const view = Option.getOrThrow(yield* inspector.call("a"))
      expect(view.chunks[1]?.failures.map(({ kind, message }) => [kind, message])).toEqual([
        ["failed", "the patient has no knee"],
        ["rejected", "asked again: the chunk goes on with a new answer"]
      ])
    }))

  test("an answer is repaired in one place at a time; a repair that lost its lease, or ends twice, changes nothing", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const time = yield* Time
      yield* record(call("a"))
      yield* settle(rejected)
      const first = yield* taken("a")
      expect(yield* begin("a")).toEqual(Option.none())
      yield* time.pass("50 seconds")
      expect(yield* store.renewRun("a", first.token, lease)).toBe(true)
      yield* time.pass("50 seconds")
      expect(yield* begin("a")).toEqual(Option.none())
      yield* time.pass("20 seconds")
      const second = yield* taken("a")
      expect(yield* store.renewRun("a", first.token, lease)).toBe(false)
      const late = { output: { version: 1, data: { text: "late" } }, attempts: [attempt("late")], usage: [usage] }
      expect(yield* end("a", first.token, late)).toBe(false)
      expect(yield* statesOf("a")).toEqual(["dead"])
      expect(yield* end("a", second.token, { ...answer, attempts: [attempt("second")] })).toBe(true)
      expect(yield* end("a", second.token, late)).toBe(false)
      expect(yield* store.renewRun("a", second.token, lease)).toBe(false)
      expect((yield* found("a")).attempts.map(({ text }) => text)).toEqual(["second"])
      expect(yield* settle("persisted")).toEqual(["a"])
    }))

  test("each answer of a repair counts towards the limit, also a refused one; a repair without an answer does not", () =>
    Effect.gen(function*() {
      yield* record(call("a"))
      yield* settle(rejected)
      yield* end("a", (yield* taken("a", 2)).token, {})
      yield* end("a", (yield* taken("a", 2)).token, { refused: "it is no JSON", attempts: [attempt("{")] })
      expect(yield* begin("a", 1)).toEqual(Option.none())
      expect(yield* end("a", (yield* taken("a", 2)).token, answer)).toBe(true)
      yield* settle(rejected)
      expect(yield* begin("a", 2)).toEqual(Option.none())
      expect(yield* statesOf("a")).toEqual(["dead"])
      expect((yield* found("a")).call.outputs[0]?.data).toEqual(answer.output.data)
    }))

  test("only an existing rejected dead letter is repaired, of a call that was neither erased nor pruned", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      const erasure = yield* Erasure.Erasure
      const reason = { because: "asked for", by: "records office" }
      yield* record(...["alive", "tired", "away", "erased", "meanwhile", "later"].map((id) => call(id)))
      yield* settle(({ key: { callId } }) =>
        callId === "alive" ? "released" : callId === "tired" ? { dead: "exhausted" } : rejected
      )
      yield* letters.discard({ callId: "away" }, "went home")
      yield* erasure.erase(Erasure.Subject.Call({ callId: "erased" }), reason)
      for (const id of ["alive", "tired", "away", "erased", "nobody"]) expect(yield* begin(id)).toEqual(Option.none())

      const erased = yield* taken("meanwhile")
      yield* erasure.erase(Erasure.Subject.Call({ callId: "meanwhile" }), reason)
      expect(yield* end("meanwhile", erased.token, { ...answer, attempts: [attempt("elbow")] })).toBe(false)
      expect(yield* found("meanwhile")).toMatchObject({ call: { outputs: [] }, attempts: [] })

      // what was paid for is kept, though nobody waits for it any more
      const discarded = yield* taken("later")
      yield* letters.discard({ callId: "later" }, "went home")
      expect(yield* end("later", discarded.token, { ...answer, attempts: [attempt("elbow")] })).toBe(false)
      expect((yield* found("later")).call.outputs[0]?.data).toEqual({ text: "Ouch, later." })
      expect((yield* found("later")).attempts).toMatchObject([{ text: "elbow" }])
      yield* (yield* Retention.Retention).prune({ payloads: Duration.zero })
      expect(yield* begin("later")).toEqual(Option.none())
    }))
})
