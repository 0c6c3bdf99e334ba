/**
 * Identities: four parts, taken apart, printed and checked.
 */
import { it } from "@effect/vitest"
import { Identity } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describe, expect } from "vitest"

const good = "schemas.chatlab.standardized_patient.patient-reply"
const longest = "x".repeat(Identity.maxPartLength)

describe("an identity", () => {
  it.effect("is taken apart and printed again", () =>
    Effect.gen(function*() {
      const identity = yield* Effect.fromResult(Identity.parse(good))
      expect(identity).toEqual({
        domain: "schemas",
        namespace: "chatlab",
        group: "standardized_patient",
        name: "patient-reply"
      })
      expect(Identity.format(identity)).toBe(good)
      expect(yield* Effect.fromResult(Identity.validate(identity))).toEqual(identity)
    }))

  it.effect("may be of any domain, and its parts up to 128 characters long", () =>
    Effect.gen(function*() {
      for (const domain of Identity.domains) {
        const text = `${domain}.A-Z_0-9.${longest}.x`
        expect(Identity.format(yield* Effect.fromResult(Identity.parse(text)))).toBe(text)
      }
    }))

  const wrong = [
    ["", "parts", "1 part and not 4"],
    ["a.b.c", "parts", "3 parts"],
    ["schemas.a.b.c.d", "parts", "5 parts"],
    ["handlers.a.b.c", "domain", "not one of services"],
    ["Schemas.a.b.c", "domain", "not one of services"],
    ["__proto__.a.b.c", "domain", "not one of services"],
    ["schemas..b.c", "namespace", "is empty"],
    ["schemas.a b.b.c", "namespace", "may hold only"],
    ["schemas.a.ü.c", "group", "may hold only"],
    ["schemas.a.🩺.c", "group", "may hold only"],
    [`schemas.a.b.${longest}x`, "name", "129 characters"],
    ["schemas.a.b.c\n", "name", "may hold only"],
    ["schemas.a.b.c\u202e", "name", "may hold only"],
    ["schemas.a.b.c'; drop table x; --", "name", "may hold only"]
  ] as const
  for (const [text, part, reason] of wrong) {
    it.effect(`${JSON.stringify(text.slice(0, 30))}: its ${part}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Effect.fromResult(Identity.parse(text)))
        expect(error).toMatchObject({ _tag: "IdentityInvalid", text, part })
        expect(error.message).toContain(part === "parts" ? "it has " : `${part}: `)
        expect(error.message).toContain(reason)
      }))
  }

  const byHand = [
    [{ domain: "handlers" }, "domain", "not one of services"],
    [{ namespace: "a.b" }, "namespace", "may hold only"],
    [{ group: "" }, "group", "is empty"],
    [{ name: "patient-reply.v2" }, "name", "may hold only"],
    [{ group: "a.b", name: "x y" }, "group", "may hold only"],
    [{ name: `${longest}x` }, "name", "129 characters"],
    [{ namespace: undefined }, "namespace", "is not a string"]
  ] as const
  for (const [fields, part, reason] of byHand) {
    it.effect(`put together by hand with ${JSON.stringify(fields).slice(0, 40)}: its ${part}`, () =>
      Effect.gen(function*() {
        const right: Identity.Identity = yield* Effect.fromResult(Identity.parse(good))
        // what the compiler would not have let through
        const identity = { ...right, ...fields } as Identity.Identity
        const error = yield* Effect.flip(Effect.fromResult(Identity.validate(identity)))
        expect(error).toMatchObject({ _tag: "IdentityInvalid", text: Identity.format(identity), part })
        expect(error.reason).toContain(reason)
        // and is not written as the text of another
        yield* Effect.flip(Schema.encodeEffect(Identity.IdentityFromString)(identity))
      }))
  }

  it.effect("that is a page long is quoted by its ends", () =>
    Effect.gen(function*() {
      for (
        const text of [
          `begin${"x".repeat(100_000)}end`,
          `schemas.a.${"🩺".repeat(10_000)}.b`,
          `${longest.repeat(9)}.a.b.c`
        ]
      ) {
        const { message } = yield* Effect.flip(Effect.fromResult(Identity.parse(text)))
        expect(message.length).toBeLessThan(500)
        expect(message).toContain(`"${text.slice(0, 8)}`)
        expect(message).toContain(`(${text.length} characters)`)
        expect(message.isWellFormed()).toBe(true)
      }
    }))

  it.effect("as JSON is a text", () =>
    Effect.gen(function*() {
      const identity = yield* Schema.decodeEffect(Identity.IdentityFromString)(good)
      expect(yield* Schema.encodeEffect(Identity.IdentityFromString)(identity)).toBe(good)
      const error = yield* Effect.flip(Schema.decodeEffect(Identity.IdentityFromString)("a.b"))
      expect(String(error)).toContain("2 parts")
      const none = yield* Effect.flip(
        Schema.encodeEffect(Identity.IdentityFromString)({ ...identity, name: "reply.v2" })
      )
      expect(String(none)).toContain("name: may hold only")
    }))
})
