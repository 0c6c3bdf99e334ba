/**
 * The words: identities, outputs, groups and recorded calls, as values and as JSON.
 */
import { it } from "@effect/vitest"
import { Identity, Output, OutputGroup, ServiceCall } from "effect-sluice"
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
class Other extends Output.make("schemas.other.group.patient-reply", { version: 1, schema: Schema.String }) {}
class Results extends Output.make("schemas.chatlab.standardized_patient.patient-results", {
  version: 1,
  schema: Schema.String
}) {}

describe("an identity", () => {
  const good = "schemas.chatlab.standardized_patient.patient-reply"

  it.effect("is taken apart and printed again", () =>
    Effect.gen(function*() {
      const identity = yield* Identity.parse(good)
      expect(identity).toEqual({
        domain: "schemas",
        namespace: "chatlab",
        group: "standardized_patient",
        name: "patient-reply"
      })
      expect(Identity.print(identity)).toBe(good)
      expect(yield* Identity.validate(identity)).toEqual(identity)
    }))

  const wrong = [
    ["", "parts", "1 parts"],
    ["a.b.c", "parts", "3 parts"],
    ["schemas.a.b.c.d", "parts", "5 parts"],
    ["handlers.a.b.c", "domain", "none of services"],
    ["schemas..b.c", "namespace", "is empty"],
    ["schemas.a b.b.c", "namespace", "may hold only"],
    ["schemas.a.ü.c", "group", "may hold only"],
    [`schemas.a.b.${"x".repeat(129)}`, "name", "129 characters"],
    ["schemas.a.b.c\n", "name", "may hold only"]
  ] as const
  for (const [text, part, reason] of wrong) {
    it.effect(`${JSON.stringify(text.slice(0, 30))}: its ${part}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Identity.parse(text))
        expect(error).toMatchObject({ _tag: "IdentityInvalid", text, part })
        expect(error.message).toContain(reason)
      }))
  }

  it.effect("put together by hand is checked: a dot inside a part is no way to another identity", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Identity.validate({ domain: "schemas", namespace: "a.b", group: "c", name: "d" })
      )
      expect(error.part).toBe("parts")
    }))

  it.effect("as JSON is a text", () =>
    Effect.gen(function*() {
      const identity = yield* Schema.decodeEffect(Identity.FromString)(good)
      expect(yield* Schema.encodeEffect(Identity.FromString)(identity)).toBe(good)
      const error = yield* Effect.flip(Schema.decodeEffect(Identity.FromString)("a.b"))
      expect(String(error)).toContain("2 parts")
    }))
})

describe("an output", () => {
  it.effect("is recorded at its version, and read back at any it has an upcast from", () =>
    Effect.gen(function*() {
      const output = yield* Reply.encode({ messages: ["It hurts."] }, { part: "first" })
      expect(output).toEqual({ schema: Reply.identity, version: 3, part: "first", data: { messages: ["It hurts."] } })
      expect(yield* Reply.decode(output.data, 3)).toEqual({ messages: ["It hurts."] })
      expect(yield* Reply.decode({ text: "It hurts." }, 2)).toEqual({ messages: ["It hurts."] })
      expect(yield* Reply.decode("It hurts.", 1)).toEqual({ messages: ["It hurts."] })
    }))

  it.effect("of a version it does not know says which it knows", () =>
    Effect.gen(function*() {
      for (const version of [0, 4, -1]) {
        const error = yield* Effect.flip(Reply.decode({ messages: [] }, version))
        expect(error).toMatchObject({ _tag: "UnknownVersion", version, known: 3 })
      }
    }))

  it.effect("that does not decode says where", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Reply.decode({ messages: ["a", 2] }, 3))
      expect(String(error)).toContain("[\"messages\"][1]")
    }))
})

describe("a group", () => {
  it("holds its outputs by identity; more can be added, and other groups merged in", () => {
    const group = OutputGroup.make("chatlab", Reply)
    expect([...group.outputs.keys()]).toEqual([Reply.identity])
    expect([...group.add(Results).outputs.keys()]).toEqual([Reply.identity, Results.identity])
    const merged = group.merge(OutputGroup.make("other", Results))
    expect(merged.namespace).toBe("chatlab")
    expect(merged.outputs.size).toBe(2)
  })

  it("of two outputs with one short name is refused: their handlers could not be told apart", () => {
    expect(() => OutputGroup.make("chatlab", Reply, Other)).toThrow("two outputs named patient-reply")
    expect(() => OutputGroup.make("chatlab", Reply).add(Other)).toThrow("two outputs named patient-reply")
  })

  it("of a namespace that is none is refused", () => {
    expect(() => OutputGroup.make("chat.lab", Reply)).toThrow("is not a namespace")
  })
})

describe("a recorded call", () => {
  it.effect("goes through JSON and back", () =>
    Effect.gen(function*() {
      const codec = Schema.fromJsonString(ServiceCall.ServiceCall)
      const line = JSON.stringify({
        callId: "call-1",
        namespace: "chatlab",
        service: "services.chatlab.standardized_patient.generate-reply",
        finishedAt: "2026-01-01T00:00:00.000Z",
        outputs: [{ schema: Reply.identity, version: 3, data: { messages: [] } }]
      })
      const call = yield* Schema.decodeEffect(codec)(line)
      expect(JSON.parse(yield* Schema.encodeEffect(codec)(call))).toEqual(JSON.parse(line))
    }))

  it("has chunks whose keys print differently, whatever stands in them", () => {
    const keys = [
      { callId: "a", schemaIdentity: "schemas.a.b.c", part: "" },
      { callId: "a", schemaIdentity: "schemas.a.b.c", part: "p" },
      { callId: "a schemas.a.b.c#p", schemaIdentity: "schemas.a.b.c", part: "" },
      { callId: "a", schemaIdentity: "schemas.a.b.c", part: "p schemas.a.b.c" },
      { callId: "\"a\"", schemaIdentity: "schemas.a.b.c", part: "" }
    ]
    expect(new Set(keys.map(ServiceCall.printKey)).size).toBe(keys.length)
  })
})
