import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { describe, expect } from "vitest"
import { maxTextLength } from "../../src/CallAttempt.ts"
import * as runNotes from "../../src/internal/runNotes.ts"

describe("the texts that are kept of a run", () => {
  it.effect("are at most sixteen of the longest together; what has no room says how long it was", () =>
    Effect.gen(function*() {
      const notes = runNotes.make(undefined)
      const text = "x".repeat(maxTextLength + 7)
      for (let n = 0; n < 15; n++) yield* notes.run.answered({ text })
      yield* notes.run.answered({ text: "y".repeat(maxTextLength - 3) })
      for (const last of ["abcdef", "no room"]) yield* notes.run.answered({ text: last })
      const { attempts } = notes.succeeded()
      expect(attempts.map(({ length, text }) => [text?.length, length])).toEqual([
        ...Array.from({ length: 15 }, () => [maxTextLength, maxTextLength + 7]),
        [maxTextLength - 3, maxTextLength - 3],
        [3, 6],
        [0, 7]
      ])
      expect(attempts.at(-2)?.text).toBe("abc")
    }))

  it.effect("are no longer for being made storable", () =>
    Effect.gen(function*() {
      const notes = runNotes.make(undefined)
      yield* notes.run.answered({ text: "\u0000".repeat(maxTextLength) })
      yield* notes.run.answered({ text: `${"x".repeat(maxTextLength - 1)}😀` })
      const [nul, half] = notes.succeeded().attempts
      expect([nul?.text?.length, nul?.text?.slice(0, 4)]).toEqual([maxTextLength, "\\0\\0"])
      expect([half?.text?.length, half?.text?.slice(-2)]).toEqual([maxTextLength, "x\ufffd"])
    }))
})
