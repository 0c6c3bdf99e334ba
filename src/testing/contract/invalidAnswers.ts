/**
 * Answers that did not fit and are decoded later: recorded like any, but never over what has become of their call meanwhile.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { CallAttempt } from "../../CallAttempt.ts"
import * as ChunkStore from "../../ChunkStore.ts"
import * as Erasure from "../../Erasure.ts"
import * as HandlerPlugin from "../../HandlerPlugin.ts"
import * as HandlerRegistry from "../../HandlerRegistry.ts"
import * as InvalidAnswers from "../../InvalidAnswers.ts"
import * as Output from "../../Output.ts"
import { call, claim, idsOf, record, reply } from "./dialogues.ts"
import { expect } from "./expect.ts"
import { topic } from "./scenes.ts"

class Reply extends Output.make(reply, { schema: Schema.Struct({ text: Schema.String }) }) {}
const registry = HandlerRegistry.layer().pipe(
  Layer.provide(HandlerPlugin.layer("chatlab", Reply, { persist: () => Effect.succeed([]) })),
  Layer.fresh
)

const specOf = (callId: string) => {
  const { outputs: _, ...spec } = call(callId)
  return spec
}

/** Begins a call, and ends it as a run whose answer did not fit. */
const invalid = Effect.fnUntraced(function*(callId: string, text: string) {
  const store = yield* ChunkStore.ChunkStore
  const begun = yield* store.begin(specOf(callId), Duration.minutes(1))
  expect(begun._tag).toBe("Begun")
  if (begun._tag !== "Begun") return
  const attempt: CallAttempt = {
    outcome: "invalid",
    text,
    length: text.length,
    facts: {},
    error: "it does not fit",
    at: yield* DateTime.now
  }
  const end = { status: "invalid", error: "it does not fit", attempts: [attempt] } as const
  yield* store.abandon(callId, begun.token, end)
})

const find = (callId: string) => Effect.map(ChunkStore.ChunkStore.use((store) => store.find(callId)), Option.getOrThrow)

const decode = (callId: string) => Effect.provide(InvalidAnswers.decode(callId), registry)

/** The same, when something happens between its look at the call and the recording. */
const decodeWhile = <E>(callId: string, meanwhile: Effect.Effect<unknown, E, ChunkStore.ChunkStore>) =>
  Effect.flatMap(ChunkStore.ChunkStore, (store) =>
    Effect.provideService(decode(callId), ChunkStore.ChunkStore, {
      ...store,
      find: (id) =>
        Effect.tap(store.find(id), () => Effect.orDie(Effect.provideService(meanwhile, ChunkStore.ChunkStore, store)))
    }))

const text = JSON.stringify({ text: "Ouch." })

export const invalidAnswers = topic("invalidAnswers", (test) => {
  test("an invalid answer that decodes later is recorded, and its chunk can be claimed", () =>
    Effect.gen(function*() {
      yield* invalid("a", text)
      expect((yield* decode("a")).outputs).toMatchObject([{ schema: reply, data: { text: "Ouch." } }])
      expect(yield* find("a")).toMatchObject({ status: "succeeded", attempts: [{ outcome: "invalid", text }] })
      expect(idsOf((yield* claim).chunks)).toEqual(["a"])
      expect(yield* Effect.flip(decode("a"))).toMatchObject({ _tag: "NotDecoded" })
    }))

  test("several tool calls of one answer become outputs of the handlers that they name, if one of them fits", () =>
    Effect.gen(function*() {
      const asked = (...params: ReadonlyArray<unknown>) =>
        JSON.stringify(params.map((params) => ({ id: "a", name: "patient-reply", params })))
      yield* invalid("a", asked({ text: "Ouch \u0000." }, { txt: "unfit" }))
      expect((yield* decode("a")).outputs).toEqual([
        { schema: reply, version: 1, part: "a", data: { text: "Ouch \\0." } },
        { schema: reply, version: 1, part: "a#2", data: { txt: "unfit" } }
      ])
      expect(idsOf((yield* claim).chunks)).toEqual(["a", "a"])
      yield* invalid("b", asked({ txt: "unfit" }))
      const error = yield* Effect.flip(decode("b"))
      expect(error).toMatchObject({ _tag: "NotDecoded" })
      expect(error.message).toContain("no tool call fits")
      yield* invalid("c", asked({ text: "Ouch." }).replace("patient-reply", "amputate"))
      expect((yield* Effect.flip(decode("c"))).message).toContain("no handler is named like the tool \"amputate\"")
    }))

  test("an invalid call that runs again meanwhile is left to that run, and neither answer is lost", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* invalid("a", text)
      const begin = store.begin(specOf("a"), Duration.minutes(1))
      expect(yield* Effect.flip(decodeWhile("a", begin))).toMatchObject({ _tag: "NotDecoded" })
      expect(yield* find("a")).toMatchObject({ status: "running", attempts: [{ text }] })
      expect((yield* claim).chunks).toEqual([])
      // the other run's answer is recorded
      expect(yield* record(call("a"))).toEqual(["recorded"])
      expect(yield* find("a")).toMatchObject({ status: "succeeded", call: { outputs: call("a").outputs } })
    }))

  test("an answer that is decoded later does not replace one that was recorded meanwhile", () =>
    Effect.gen(function*() {
      yield* invalid("a", text)
      expect(yield* Effect.flip(decodeWhile("a", record(call("a"))))).toMatchObject({ _tag: "NotDecoded" })
      expect(yield* find("a")).toMatchObject({ call: { outputs: call("a").outputs } })
      expect(idsOf((yield* claim).chunks)).toEqual(["a"])
    }))

  test("an erased call stays erased, whether it was so before or is meanwhile", () =>
    Effect.gen(function*() {
      const erasure = yield* Erasure.Erasure
      const erase = (callId: string) =>
        Effect.orDie(
          erasure.erase(Erasure.Subject.Call({ callId }), { by: "records office", because: "the patient asked for it" })
        )
      yield* invalid("before", text)
      yield* erase("before")
      expect(yield* Effect.flip(decode("before"))).toMatchObject({ _tag: "NotDecoded" })
      yield* invalid("meanwhile", text)
      expect(yield* Effect.flip(decodeWhile("meanwhile", erase("meanwhile")))).toMatchObject({ _tag: "NotDecoded" })
      for (const callId of ["before", "meanwhile"]) {
        expect(yield* find(callId)).toMatchObject({
          status: "invalid",
          call: { outputs: [] },
          attempts: [{ text: null }]
        })
      }
      expect((yield* claim).chunks).toEqual([])
    }))

  test("recordDecoded records the answer of an invalid call, and nothing for a failed one", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const begun = yield* store.begin(specOf("a"), Duration.minutes(1))
      if (begun._tag !== "Begun") return expect(begun._tag).toBe("Begun")
      yield* store.abandon("a", begun.token, { status: "failed", error: "no answer" })
      expect(yield* store.recordDecoded(call("a"))).toBe(false)
      expect(yield* find("a")).toMatchObject({ status: "failed" })
    }))
})
