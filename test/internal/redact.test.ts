/**
 * Messages for the log: what an error says stays, what it quotes of the call does not, however it quotes it.
 */
import { describe, expect, it } from "vitest"
import { redact } from "../../src/internal/redact.ts"

const answer = { messages: [{ text: "It hurts on the inside\nof my left knee" }], mood: "tearful", number: 5550123 }

const table: ReadonlyArray<readonly [name: string, message: string, left: string, sqlstate?: string]> = [
  ["a constraint's name stays", `duplicate key violates "bed_pkey"`, `duplicate key violates "bed_pkey"`, "23505"],
  ["a text as it was recorded", "no row for It hurts on the inside\nof my left knee!", "no row for …!"],
  [
    "the beginning of a text",
    `Unexpected token 'I', "It hurts on"... is not valid JSON`,
    `Unexpected token 'I', "…"... is not valid JSON`
  ],
  ["a passage of a text", "cannot parse: the inside of my", "cannot parse: …"],
  ["a single word", "there is no tearful face", "there is no … face"],
  ["a piece of a longer word stays", "tearfulness", "tearfulness"],
  ["a number", "out of range: 5550123", "out of range: …"],
  [
    "a parameter that the server quotes",
    `invalid input syntax for type integer: "sad"`,
    `invalid input syntax for type integer: "…"`,
    "22P02"
  ],
  [
    "a parameter that is cut off",
    `invalid input syntax for type json: "${"x".repeat(500)}"`,
    `invalid input syntax for type json: "…"`,
    "22P02"
  ],
  ["lines become one", "the ward\n  is closed", "the ward is closed"]
]

describe("a message for the log", () => {
  for (const [name, message, left, sqlstate] of table) {
    it(name, () => expect(redact(message, [answer], sqlstate)).toBe(left))
  }
  it("is searched for what is recorded at any depth", () => {
    let deep: unknown = "a secret answer"
    for (let level = 0; level < 100_000; level++) deep = [deep]
    expect(redact("no bed for a secret answer", [deep])).toBe("no bed for …")
  })
  it("is not searched for a huge call, and not logged either", () => {
    expect(redact("the ward is closed", ["x".repeat(2_000_000)])).toMatch(/^not logged: /)
  })
})
