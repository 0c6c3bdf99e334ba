/**
 * Bad input at the recorder: what cannot be stored is refused before anything is written, in words that name call and
 * path; what only looks bad is stored as it was given. On memory, and on a Postgres, which has its own idea of JSON.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, ChunkStore, ServiceCall, Settings } from "effect-sluice"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as PgStore from "effect-sluice/store/PgStore"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as util from "node:util"
import { describe, expect } from "vitest"
import { roomForAnswer } from "../../src/internal/callProblem.ts"
import { call } from "../contract/operators/dialogues.ts"
import { fine, maxOutputs, maxResultBytes, noTraces, refused } from "../support/calls.ts"
import * as inspect from "../support/inspect.ts"
import * as Postgres from "../support/Postgres.ts"

/** One of these, as `Random` draws. */
const oneOf = <A>(values: ReadonlyArray<A>) =>
  Effect.map(Random.nextIntBetween(0, values.length, { halfOpen: true }), (index) => values[index]!)

/** A field as callers without types may give it, most of them good. */
const randomSpec = Effect.fnUntraced(function*(callId: string) {
  const { outputs: _, ...good } = call(callId)
  const values: Readonly<Record<string, ReadonlyArray<unknown>>> = {
    callId: [callId, callId, callId, "", "x".repeat(65), 7],
    namespace: ["chatlab", "chatlab", "a.b", null],
    service: [good.service, good.service, "services.a", "schemas.a.b.c"],
    correlationId: [undefined, "thread-1", "", "x".repeat(257), "\u0000", {}],
    context: [good.context, {}, { x: "x".repeat(3000) }, { x: () => 1 }, [], { "\ud800": 1 }],
    input: [undefined, null, "x".repeat(3000), "x".repeat(4000), Number.NaN, 1n, new Map()],
    orderingKey: [undefined, "knee", "k".repeat(256), "k".repeat(257), 1],
    priority: [undefined, 0, 1000, 1001, "urgent"],
    notBefore: [undefined, DateTime.makeUnsafe(0), DateTime.makeUnsafe(8.64e15), "soon"],
    startedAt: [undefined, DateTime.makeUnsafe(0), "yesterday"],
    details: [undefined, { model: "m" }, { x: "x".repeat(3000) }, { x: undefined }, 1],
    trace: [undefined, { traceId: "a", spanId: "\u0000", sampled: true }, "none"]
  }
  const spec: Record<string, unknown> = { ...good }
  for (const [field, choices] of Object.entries(values)) {
    // few fields of a call are bad, so that each is seen alone
    const value = (yield* Random.nextIntBetween(0, 5)) === 0 ? yield* oneOf(choices) : choices[0]
    if (value === undefined) delete spec[field]
    else spec[field] = value
  }
  return spec
})

const settings = Settings.layer({ maxOutputs, maxResultBytes })
const stores = [
  ["memory", MemoryStore.layer.pipe(Layer.provide(settings))],
  [
    "Postgres 18",
    Layer.unwrap(Effect.sync(() => PgStore.layer.pipe(Layer.provide(settings), Layer.provide(Postgres.layer()))))
  ]
] as const

