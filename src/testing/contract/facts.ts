/**
 * What calls say of themselves: facts, the answers that their runs were given, and what they used, on every store.
 */
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { CallFacts } from "../../CallFacts.ts"
import * as CallRecorder from "../../CallRecorder.ts"
import * as ChunkStore from "../../ChunkStore.ts"
import * as Erasure from "../../Erasure.ts"
import * as Inspector from "../../Inspector.ts"
import * as Retention from "../../Retention.ts"
import type { CallSpec, RecordedOutput, ServiceCall } from "../../ServiceCall.ts"
import type * as Settings from "../../Settings.ts"
import type { UsageBy, UsageRow } from "../../Usage.ts"
import { call, claim, record, reply, results, settle } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"
import { Time } from "./services.ts"

// what an application may put into details
const epoch = new Date(0)

const facts: CallFacts = {
  provider: "openai",
  requestModel: "gpt-5-mini",
  responseModel: "gpt-5-mini-2026-08-01",
  finishReason: "stop",
  responseId: "resp_1",
  inputTokens: 812,
  outputTokens: 96,
  cachedInputTokens: 512,
  reasoningTokens: 32,
  cost: { micros: 395, currency: "USD" },
  promptName: "patient-reply",
  promptVersion: "7",
  timeToFirstTokenMillis: 210,
  durationMillis: 1900,
  attempts: 1
}

const outputs: ReadonlyArray<RecordedOutput> = [{ schema: reply, version: 1, data: { text: "Ouch." } }]
const specOf = (callId: string, more: Partial<CallSpec> = {}): CallSpec => {
  const { outputs: _, ...spec } = call(callId)
  return { ...spec, ...more }
}

