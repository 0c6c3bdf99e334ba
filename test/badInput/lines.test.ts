/**
 * Bad input in a file of recorded calls: each bad line is an answer with its number and reason, and the rest goes on.
 */
import { it } from "@effect/vitest"
import { CallLines, CallRecorder, Settings } from "effect-sluice"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { describe, expect } from "vitest"
import { LineCutter } from "../../src/internal/LineCutter.ts"
import * as inspect from "../support/inspect.ts"
import { untilIt } from "../support/until.ts"

const recorder = CallRecorder.layer.pipe(Layer.provideMerge(MemoryStore.layer), Layer.provideMerge(Settings.layer()))
const schema = "schemas.chatlab.standardized_patient.patient-reply"
const fields = (fields: object = {}) => ({
  callId: "call-1",
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply",
  ...fields
})
const line = (more: object = {}, data = "{\"text\": \"It hurts.\"}") =>
  `${JSON.stringify(fields(more)).slice(0, -1)}, "outputs": [{"schema": "${schema}", "version": 1, "data": ${data}}]}`
const deep = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`

/** A line, and what is said of it; nothing when it is recorded. */
const table: ReadonlyArray<readonly [name: string, line: string | Buffer, reason?: RegExp]> = [
  ["a good one", line()],

  // no JSON
  ["half a line", line().slice(0, 80), /not JSON/],
  ["a line without its end", line().slice(0, -1), /not JSON/],
  ["two calls on one line", line() + line(), /not JSON/],
  ["something else", "callId,namespace,service", /not JSON/],
  ["a comma too many", line().replace("}]}", "},]}"), /not JSON/],
  ["NaN", line({}, "NaN"), /not JSON/],
  ["a bare NUL", line().replace("hurts", "\u0000"), /not JSON/],
  ["bytes that are not UTF-8", Buffer.concat([Buffer.from(line()), Buffer.from([0xff, 0xfe])]), /not UTF-8/],
  ["half a character", Buffer.from(line({}, "\"ä\"")).subarray(0, -4), /not UTF-8|not JSON/],

  // no call
  ["null", "null", /not a call/],
  ["a number", "7", /not a call/],
  ["a list", `[${line()}]`, /not a call/],
  ["an empty object", "{}", /not a call.*callId/],
  ["an id of another type", line({ callId: 7 }), /not a call.*callId/],
  ["no outputs", JSON.stringify(fields()), /not a call.*outputs/],
  ["outputs of another type", JSON.stringify(fields({ outputs: "none" })), /not a call.*outputs/],
  ["an output without version", JSON.stringify(fields({ outputs: [{ schema, data: 1 }] })), /not a call.*version/],
  [
    "a version in words",
    JSON.stringify(fields({ outputs: [{ schema, version: "1", data: 1 }] })),
    /not a call.*version/
  ],
  ["a date that is none", line({ finishedAt: "yesterday" }), /not a call.*finishedAt/],
  ["a day that is none", line({ finishedAt: "2026-02-31T25:00:00Z" }), /not a call.*finishedAt/],
  ["a number beyond all doubles", line({}, "1e400"), /not a call.*data/],

  // no call as it is meant
  [
    "a number that JavaScript rounds",
    line({}, "{\"beds\": [1, {\"id\": 9007199254740993}]}"),
    /outputs\[0\]\.data\.beds\[1\]\.id is 9007199254740993, which JavaScript rounds to 9007199254740992/
  ],
  ["a misspelt field", line({ ordering_key: "bed-7" }), /no field "ordering_key": is "orderingKey" meant\?/],

  // no call that can be stored
  ["an empty id", line({ callId: "" }), /callId is empty/],
  ["an id that is too long", line({ callId: "x".repeat(65) }), /65 characters/],
  ["an empty list of outputs", JSON.stringify(fields({ outputs: [] })), /outputs is empty/],
  ["NUL, written out", line({}, "\"\\u0000\""), /u0000/],
  ["half an emoji, written out", line({}, "\"\\ud83e\""), /lone surrogate/],
  ["a date after all dates", line({ finishedAt: "+010000-01-01T00:00:00Z" }), /years 1 and 9999/],
  ["a hostile identity", line({ service: "services.a.b.'; drop table x; --" }), /may hold only/],
  ["a namespace of emoji", line({ namespace: "🩺" }), /may hold only/],
  ["a priority beyond all others", line({ priority: 1001 }), /0 to 1000/],
  ["100,000 levels", line({}, deep(100_000)), /512 deep/],
  ["20 MB", line({}, `"${"x".repeat(20_000_000)}"`), /SLUICE_MAX_RESULT_BYTES/],
  ["the id of another call", line({}, "\"another answer\""), /other content/],

  // what only looks bad
  ["the same again", line()],
  ["a mark of byte order", Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(line({ callId: "bom" }))])],
  ["the line end of another system", `${line({ callId: "crlf" })}\r`],
  ["white space around it", `  ${line({ callId: "space" })}\t`],
  ["a key given twice: the last counts", line({ callId: "twice" }, "{\"text\": 1, \"text\": 2}")],
  ["fields nobody knows", line({ callId: "more", unheard: { of: [1] } })],
  ["a hostile id", line({ callId: "'; drop table x; --\u202e🩺" })],
  ["100 levels", line({ callId: "deep" }, deep(100))],
  ["10 MB", line({ callId: "large" }, `"${"x".repeat(10_000_000)}"`)],
  ["a number beyond 2^53 that JavaScript has", line({ callId: "number" }, "9007199254740992")],
  ["digits within a text", line({ callId: "digits" }, "\"9007199254740993\"")],
  ["a decimal number of many digits", line({ callId: "decimal" }, "0.12345678901234567890")]
]

const all = Buffer.concat(table.flatMap(([, text]) => [Buffer.from(text), Buffer.from("\n")]))

describe("a file of calls", () => {
  // the same however the bytes come
  for (const size of [all.length, 65_536, 1_000]) {
    it.effect(`read ${size === all.length ? "at once" : `${size} bytes at a time`}`, () =>
      Effect.gen(function*() {
        const told: Array<CallLines.Refusal> = []
        const pieces = Array.from({ length: Math.ceil(all.length / size) }, (_, n) =>
          all.subarray(n * size, (n + 1) * size))
        const recording = yield* CallLines.record(CallLines.fromBytes(Stream.fromIterable(pieces)), {
          refused: (refusal) =>
            Effect.sync(() => told.push(refusal)),
          progress: () => Effect.void
        })
        const reasons = new Map(recording.refused.map(({ line, reason }) => [line, reason]))
        for (const [index, [name, , reason]] of table.entries()) {
          expect.soft([name, reasons.has(index + 1)]).toEqual([name, reason !== undefined])
          if (reason === undefined) continue
          expect.soft(reasons.get(index + 1), name).toMatch(reason)
          // one line to read, whatever stood in it
          expect.soft(/\p{Cc}/u.test(reasons.get(index + 1) ?? ""), name).toBe(false)
        }
        expect(told).toEqual(recording.refused)
        const good = table.filter(([, , reason]) => reason === undefined).length
        expect(recording).toMatchObject({ recorded: good - 1, unchanged: 1 })
        expect(recording.calls.size).toBe(good - 1)

        expect((yield* inspect.status).map((kind) => kind.ready)).toEqual([good - 1])
        const outputs = (callId: string) => Effect.map(inspect.call(callId), (view) => Option.getOrThrow(view).outputs)
        expect(yield* outputs("number")).toMatchObject([{ data: 9007199254740992 }])
        expect(yield* outputs("twice")).toMatchObject([{ data: { text: 2 } }])
      }).pipe(Effect.provide(recorder)))
  }
})

describe("the facts of a line", () => {
  it.effect("are recorded but for those that are none, which a warning names", () => {
    const warnings: Array<string> = []
    const log = Logger.layer([Logger.make(({ message }) => void warnings.push(String(message)))])
    const facts = { requestModel: "gpt-5-mini", inputTokns: 812, outputTokens: "96", unheard: 1 }
    return Effect.gen(function*() {
      const lines = CallLines.fromLines([line({ facts })])
      yield* CallLines.record(lines, { refused: () => Effect.void, progress: () => Effect.void })
      const view = Option.getOrThrow(yield* inspect.call("call-1"))
      expect(view.facts).toEqual({ requestModel: "gpt-5-mini" })
      expect(warnings).toEqual([
        expect.stringContaining(`"inputTokns" (is "inputTokens" meant?), "unheard", outputTokens`)
      ])
    }).pipe(Effect.provide(recorder), Effect.provide(log))
  })
})

describe("a stream of lines", () => {
  const telling = { refused: () => Effect.void, progress: () => Effect.void }
  const known = Effect.map(inspect.status, (kinds) => kinds.reduce((sum, kind) => sum + kind.ready, 0))

  it("is cut at every line end, wherever its bytes are parted", () => {
    const text = "a\nb\r\nc\rd\n\n\r\r\n\re\n\rf"
    for (let first = 0; first <= text.length; first++) {
      for (let second = first; second <= text.length; second++) {
        const cutter = new LineCutter(100)
        const parts = [text.slice(0, first), text.slice(first, second), text.slice(second)]
        const lines = [...parts.flatMap((part) => cutter.push(Buffer.from(part))), ...cutter.rest()]
        expect(lines.map(({ content }) => String(content)), parts.join("|")).toEqual(text.split(/\r\n|\n|\r/))
      }
    }
  })

  it.effect("that holds one without an end costs its neighbours nothing, and little memory", () =>
    Effect.gen(function*() {
      const filler = Buffer.alloc(4 * 1024 * 1024, "x")
      const bytes = [
        Buffer.from(`${line({ callId: "before" })}\n`),
        ...Array.from({ length: 32 }, () => filler),
        Buffer.from(`\n${line({ callId: "after" })}\n`)
      ]
      const before = process.memoryUsage().arrayBuffers
      let most = 0
      const watched = Stream.map(Stream.fromIterable(bytes).pipe(Stream.rechunk(1)), (one) => {
        most = Math.max(most, process.memoryUsage().arrayBuffers - before)
        return one
      })
      const recording = yield* CallLines.record(CallLines.fromBytes(watched), telling)
      expect([...recording.calls]).toEqual(["before", "after"])
      expect(recording.refused).toEqual([{
        line: 2,
        reason: expect.stringMatching(/^is 134217728 bytes long, more than/)
      }])
      expect(most).toBeLessThan(100 * 1024 * 1024)
    }).pipe(Effect.provide(recorder)))

  it.effect("that comes all at once is recorded in portions", () =>
    Effect.gen(function*() {
      const told: Array<number> = []
      const lines = Array.from({ length: 1000 }, (_, n) => line({ callId: `call-${n}` }))
      yield* CallLines.record(CallLines.fromLines(lines), {
        refused: () => Effect.void,
        progress: ({ recorded }) => Effect.sync(() => told.push(recorded))
      })
      expect(told).toEqual([200, 400, 600, 800, 1000])
    }).pipe(Effect.provide(recorder)))

  it.live("that stays open is recorded as it comes; told to stop, what was read is recorded first", () =>
    Effect.gen(function*() {
      const pipe = yield* Queue.unbounded<Uint8Array>()
      const write = (...ids: ReadonlyArray<string>) =>
        Queue.offer(pipe, Buffer.from(ids.map((callId) => `${line({ callId })}\n`).join("")))
      const running = yield* Effect.forkChild(
        CallLines.record(CallLines.fromBytes(Stream.fromQueue(pipe)), telling)
      )
      yield* write("a", "b", "c")
      yield* untilIt(known, (count) => count === 3)
      // more than one commit takes, and told to stop before they can be in
      for (let n = 0; n < 500; n++) yield* write(`d-${n}`)
      yield* Effect.yieldNow
      yield* Fiber.interrupt(running)
      expect(yield* known).toBe(503)
    }).pipe(Effect.provide(recorder)))
})
