/**
 * The message for an answer that the table of its declared handler refuses: it names the column, also where the server does
 * not.
 */
import { expect, layer } from "@effect/vitest"
import { DeadLetters } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as declared from "../support/declared.ts"
import { finding, record } from "../support/declared.ts"
import { untilEmpty } from "../support/drain.ts"

const letterOf = (callId: string) =>
  DeadLetters.DeadLetters.use((dead) => Effect.map(dead.list({ callId }, { limit: 1 }), ([letter]) => letter?.message))

const ofFinding = (column: string) => `column "${column}" of table "finding"`

const long = "It hurts on the inside of the left knee, and more at night"
const cases: ReadonlyArray<readonly [name: string, more: object, message: string]> = [
  [
    "a text that is too long",
    { text: long },
    `value too long for type character varying(40) (22001): ${ofFinding("text")}`
  ],
  ["no date", { day: "soon" }, `invalid input syntax for type date: "soon" (22007): ${ofFinding("day")}`],
  [
    "a number out of range",
    { count: 3e9 },
    `value "3000000000" is out of range for type integer (22003): ${ofFinding("count")}`
  ],
  [
    "an element out of range",
    { places: [1, 4e9] },
    `value "4000000000" is out of range for type integer (22003): ${ofFinding("places")}`
  ],
  [
    "a number with too many digits",
    { amount: 1e12 },
    `numeric field overflow (22003): ${
      ofFinding("amount")
    }; A field with precision 10, scale 2 must round to an absolute value less than 10^8`
  ]
]

for (const [name, store] of Object.entries(declared.servers)) {
  layer(declared.application(store()), { timeout: 240_000, excludeTestServices: true })(`on ${name}`, (it) => {
    it.effect("the column of the value is named", () =>
      Effect.gen(function*() {
        for (const [at, [, more]] of cases.entries()) yield* record(`f-${at}`, yield* finding("a pain", more))
        yield* record("f-ward", yield* finding("a pain"), { context: { ward: "the ward on the second floor" } })
        yield* record("f-good", yield* finding("a pain"))
        expect(yield* untilEmpty).toMatchObject({ persisted: 1, dead: cases.length + 1 })
        for (const [at, [name, , message]] of cases.entries()) expect(yield* letterOf(`f-${at}`), name).toBe(message)
        expect(yield* letterOf("f-ward")).toBe(
          `value too long for type character varying(20) (22001): ${ofFinding("ward")}`
        )
      }))

    it.effect("what the server names itself is told once", () =>
      Effect.gen(function*() {
        yield* record("check", yield* finding("bad"))
        expect(yield* untilEmpty).toMatchObject({ dead: 1 })
        expect(yield* letterOf("check")).toMatch(
          /^new row for relation "finding" violates check constraint "finding_text_check" \(23514\): Failing row contains \(.*\)$/
        )
      }))
  })
}