for (const [name, store] of stores) {
  const recorder = CallRecorder.layer.pipe(
    Layer.provideMerge(store),
    Layer.provide(settings)
  )
  // one store for all: each test looks at what it recorded itself
  layer(recorder, { timeout: 60_000 })(name, (it) => {
    describe("refused", () => {
      for (const [index, [name, bad, path, reason]] of refused.entries()) {
        it.effect(name, () =>
          Effect.gen(function*() {
            const { record, recordMany } = yield* CallRecorder.CallRecorder
            const ready = Effect.map(inspect.status, (kinds) => kinds.reduce((sum, kind) => sum + kind.ready, 0))
            const before = yield* ready
            // what callers without types may do
            const untyped = bad as ServiceCall.ServiceCall

            const error = yield* Effect.flip(record(untyped))
            if (error._tag !== "CallRefused") throw error
            // long ones are cut in the middle
            expect(error.path.length > 150 ? error.path.slice(0, path.length) : error.path).toBe(path)
            expect(error.reason).toMatch(reason)
            expect(error.message.length).toBeLessThan(500)
            expect(error.message).toContain(path)
            expect(yield* ready).toBe(before)

            // the good ones beside it are recorded
            const results = yield* recordMany([call(`good-${index}`), untyped, call(`better-${index}`)])
            expect(results.map((result) => Result.isSuccess(result) ? result.success : result.failure._tag)).toEqual([
              "recorded",
              "CallRefused",
              "recorded"
            ])
            expect(yield* ready).toBe(before + 2)
          }))
      }
    })

    describe("recorded without its trace, which the log says once", () => {
      for (const [index, [name, trace]] of noTraces.entries()) {
        it.effect(name, () =>
          Effect.gen(function*() {
            const lines: Array<string> = []
            const heard = Logger.layer([Logger.map(Logger.formatLogFmt, (line) => void lines.push(line))])
            const { recordMany } = yield* CallRecorder.CallRecorder
            const traced = ["1", "2"].map((which) => ({ ...call(`untraced-${index}-${which}`), trace }))
            // what callers without types may do
            const results = yield* Effect.provide(recordMany(traced as ReadonlyArray<ServiceCall.ServiceCall>), heard)
            expect(results.map((result) => Result.isSuccess(result) ? result.success : result.failure.message)).toEqual(
              [
                "recorded",
                "recorded"
              ]
            )
            expect(Option.getOrThrow(yield* inspect.call(`untraced-${index}-1`)).trace).toBe(null)
            expect(lines).toEqual([expect.stringMatching(
              new RegExp(`level=WARN .*without their trace.* sluice.call_id=untraced-${index}-1 sluice.calls=2$`)
            )])
          }))
      }
    })

    describe("recorded with other details, or without, which the log says once", () => {
      const cyclic: Record<string, unknown> = {}
      cyclic["itself"] = cyclic
      const withoutThem = [/without details/, undefined] as const
      const asJson = (details: unknown) => [/details as JSON.stringify writes them/, details] as const
      const odd: ReadonlyArray<readonly [name: string, details: unknown, said: RegExp, kept: unknown]> = [
        ["a list", [1], ...asJson({ value: [1] })],
        ["a text", "usage", ...asJson({ value: "usage" })],
        [
          "a date, and what is not there",
          { at: new Date(0), x: undefined },
          ...asJson({ at: "1970-01-01T00:00:00.000Z" })
        ],
        ["NUL and half an emoji", { "a\u0000": "\ud83d" }, ...asJson({ "a\\0": "\ufffd" })],
        ["a bigint", { tokens: 1n }, ...withoutThem],
        ["a cycle", cyclic, ...withoutThem],
        ["too much", { x: "x".repeat(maxResultBytes) }, ...withoutThem]
      ]
      for (const [index, [name, details, said, kept]] of odd.entries()) {
        it.effect(name, () =>
          Effect.gen(function*() {
            const lines: Array<string> = []
            const heard = Logger.layer([Logger.map(Logger.formatLogFmt, (line) => void lines.push(line))])
            const { find, recordMany, run } = yield* CallRecorder.CallRecorder
            const detailed = ["1", "2"].map((which) => ({ ...call(`detailed-${index}-${which}`), details }))
            const results = yield* Effect.provide(recordMany(detailed as ReadonlyArray<ServiceCall.ServiceCall>), heard)
            expect(results.map((result) => Result.isSuccess(result) ? result.success : result.failure.message))
              .toEqual(["recorded", "recorded"])
            expect(Option.getOrThrow(yield* find(`detailed-${index}-1`)).call.details).toEqual(kept)
            expect(lines).toEqual([expect.stringMatching(said)])
            expect(lines[0]).toMatch(new RegExp(`level=WARN .* sluice.call_id=detailed-${index}-1 sluice.calls=2$`))
            // a run of the same is asked, and records the same
            const { outputs, ...spec } = { ...call(`detailed-${index}-run`), details }
            yield* run(spec as ServiceCall.CallSpec, Effect.succeed(outputs))
            expect(Option.getOrThrow(yield* find(`detailed-${index}-run`)).call.details).toEqual(kept)
          }))
      }
    })

    describe("a call that is run", () => {
      const ofTheAnswer = "a value that throws when it is read"
      const ofTheCall = refused.filter(([name, , path]) => !path.startsWith("outputs") && name !== ofTheAnswer)
      for (const [name, bad, path] of ofTheCall) {
        it.effect(`is refused before its service is asked, and not written: ${name}`, () =>
          Effect.gen(function*() {
            const { run } = yield* CallRecorder.CallRecorder
            const error = yield* Effect.flip(
              run(bad as ServiceCall.CallSpec, Effect.die(new Error("the service was asked")))
            )
            if (error._tag !== "CallRefused") throw error
            expect(error.path.length > 150 ? error.path.slice(0, path.length) : error.path).toBe(path)
            expect(yield* inspect.call("a")).toEqual(Option.none())
          }))
      }

      it.effect("by each limit there is, also where only all of it together is too much", () =>
        Effect.gen(function*() {
          const { record, run } = yield* CallRecorder.CallRecorder
          const { outputs, ...spec } = call("limits")
          const text = (length: number) => "x".repeat(length)
          const most = maxResultBytes - roomForAnswer(maxResultBytes)
          const around = JSON.stringify({ ...spec.context }).length
          const tooMuch: ReadonlyArray<Partial<ServiceCall.CallSpec>> = [
            { input: text(most) },
            { input: { images: [text(most / 2), text(most / 2)] } },
            { context: { x: text(most) } },
            { context: { x: text(most / 2) }, input: text(most / 2) },
            // three bytes for a character, six for one that is escaped
            { input: "€".repeat(most / 3) },
            { input: "\u0001".repeat(most / 6) }
          ]
          for (const fields of tooMuch) {
            const error = yield* Effect.flip(run({ ...spec, ...fields }, Effect.die(new Error("asked"))))
            expect(error).toMatchObject({ _tag: "CallRefused", reason: expect.stringContaining("kept for the answer") })
          }
          expect(yield* inspect.call("limits")).toEqual(Option.none())
          // as much as there may be is asked, and its answer has room
          const full = { ...spec, input: text(most - around - 2) }
          const answer = text(roomForAnswer(maxResultBytes) - 200)
          const { ran } = yield* run(full, Effect.succeed(outputs.map((output) => ({ ...output, data: answer }))))
          expect(ran).toBe(true)
          expect(yield* Effect.flip(record({ ...call("limits-2"), input: text(maxResultBytes) }))).toMatchObject({
            path: "input"
          })
        }))

      it.effect("whatever its service makes of the objects it was given: what was asked is what is recorded", () =>
        Effect.gen(function*() {
          const { run } = yield* CallRecorder.CallRecorder
          const { outputs, ...spec } = call("changed")
          const messages: Array<unknown> = ["Does it hurt?"]
          const context: Record<string, string> = { simulationId: "knee" }
          const asked = { ...spec, input: messages as ReadonlyArray<string>, context }
          const service = Effect.sync(() => {
            messages.push("x".repeat(maxResultBytes), () => "no JSON")
            context["simulationId"] = "hip"
            return outputs
          })
          expect(yield* run(asked, service)).toMatchObject({ ran: true, call: { input: ["Does it hurt?"] } })
          const again = { ...spec, input: ["Does it hurt?"], context: { simulationId: "knee" } }
          expect(yield* run(again, Effect.die(new Error("asked again")))).toMatchObject({ ran: false })
        }))

      it.effect("and of random calls: what is run can be recorded, if its answer can", () =>
        Effect.gen(function*() {
          const { record, run } = yield* CallRecorder.CallRecorder
          const seed = yield* Random.nextInt
          yield* Effect.gen(function*() {
            for (let round = 0; round < 200; round++) {
              const spec = yield* randomSpec(`random-${round}`)
              let asked = 0
              const service = Effect.sync(() => {
                asked++
                return call("a").outputs
              })
              const ran = yield* Effect.result(run(spec as ServiceCall.CallSpec, service))
              const told = { seed, round, spec: util.inspect(spec, { maxStringLength: 20 }) }
              // asked and recorded, or neither
              expect({ ...told, asked }).toEqual({ ...told, asked: Result.isSuccess(ran) ? 1 : 0 })
              if (Result.isSuccess(ran)) continue
              expect({ ...told, tag: ran.failure._tag }).toEqual({ ...told, tag: "CallRefused" })
              const recorded = yield* Effect.result(
                record({ ...spec, outputs: call("a").outputs } as ServiceCall.ServiceCall)
              )
              // only the room for the answer makes a difference
              if (Result.isSuccess(recorded)) expect(ran.failure.message).toContain("kept for the answer")
            }
          }).pipe(Random.withSeed(seed))
        }))
    })

    describe("recorded", () => {
      for (const [index, [name, good]] of fine.entries()) {
        it.effect(name, () =>
          Effect.gen(function*() {
            const { record } = yield* CallRecorder.CallRecorder
            const store = yield* ChunkStore.ChunkStore
            const one = good.callId === "a" ? { ...good, callId: `fine-${index}` } : good
            expect(yield* record(one)).toBe("recorded")
            expect(yield* record(one)).toBe("unchanged")
            const view = Option.getOrThrow(yield* inspect.call(one.callId))
            expect(view.outputs).toEqual(JSON.parse(JSON.stringify(one.outputs)))
            const { chunks: [chunk] } = yield* store.claim({
              worker: "test",
              limit: 1,
              maxBytes: 1e9,
              lease: Duration.minutes(1),
              callId: one.callId
            })
            expect(chunk?.key).toEqual({
              callId: one.callId,
              schemaIdentity: one.outputs[0]!.schema,
              part: one.outputs[0]!.part ?? ""
            })
            expect(chunk?.payload).toEqual({ data: JSON.parse(JSON.stringify(one.outputs[0]!.data)) })
          }))
      }
    })

    describe("read once", () => {
      it.effect("of a class with accessors", () =>
        Effect.gen(function*() {
          const { record } = yield* CallRecorder.CallRecorder
          const plain = call("accessors")
          class Answer {
            get schema() {
              return plain.outputs[0]!.schema
            }
            readonly version = 1
            get data() {
              return plain.outputs[0]!.data
            }
          }
          class Asked {
            readonly service = plain.service
            readonly namespace = plain.namespace
            get callId() {
              return plain.callId
            }
            get context() {
              return plain.context
            }
            readonly outputs = [new Answer()]
          }
          // as long as the shape is a call's, the compiler accepts it
          expect(yield* record(new Asked() as ServiceCall.ServiceCall)).toBe("recorded")
          expect(Option.getOrThrow(yield* inspect.call("accessors"))).toMatchObject({
            context: plain.context,
            outputs: [{ data: plain.outputs[0]!.data }]
          })
        }))

      it.effect("what throws when it is read again is refused, and costs the others nothing", () =>
        Effect.gen(function*() {
          const { recordMany } = yield* CallRecorder.CallRecorder
          let reads = 0
          const text = () => {
            if (++reads > 1) throw new Error("not again")
            return "slept well"
          }
          const [output] = call("again").outputs
          const data = Object.defineProperty({}, "text", { enumerable: true, get: text })
          const again = { ...call("again"), outputs: [{ ...output!, data }] }
          const results = yield* recordMany([call("before"), again, call("after")])
          expect(results.map((result) => Result.isSuccess(result) ? result.success : result.failure.message)).toEqual([
            "recorded",
            expect.stringContaining("not again"),
            "recorded"
          ])
        }))

      it.effect("facts and details that throw are left out", () =>
        Effect.gen(function*() {
          const { find, record } = yield* CallRecorder.CallRecorder
          const get = (): never => {
            throw new Error("not today")
          }
          const odd = Object.defineProperties({ ...call("odd") }, {
            facts: { enumerable: true, get },
            details: { enumerable: true, get }
          })
          expect(yield* record(odd)).toBe("recorded")
          const found = Option.getOrThrow(yield* find("odd")).call
          expect([found.facts, found.details]).toEqual([undefined, undefined])
        }))

      it.effect("what is changed while it is recorded", () =>
        Effect.gen(function*() {
          const store = yield* ChunkStore.ChunkStore
          const messages = ["how are you?"]
          const changing = ChunkStore.ChunkStore.of({
            ...store,
            record: (calls) =>
              Effect.suspend(() => {
                messages.push("and now?")
                return store.record(calls)
              })
          })
          const recorder = CallRecorder.layer.pipe(
            Layer.provide(Layer.succeed(ChunkStore.ChunkStore, changing)),
            Layer.provide(settings),
            Layer.fresh
          )
          const one = { ...call("changing"), input: messages }
          yield* Effect.provide(CallRecorder.CallRecorder.use(({ record }) => record(one)), recorder)
          expect(Option.getOrThrow(yield* store.find("changing")).call.input).toEqual(["how are you?"])
        }))
    })
  })
}
