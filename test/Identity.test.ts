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

  it.effect("may be of any domain, and its parts up to 128 characters long", () =>
    Effect.gen(function*() {
      for (const domain of Identity.domains) {
        const text = `${domain}.A-Z_0-9.${longest}.x`
        expect(Identity.print(yield* Identity.parse(text))).toBe(text)
      }
    }))

  const wrong = [
    ["", "parts", "1 parts"],
    ["a.b.c", "parts", "3 parts"],
    ["schemas.a.b.c.d", "parts", "5 parts"],
    ["handlers.a.b.c", "domain", "none of services"],
    ["Schemas.a.b.c", "domain", "none of services"],
    ["__proto__.a.b.c", "domain", "none of services"],
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
        const error = yield* Effect.flip(Identity.parse(text))
        expect(error).toMatchObject({ _tag: "IdentityInvalid", text, part })
        expect(error.message).toContain(`${part}: `)
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