/** The recorder over the test's store. */
const recorder = <A, E, R>(
  use: (recorder: CallRecorder.CallRecorder["Service"]) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R | ChunkStore.ChunkStore | Settings.Settings> =>
  CallRecorder.CallRecorder.use(use).pipe(Effect.provide(CallRecorder.layer)) as Effect.Effect<
    A,
    E,
    R | ChunkStore.ChunkStore | Settings.Settings
  >

const run = <E>(spec: CallSpec, service: CallRecorder.Service<E, never>) => recorder((one) => one.run(spec, service))
const find = (callId: string) => Effect.map(recorder((one) => one.find(callId)), Option.getOrThrow)
const viewOf = (callId: string) => Effect.map(inspect.call(callId), Option.getOrThrow)

/** Usage as is, and again after it was rolled up: the same. */
const usage = Effect.fnUntraced(function*(by: UsageBy, since?: Duration.Input) {
  const inspector = yield* Inspector.Inspector
  const before = yield* inspector.usage({ by, since })
  yield* (yield* Retention.Retention).rollUp
  expect(yield* inspector.usage({ by, since })).toEqual(before)
  return before
})

const row = (key: string, more: Partial<UsageRow>): UsageRow => ({
  key,
  calls: 0,
  failed: 0,
  invalid: 0,
  attempts: 0,
  inputTokens: 0,
  outputTokens: 0,
  cachedInputTokens: 0,
  reasoningTokens: 0,
  costs: [],
  ...more
})

export const callFacts = topic("facts", (test) => {
  test("the facts of a call are given to its handler, shown when it is read, and returned by find", () =>
    Effect.gen(function*() {
      yield* recorder((one) => one.record(call("a", { facts })))
      yield* record(call("b"))
      expect((yield* viewOf("a")).facts).toEqual(facts)
      expect((yield* viewOf("b")).facts).toEqual({})
      expect((yield* find("a")).call).toMatchObject({ callId: "a", facts, outputs: [{ schema: reply }] })
      const { chunks } = yield* claim
      expect(chunks.map((chunk) => [chunk.key.callId, chunk.call.facts])).toEqual([["a", facts], ["b", {}]])
      expect(yield* recorder((one) => one.find("c"))).toEqual(Option.none())
    }))

  test("a call that is recorded again keeps its first facts and is counted once; other facts are no conflict", () =>
    Effect.gen(function*() {
      const other = { ...facts, inputTokens: 1 }
      expect(yield* recorder((one) => one.record(call("a", { facts })))).toBe("recorded")
      expect(yield* recorder((one) => one.record(call("a", { facts: other })))).toBe("unchanged")
      expect((yield* viewOf("a")).facts).toEqual(facts)
      expect(yield* usage("model")).toEqual([row("openai/gpt-5-mini-2026-08-01", {
        calls: 1,
        attempts: 1,
        inputTokens: 812,
        outputTokens: 96,
        cachedInputTokens: 512,
        reasoningTokens: 32,
        costs: [{ currency: "USD", micros: 395 }]
      })])
    }))

  test("facts and details that cannot be stored are dropped, and the answer is kept", () =>
    Effect.gen(function*() {
      const odd = {
        ...call("a"),
        facts: {
          provider: "open\u0000ai",
          inputTokens: -3,
          outputTokens: 1.5,
          cost: { micros: 1, currency: "dollars" },
          mood: 1
        },
        details: { at: epoch, note: "half \ud800", never: undefined, size: 12n }
      } as unknown as ServiceCall
      expect(yield* recorder((one) => one.record(odd))).toBe("recorded")
      const found = (yield* find("a")).call
      expect(found.facts).toEqual({ provider: "open\\0ai" })
      expect(found.details).toBeUndefined()
      const dated = { ...call("b"), details: { at: epoch, note: "half \ud800" } } as unknown as ServiceCall
      expect(yield* recorder((one) => one.record(dated))).toBe("recorded")
      expect((yield* find("b")).call.details).toEqual({ at: "1970-01-01T00:00:00.000Z", note: "half \ufffd" })
    }))

  test("a run that asks twice keeps the answer that did not fit, and both are counted", () =>
    Effect.gen(function*() {
      const { call: finished, ran } = yield* run(specOf("a"), (run) =>
        Effect.gen(function*() {
          yield* run.facts({ provider: "openai", requestModel: "gpt-5-mini", promptName: "reply" })
          yield* run.answered({ text: "{\"txt\":1}", facts: { inputTokens: 10, outputTokens: 2 } })
          yield* run.refused("text is missing")
          yield* run.answered({
            text: "{\"text\":\"Ouch.\"}",
            facts: { inputTokens: 14, outputTokens: 3, finishReason: "stop" }
          })
          return outputs
        }))
      expect(ran).toBe(true)
      const own = {
        provider: "openai",
        requestModel: "gpt-5-mini",
        promptName: "reply",
        inputTokens: 14,
        outputTokens: 3,
        finishReason: "stop",
        attempts: 2
      }
      expect(finished.facts).toEqual(own)
      const view = yield* viewOf("a")
      expect(view).toMatchObject({ status: "succeeded", facts: own })
      expect(view.attempts).toMatchObject([
        { outcome: "invalid", text: "{\"txt\":1}", length: 9, error: "text is missing", facts: { inputTokens: 10 } },
        { outcome: "succeeded", text: "{\"text\":\"Ouch.\"}", error: null, facts: { inputTokens: 14 } }
      ])
      expect((yield* find("a")).attempts).toEqual(view.attempts)
      expect(yield* usage("model")).toEqual([
        row("openai/gpt-5-mini", { calls: 1, attempts: 2, inputTokens: 24, outputTokens: 5 })
      ])
      // answered from the record: nothing is added
      expect((yield* run(specOf("a"), Effect.die("is not run"))).call.facts).toEqual(own)
      expect((yield* viewOf("a")).attempts).toHaveLength(2)
      expect(yield* usage("schema")).toMatchObject([{ key: reply, calls: 1 }])
    }))

  test("a run that fails after an answer is invalid, one without an answer is failed, and the next run keeps both", () =>
    Effect.gen(function*() {
      const asked = (text: string | undefined) => (run: CallRecorder.Run) =>
        Effect.gen(function*() {
          yield* run.facts({ requestModel: "m" })
          if (text !== undefined) {
            yield* run.answered({ text, facts: { inputTokens: 5, cost: { micros: 7, currency: "EUR" } } })
          }
          return yield* Effect.fail("it does not parse")
        })
      expect(yield* Effect.flip(run(specOf("a"), asked(undefined)))).toBe("it does not parse")
      expect(yield* viewOf("a")).toMatchObject({ status: "failed", attempts: [], facts: { requestModel: "m" } })
      yield* Effect.flip(run(specOf("a"), asked("{")))
      expect(yield* find("a")).toMatchObject({
        status: "invalid",
        error: "it does not parse",
        attempts: [{ outcome: "invalid", text: "{", error: "it does not parse" }]
      })
      yield* run(specOf("a"), (run) => Effect.as(run.answered({ text: "{}", facts: { inputTokens: 6 } }), outputs))
      expect(yield* viewOf("a")).toMatchObject({ status: "succeeded", error: null })
      expect((yield* viewOf("a")).attempts.map(({ outcome, text }) => [outcome, text])).toEqual([
        ["invalid", "{"],
        ["succeeded", "{}"]
      ])
      expect(yield* usage("namespace")).toEqual([
        row("chatlab", {
          calls: 3,
          failed: 1,
          invalid: 1,
          attempts: 2,
          inputTokens: 11,
          costs: [{ currency: "EUR", micros: 7 }]
        })
      ])
    }))

  test("the answers of a run that ends too late are kept as attempts, and counted: they were paid for", () =>
    Effect.gen(function*() {
      type Services = ChunkStore.ChunkStore | Erasure.Erasure | Settings.Settings
      const context = yield* Effect.context<Services>()
      /** A run that is answered, while something else happens to its call. */
      const answered = <A, E>(callId: string, meanwhile: Effect.Effect<A, E, Services>) =>
        run(specOf(callId), (run) =>
          Effect.gen(function*() {
            yield* run.answered({ text: "late", facts: { inputTokens: 5 } })
            yield* Effect.orDie(Effect.provideContext(meanwhile, context))
            return outputs
          }))
      const kept = { outcome: "failed", text: "late", error: "it came too late", facts: { inputTokens: 5 } }
      const other = call("a", { outputs: [{ schema: results, version: 1, data: 7 }] })
      const conflict = yield* Effect.flip(answered("a", recorder((one) => one.record(other))))
      expect(conflict).toMatchObject({ _tag: "CallConflict" })
      expect(yield* find("a")).toMatchObject({ call: { outputs: other.outputs }, attempts: [kept] })
      const erase = Erasure.Erasure.use((erasure) =>
        erasure.erase(Erasure.Subject.Call({ callId: "b" }), { because: "asked for", by: "clerk" })
      )
      expect(yield* Effect.flip(answered("b", erase))).toMatchObject({ _tag: "CallErased" })
      expect((yield* find("b")).attempts).toMatchObject([{ ...kept, text: null, error: null }])
      expect(yield* usage("namespace")).toMatchObject([{ calls: 2, failed: 0, attempts: 2, inputTokens: 10 }])

      // taken up by another run; the same end is written once, however often it is tried
      const store = yield* ChunkStore.ChunkStore
      const first = yield* store.begin(specOf("c"), Duration.minutes(1))
      yield* (yield* Time).pass("2 minutes")
      const second = yield* store.begin(specOf("c"), Duration.minutes(1))
      if (first._tag !== "Begun" || second._tag !== "Begun") throw new Error("not begun")
      const at = yield* DateTime.now
      const attempts = [{ outcome: "invalid" as const, text: "no", length: 2, facts: {}, error: "unfit", at }]
      for (const _ of [1, 2]) {
        yield* store.abandon("c", first.token, { status: "invalid", error: "unfit", attempts })
        expect(yield* find("c")).toMatchObject({ status: "running", error: undefined, attempts: [{ text: "no" }] })
        expect((yield* find("c")).attempts).toHaveLength(1)
      }
      yield* recorder((one) => one.record(call("c")))
      expect(yield* find("c")).toMatchObject({ status: "succeeded", attempts: [{ text: "no" }] })
    }))

  test("an interrupted run keeps the answers it had, and one without an answer leaves no trace", () =>
    Effect.gen(function*() {
      const said = yield* Deferred.make<void>()
      const waiting = yield* Effect.forkChild(
        run(specOf("a"), (run) =>
          Effect.gen(function*() {
            yield* run.answered({ text: "{\"text\":\"Ou", facts: { outputTokens: 4 } })
            yield* Deferred.succeed(said, undefined)
            return yield* Effect.never
          }))
      )
      yield* Deferred.await(said)
      yield* Fiber.interrupt(waiting)
      expect(yield* find("a")).toMatchObject({
        status: "failed",
        attempts: [{ outcome: "failed", text: "{\"text\":\"Ou", error: "it was interrupted" }]
      })
      expect(yield* usage("day")).toMatchObject([{ calls: 1, failed: 1, outputTokens: 4 }])

      const begun = yield* Deferred.make<void>()
      const silent = yield* Effect.forkChild(
        run(specOf("b"), Effect.andThen(Deferred.succeed(begun, undefined), Effect.never))
      )
      yield* Deferred.await(begun)
      yield* Fiber.interrupt(silent)
      expect(yield* find("b")).toMatchObject({ status: "running", attempts: [] })
      expect(yield* run(specOf("b"), Effect.succeed(outputs))).toMatchObject({ ran: true })
    }))

  test("an answer that cannot be recorded is kept as its text", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<RecordedOutput> = [{ schema: reply, version: 1, data: "half \ud800" }]
      expect(Exit.isFailure(yield* Effect.exit(run(specOf("a"), Effect.succeed(bad))))).toBe(true)
      const found = yield* find("a")
      expect(found).toMatchObject({ status: "invalid", attempts: [{ outcome: "invalid" }] })
      expect(found.attempts[0]?.text).toContain("half ")
      yield* Effect.exit(run(specOf("b"), (run) => Effect.as(run.answered({ text: "raw \u0000" }), bad)))
      expect((yield* find("b")).attempts).toMatchObject([{ text: "raw \\0", length: 5 }])
    }))

  test("a long answer is cut, and its length is stored", () =>
    Effect.gen(function*() {
      const text = `${"ä".repeat(1024 * 1024 - 1)}😀 and more`
      yield* run(specOf("a"), (run) => Effect.as(run.answered({ text }), outputs))
      const [attempt] = (yield* find("a")).attempts
      expect(attempt?.length).toBe(text.length)
      // the bound comes in the middle of a character of two halves
      expect(attempt?.text?.length).toBe(1024 * 1024)
      expect(attempt?.text?.endsWith("ä\ufffd")).toBe(true)
    }))

  test("usage is summed by model, namespace, schema and day, since a day", () =>
    Effect.gen(function*() {
      const more = (callId: string, of: CallFacts, fields: Partial<ServiceCall> = {}) =>
        call(callId, { facts: of, ...fields })
      yield* recorder((one) =>
        one.recordMany([
          more("a", { provider: "openai", requestModel: "m", inputTokens: 1, cost: { micros: 5, currency: "USD" } }),
          more("b", { provider: "openai", requestModel: "m", inputTokens: 2, cost: { micros: 6, currency: "EUR" } }),
          more("c", { provider: "anthropic", responseModel: "n", outputTokens: 100 }, {
            namespace: "triage",
            outputs: [{ schema: results, version: 1, data: 1 }, { schema: reply, version: 1, data: 2 }]
          }),
          call("d")
        ])
      )
      expect(yield* usage("model")).toEqual([
        row("anthropic/n", { calls: 1, outputTokens: 100 }),
        row("openai/m", {
          calls: 2,
          inputTokens: 3,
          costs: [{ currency: "EUR", micros: 6 }, { currency: "USD", micros: 5 }]
        })
      ])
      expect((yield* usage("namespace")).map(({ calls, key }) => [key, calls])).toEqual([["triage", 1], ["chatlab", 2]])
      expect((yield* usage("schema")).map(({ calls, key }) => [key, calls])).toEqual([
        [`${reply} ${results}`, 1],
        [reply, 2]
      ])
      const days = yield* usage("day", "1 day")
      expect(days.reduce((sum, day) => sum + day.calls, 0)).toBe(3)
      expect(days[0]?.key).toMatch(/^\d{4}-\d\d-\d\d$/)
    }))

  test("pruning deletes the texts of answers with the payloads; facts and usage stay", () =>
    Effect.gen(function*() {
      const retention = yield* Retention.Retention
      yield* run(specOf("done"), (run) =>
        Effect.as(run.answered({ text: "{}", facts: { inputTokens: 3, requestModel: "m" } }), outputs))
      yield* settle("persisted")
      yield* Effect.exit(run(specOf("bad"), (run) =>
        Effect.andThen(run.answered({ text: "{" }), Effect.fail("no"))))
      yield* run(specOf("open"), (run) => Effect.as(run.answered({ text: "{}" }), outputs))
      const before = yield* usage("model")
      yield* (yield* Time).pass(Duration.days(31))
      yield* run(specOf("new"), (run) => Effect.as(run.answered({ text: "{}" }), outputs))
      const policy = { payloads: Duration.days(30) }
      const pruned = { payloads: 1, discarded: 0, failures: 0, answers: 2, ends: 0 }
      expect(yield* retention.preview(policy)).toEqual(pruned)
      expect(yield* retention.prune(policy)).toEqual(pruned)
      expect((yield* find("done")).attempts).toMatchObject([{ text: null, length: 2, facts: { inputTokens: 3 } }])
      expect((yield* find("bad")).attempts).toMatchObject([{ text: null, error: "no" }])
      expect((yield* find("open")).attempts).toMatchObject([{ text: "{}" }])
      expect((yield* viewOf("done")).facts).toMatchObject({ requestModel: "m", inputTokens: 3 })
      expect((yield* usage("model")).find(({ key }) => key === "m")).toEqual(before.find(({ key }) => key === "m"))
    }))
})
