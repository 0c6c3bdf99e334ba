/**
 * Phase 1, by the port's verbs, on every store.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ChunkStore from "../../ChunkStore.ts"
import * as Retention from "../../Retention.ts"
import { call, claim, idsOf, record, results, settle, statesOf } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"
import { Rows, Time } from "./services.ts"

const lease = Duration.minutes(1)
const { outputs: _, ...spec } = call("a")

export const recording = topic("recording", (test) => {
  test("a call is recorded with its chunks, and is read back as it was given", () =>
    Effect.gen(function*() {
      const given = call("a", {
        correlationId: "thread-1",
        context: { simulationId: "knee", "with \"quotes\"": [1, null, { deep: true }] },
        details: { provider: "p", tokens: 12 },
        outputs: [
          { schema: results, version: 2, data: { metadata: [] } },
          { schema: results, version: 3, part: "second", data: { text: "Überraschung 🩺" } }
        ]
      })
      expect(yield* record(given)).toEqual(["recorded"])
      const view = Option.getOrThrow(yield* inspect.call("a"))
      expect(view).toMatchObject({
        callId: "a",
        namespace: "chatlab",
        correlationId: "thread-1",
        status: "succeeded",
        outputs: given.outputs,
        chunks: [
          { key: { part: "" }, schemaVersion: 2, state: "ready" },
          { key: { part: "second" }, schemaVersion: 3, state: "ready" }
        ]
      })
      const { chunks } = yield* claim
      expect(chunks.map((chunk) => [chunk.key.part, chunk.payload, chunk.call.context])).toEqual([
        ["", { data: { metadata: [] } }, given.context],
        ["second", { data: { text: "Überraschung 🩺" } }, given.context]
      ])
    }))

  test("the same call again is unchanged, even with its keys in another order; other content is a conflict", () =>
    Effect.gen(function*() {
      yield* record(call("a", { context: { one: 1, two: 2 } }))
      expect(yield* record(call("a", { context: { two: 2, one: 1 } }))).toEqual(["unchanged"])
      const before = yield* inspect.call("a")
      for (
        const other of [
          call("a", { context: { one: 1, two: 3 } }),
          call("a", { context: { one: 1, two: 2 } }, { data: { text: "something else" } }),
          call("a", { context: { one: 1, two: 2 } }, { version: 2 }),
          call("a", { context: { one: 1, two: 2 }, namespace: "triage" }),
          call("a", { context: { one: 1, two: 2 }, orderingKey: "knee" })
        ]
      ) expect(yield* record(other)).toEqual(["conflict"])
      expect(yield* inspect.call("a")).toEqual(before)
      expect(yield* settle("persisted")).toEqual(["a"])
      expect(yield* record(call("a", { context: { one: 1, two: 2 } }))).toEqual(["unchanged"])
      expect(yield* statesOf("a")).toEqual(["persisted"])
    }))

  test("content is compared by value, whatever its text, and different content is never taken for the same", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const texts = [
        "slept well",
        "schläft 😀",
        "use \\u0000 and \\ud83d first",
        "\\\\u0000",
        "C:\\users\\u0041bc",
        "a JSON in it: {\"text\": \"\\\\u0000\"}",
        "'; -- \\' \\",
        "\u0001\u001f\u007f\u2028\"",
        ""
      ]
      for (const [index, said] of texts.entries()) {
        const form = (id: string, sorted: boolean, text: string) => {
          const inOrder = <A extends object>(value: A): A =>
            // what was parsed and printed again by something that sorts its keys
            sorted ? value : Object.fromEntries(Object.entries(value).reverse()) as A
          const nested = inOrder({ zebra: [1, inOrder({ said: text, mood: "good" })], [`a ${text}`]: null })
          return call(id, { context: inOrder({ one: 1, nested }), input: nested }, { data: nested })
        }
        const id = `text-${index}`
        expect(yield* record(form(id, true, said))).toEqual(["recorded"])
        for (const sorted of [true, false]) {
          const { outputs: _, ...asked } = form(id, sorted, said)
          expect([said, yield* record(form(id, sorted, said))]).toEqual([said, ["unchanged"]])
          expect(yield* store.begin(asked, lease)).toMatchObject({ _tag: "Succeeded" })
          const { outputs: __, ...other } = form(id, sorted, `${said} `)
          expect([said, yield* record(form(id, sorted, `${said} `))]).toEqual([said, ["conflict"]])
          expect(yield* store.begin(other, lease)).toEqual({ _tag: "Conflict" })
        }
      }
    }))

  test("numbers are equal in every notation, and values that only look alike are not equal", () =>
    Effect.gen(function*() {
      const groups = [
        ["1", "1.0", "1e0", "10E-1", " 1 "],
        ["100", "1e2", "100.00"],
        ["0", "-0", "0.0", "0e9"],
        ["9007199254740993", "9007199254740992"],
        ["1e300", `1${"0".repeat(300)}`],
        ["5e-324", "4.9406564584124654e-324"],
        ["{\"a\":2}", "{\"a\":1,\"a\":2}", "{ \"\\u0061\" : 2 }"],
        ["{\"a\":1}"],
        ["{\"a\":null}"],
        ["{\"a\":null,\"b\":null}"],
        ["{\"b\":null}"],
        ["{}"],
        ["[]"],
        ["[[]]"],
        ["[1,2]", "[1.0, 2]"],
        ["[2,1]"],
        ["null"],
        ["\"1\""],
        ["\"\""],
        ["true"],
        ["false"],
        ["{\"__proto__\":1}"],
        ["{\"0\":1}"],
        ["[1]"]
      ]
      const as = (id: string, text: string) => call(id, {}, { data: JSON.parse(text) })
      for (const [index, group] of groups.entries()) {
        const id = `form-${index}`
        expect(yield* record(as(id, group[0]!))).toEqual(["recorded"])
        for (const [other, texts] of groups.entries()) {
          for (const text of texts) {
            expect([group[0], text, ...yield* record(as(id, text))])
              .toEqual([group[0], text, other === index ? "unchanged" : "conflict"])
          }
        }
      }
    }))

  test("a missing input equals null and a missing part equals the empty part: neither is a conflict", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const form = (callId: string, input: { readonly input?: null }, part: { readonly part?: string }) => {
        const { input: _, ...rest } = call(callId, {}, part)
        return { ...rest, ...input }
      }
      const forms = [{ input: null }, {}].flatMap((input) => [{ part: "" }, {}].map((part) => [input, part] as const))
      for (const [index, first] of forms.entries()) {
        const id = `form-${index}`
        expect(yield* record(form(id, ...first))).toEqual(["recorded"])
        for (const other of forms) {
          expect([index, yield* record(form(id, ...other))]).toEqual([index, ["unchanged"]])
          const { outputs: _, ...asked } = form(id, ...other)
          expect(yield* store.begin(asked, lease)).toMatchObject({ _tag: "Succeeded" })
        }
        expect(yield* record({ ...form(id, ...first), input: 0 })).toEqual(["conflict"])
        expect(yield* record(form(id, {}, { part: "second" }))).toEqual(["conflict"])
        expect(Option.getOrThrow(yield* inspect.call(id)).chunks.map(({ key }) => key.part)).toEqual([""])
      }
    }))

  test("times, priority, correlation id, details and trace are not compared; the first ones are kept", () =>
    Effect.gen(function*() {
      const at = DateTime.makeUnsafe("2026-01-01T00:00:00Z")
      yield* record(call("a"))
      const before = yield* inspect.call("a")
      for (
        const other of [
          { startedAt: at, finishedAt: at, notBefore: at },
          { priority: 7 },
          { correlationId: "another" },
          { details: { model: "another" } },
          { trace: { traceId: "0".repeat(31) + "1", spanId: "0".repeat(15) + "1", sampled: true } }
        ]
      ) expect(yield* record(call("a", other))).toEqual(["unchanged"])
      expect(yield* inspect.call("a")).toEqual(before)
    }))

  test("of many calls recorded at once each has its own outcome, even if an id occurs twice", () =>
    Effect.gen(function*() {
      yield* record(call("old"))
      const other = call("new", {}, { data: { text: "another answer" } })
      expect(yield* record(call("old"), call("new"), call("new"), other, call("old", { namespace: "triage" })))
        .toEqual(["unchanged", "recorded", "unchanged", "conflict", "conflict"])
      expect(yield* settle("persisted")).toEqual(["old", "new"])
      expect(yield* record()).toEqual([])
    }))

  test("the application's rows and the call are written in one transaction", () =>
    Effect.gen(function*() {
      const rows = yield* Rows
      const both = (id: string) => Effect.andThen(rows.add(`row of ${id}`), record(call(id)))
      yield* rows.transaction(both("a"))
      yield* Effect.flip(rows.transaction(Effect.andThen(both("b"), Effect.fail("no"))))
      expect(yield* rows.list).toEqual(["row of a"])
      expect(Option.isSome(yield* inspect.call("a"))).toBe(true)
      expect(Option.isSome(yield* inspect.call("b"))).toBe(false)
      expect(yield* settle("persisted")).toEqual(["a"])
    }))

  test("a call with notBefore is not claimed before that time", () =>
    Effect.gen(function*() {
      yield* record(call("now"))
      const { recordedAt } = Option.getOrThrow(yield* inspect.call("now"))
      yield* record(call("later", { notBefore: DateTime.add(recordedAt, { minutes: 1 }) }))
      expect(yield* statesOf("later")).toEqual(["scheduled"])
      expect(yield* settle("persisted")).toEqual(["now"])
      yield* (yield* Time).pass("61 seconds")
      expect(yield* settle("persisted")).toEqual(["later"])
    }))

  test("a begun call runs in one place at a time; a run that died is taken over, and its token is no longer valid", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const first = yield* store.begin(spec, lease)
      if (first._tag !== "Begun") throw new Error("not begun")
      expect(first.takenOver).toBe(false)
      expect(yield* store.begin(spec, lease)).toMatchObject({ _tag: "Running" })
      expect(yield* store.renewRun("a", first.token, lease)).toBe(true)
      expect(Option.getOrThrow(yield* inspect.call("a"))).toMatchObject({ status: "running", chunks: [] })

      yield* (yield* Time).pass("2 minutes")
      const second = yield* store.begin(spec, lease)
      if (second._tag !== "Begun") throw new Error("not begun")
      expect(second.takenOver).toBe(true)
      expect(yield* store.renewRun("a", first.token, lease)).toBe(false)
      yield* store.abandon("a", first.token, { status: "failed", error: "too late" })
      expect(Option.getOrThrow(yield* inspect.call("a"))).toMatchObject({ status: "running", error: null })

      expect(yield* record(call("a"))).toEqual(["recorded"])
      expect(yield* store.begin(spec, lease)).toMatchObject({ _tag: "Succeeded", call: { callId: "a" } })
      expect(idsOf((yield* claim).chunks)).toEqual(["a"])
    }))

  test("a failed run keeps its error and may be begun again; a run that is given back leaves no trace", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const begin = Effect.map(store.begin(spec, lease), (begun) => begun._tag === "Begun" ? begun.token : "")
      yield* store.abandon("a", yield* begin, { status: "failed", error: "the model was down" })
      expect(Option.getOrThrow(yield* inspect.call("a"))).toMatchObject({
        status: "failed",
        error: "the model was down"
      })
      const token = yield* begin
      expect(token).not.toBe("")
      yield* store.abandon("a", token, undefined)
      expect(yield* begin).not.toBe("")
      expect(yield* record(call("a"))).toEqual(["recorded"])
      expect(Option.getOrThrow(yield* inspect.call("a"))).toMatchObject({ status: "succeeded", error: null })
    }))

  const { outputs, ...asked } = call("a", { orderingKey: "knee" })
  const others = [
    ["namespace", { namespace: "triage" }],
    ["service", { service: "services.chatlab.triage.generate-reply" }],
    ["context", { context: { simulationId: "hip" } }],
    ["input", { input: { user_message: "And here?" } }],
    ["ordering key", { orderingKey: "hip" }]
  ] as const
  for (const [name, other] of others) {
    test(`a call with another ${name} cannot be begun under the id of one that runs or has succeeded`, () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        expect(yield* store.begin(asked, lease)).toMatchObject({ _tag: "Begun" })
        expect(yield* store.begin({ ...asked, ...other }, lease)).toEqual({ _tag: "Conflict" })
        expect(yield* store.begin(asked, lease)).toMatchObject({ _tag: "Running" })
        yield* record({ ...asked, outputs })
        const before = yield* inspect.call("a")
        expect(yield* store.begin({ ...asked, ...other }, lease)).toEqual({ _tag: "Conflict" })
        expect(yield* inspect.call("a")).toEqual(before)
      }))

    test(`a call that failed may be begun again with another ${name}`, () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const begun = yield* store.begin(asked, lease)
        yield* store.abandon("a", begun._tag === "Begun" ? begun.token : "", {
          status: "failed",
          error: "the model was down"
        })
        expect(yield* store.begin({ ...asked, ...other }, lease)).toMatchObject({ _tag: "Begun", takenOver: true })
        // the one that runs now is the other
        expect(yield* store.begin({ ...asked, ...other }, lease)).toMatchObject({ _tag: "Running" })
        expect(yield* store.begin(asked, lease)).toEqual({ _tag: "Conflict" })
        // and so it is when its run died
        yield* (yield* Time).pass("2 minutes")
        expect(yield* store.begin(asked, lease)).toMatchObject({ _tag: "Begun", takenOver: true })
        expect(yield* store.begin(asked, lease)).toMatchObject({ _tag: "Running" })
      }))
  }

  test("beginning a call that has succeeded returns it as recorded; after pruning, without the deleted payloads", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record({ ...asked, outputs, priority: 3 })
      // priority and correlation id are not compared, and not what comes back
      const again = { ...asked, correlationId: "another" }
      const begun = yield* store.begin(again, lease)
      if (begun._tag !== "Succeeded") throw new Error(begun._tag)
      expect(begun.call).toMatchObject({ ...asked, correlationId: "a", outputs })
      expect(yield* settle("persisted")).toEqual(["a"])
      yield* (yield* Time).pass("2 days")
      yield* (yield* Retention.Retention).prune({ payloads: Duration.days(1) })
      const pruned = yield* store.begin({ ...asked, input: "another" }, lease)
      if (pruned._tag !== "Succeeded") throw new Error(pruned._tag)
      expect(pruned.call).toMatchObject({ callId: "a", outputs: [] })
      expect(pruned.call).not.toHaveProperty("input")
      expect(yield* store.begin({ ...asked, namespace: "triage" }, lease)).toEqual({ _tag: "Conflict" })
    }))

  test("inside a transaction no run can be begun, because a rollback would remove it", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      expect(yield* rows.transaction(store.begin(asked, lease))).toEqual({ _tag: "InTransaction" })
      expect(yield* rows.transaction(rows.transaction(store.begin(asked, lease)))).toEqual({ _tag: "InTransaction" })
      expect(yield* inspect.call("a")).toEqual(Option.none())
      expect(yield* store.begin(asked, lease)).toMatchObject({ _tag: "Begun" })
    }))
})
