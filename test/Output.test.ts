/**
 * Outputs: declared once, recorded at their version, and read back at any version there is a way from.
 */
import { it } from "@effect/vitest"
import { Output } from "effect-sluice"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describe, expect } from "vitest"

class Reply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
  version: 3,
  schema: Schema.Struct({
    messages: Schema.Array(Schema.String),
    at: Schema.optionalKey(Schema.DateTimeUtcFromString)
  }),
  upcasts: {
    1: Output.upcast(Schema.String, (text) => ({ text })),
    2: Output.upcast(Schema.Struct({ text: Schema.String }), ({ text }) => ({ messages: [text] }))
  }
}) {}

describe("an output", () => {
  it("is declared with an identity that is one, and is of version 1 unless it says otherwise", () => {
    expect([Reply.identity, Reply.shortName, Reply.version]).toEqual([
      "schemas.chatlab.standardized_patient.patient-reply",
      "patient-reply",
      3
    ])
    const results = "schemas.chatlab.standardized_patient.patient-results"
    expect(Output.make(results, { schema: Schema.String }).version).toBe(1)
    // what the compiler refuses, as a program without types would write it
    for (const wrong of ["note", "services.chatlab.a.b", "schemas.chat lab.a.b"]) {
      expect(() => Output.make(wrong as never, { schema: Schema.String })).toThrow("is not an identity")
    }
  })

  it("is not declared at a version that the tables cannot hold", () => {
    const results = "schemas.chatlab.standardized_patient.patient-results"
    for (const version of [0, -1, 1.5, Number.NaN, 2 ** 31, 202_611_291_205]) {
      expect(() => Output.make(results, { schema: Schema.String, version })).toThrow(
        `${results} cannot have version ${version}: write a whole number from 1 to 2147483647`
      )
    }
    expect(Output.make(results, { schema: Schema.String, version: 2 ** 31 - 1 }).version).toBe(2 ** 31 - 1)
  })

  it.effect("is recorded at its version, and read back at any it has an upcast from", () =>
    Effect.gen(function*() {
      const output = yield* Reply.encode({ messages: ["It hurts."] }, { part: "first" })
      expect(output).toEqual({ schema: Reply.identity, version: 3, part: "first", data: { messages: ["It hurts."] } })
      expect(yield* Reply.decode(output.data, 3)).toEqual({ messages: ["It hurts."] })
      expect(yield* Reply.decode({ text: "It hurts." }, 2)).toEqual({ messages: ["It hurts."] })
      expect(yield* Reply.decode("It hurts.", 1)).toEqual({ messages: ["It hurts."] })
    }))

  it.effect("is JSON on the outside and typed on the inside", () =>
    Effect.gen(function*() {
      const at = DateTime.makeUnsafe("2026-01-01T08:00:00Z")
      const output = yield* Reply.encode({ messages: [], at })
      expect(JSON.parse(JSON.stringify(output.data))).toEqual({ messages: [], at: "2026-01-01T08:00:00.000Z" })
      expect(yield* Reply.decode(output.data, 3)).toEqual({ messages: [], at })
    }))

  it.effect("is never changed by reading it", () =>
    Effect.gen(function*() {
      const recorded = Object.freeze({ text: "It hurts." })
      yield* Reply.decode(recorded, 2)
      expect(recorded).toEqual({ text: "It hurts." })
    }))

  it.effect("of a version it does not know says which it knows, and what to do", () =>
    Effect.gen(function*() {
      for (const [version, advice] of [[4, "deploy the newer program"], [0, "add one"], [-1, "add one"]] as const) {
        const error = yield* Effect.flip(Reply.decode({ messages: [] }, version))
        expect(error).toMatchObject({ _tag: "UnknownVersion", version, known: 3 })
        expect(error.message).toContain(advice)
      }
      // a way from 2 is no way from 1
      class Gap
        extends Output.make(Reply.identity, { version: 3, schema: Schema.Unknown, upcasts: { 2: Effect.succeed } })
      {}
      expect(yield* Effect.flip(Gap.decode(null, 1))).toMatchObject({ _tag: "UnknownVersion", version: 1, known: 3 })
    }))

  it.effect("that does not decode says where; so does one whose upcast meets something else", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Reply.decode({ messages: ["a", 2] }, 3))
      expect(String(error)).toContain("[\"messages\"][1]")
      expect(String(yield* Effect.flip(Reply.decode({ text: 7 }, 2)))).toContain("[\"text\"]")
      expect(String(yield* Effect.flip(Reply.decode(7, 1)))).toContain("Expected string")
    }))

  it.effect("is refused when what is given to encode is none", () =>
    Effect.gen(function*() {
      const untyped = { messages: "It hurts." } as unknown as typeof Reply.schema.Type
      expect(String(yield* Effect.flip(Reply.encode(untyped)))).toContain("messages")
    }))

  it("of an answer that is a list is one for each element, whatever the element is", () => {
    const elements: ReadonlyArray<Schema.Json> = [{ messages: ["a"] }, { messages: 7 }, null, "b"]
    const outputs = Reply.each(elements)
    expect(outputs.map(({ data }) => data)).toEqual(elements)
    expect(outputs.map(({ part }) => part)).toEqual(["0", "1", "2", "3"])
    expect(outputs[1]).toEqual({ schema: Reply.identity, version: 3, part: "1", data: { messages: 7 } })
    expect(Reply.each([])).toEqual([])
  })

  it("of an element has its key as its part; duplicates and bad keys are told apart, and none is lost", () => {
    class Finding extends Output.make("schemas.clinic.ward.finding", {
      schema: Schema.Struct({ code: Schema.String, text: Schema.String })
    }) {}
    const of = (...codes: ReadonlyArray<unknown>): ReadonlyArray<Schema.Json> =>
      codes.map((code) => JSON.parse(JSON.stringify({ code, text: "pain" })))
    const parts = (elements: ReadonlyArray<Schema.Json>, part: Output.EachOptions<{ code: string }>["part"] = "code") =>
      Finding.each(elements, { part }).map((output) => output.part)
    expect(parts(of("M25", "S83", 7))).toEqual(["M25", "S83", "7"])
    expect(parts(of("M25", "M25", "M25#2", "M25"))).toEqual(["M25", "M25#2", "M25#2#2", "M25#3"])
    expect(parts(of("M25#2", "M25", "M25"))).toEqual(["M25#2", "M25", "M25#3"])
    expect(parts(of("", "x".repeat(117), "a\u0000", "\ud800", null, undefined))).toEqual(
      ["#0", "#1", "#2", "#3", "#4", "#5"]
    )
    expect(parts([null, "M25", ["M25"], 7])).toEqual(["#0", "#1", "#2", "#3"])
    // what a function throws at, or has no word for, is a bad element
    const upper = (element: Schema.Json) => (element as { code: string }).code.toUpperCase()
    expect(parts(of("m25", 7, "s83"), upper)).toEqual(["M25", "#1", "S83"])
    expect(parts(of("a", "b"), (_, index) => index === 0 ? undefined : Number.NaN)).toEqual(["#0", "#1"])
    const long = parts(of(...Array.from({ length: 3 }, () => "x".repeat(116))))
    expect(Math.max(...long.map((part) => part!.length))).toBeLessThanOrEqual(128)
  })

  it("of an element that cannot be stored as it is holds it as far as it can", () => {
    const deep: Schema.Json = JSON.parse(`${"[".repeat(100_000)}${"]".repeat(100_000)}`)
    const strange = JSON.parse(`{"a\\u0000": ["b\\u0000\\ud800"], "n": 1e400, "__proto__": 1}`)
    const [odd, nested, good] = Reply.each([strange, deep, { messages: ["a"] }])
    expect(JSON.stringify(odd?.data)).toBe(`{"a\\\\0":["b\\\\0\ufffd"],"n":"Infinity","__proto__":1}`)
    expect(JSON.stringify(nested?.data)).toContain("nested more than 512 deep")
    expect(good?.data).toEqual({ messages: ["a"] })
  })
})
