/**
 * What others wrote, made safe to print: nothing steers a terminal, nothing is lost, and what is harmless stays readable.
 */
import { spawnSync } from "node:child_process"
import { describe, expect, it } from "vitest"
import * as escape from "../../src/internal/escape.ts"
import { quote } from "../../src/internal/quote.ts"
import { hostile, hostileIn } from "../support/hostile.ts"

const legit = [
  "call-1",
  "Übergabe",
  "看护记录",
  "Ελληνικά",
  "עברית",
  "café au lait: 3 €",
  "e\u0301 written in two",
  "🩺 💊",
  "🇩🇪",
  "O'Brien"
]

/** Texts that look like what is made of others. */
const confusing = [
  "a\\u001bb",
  "a\\\\u001b",
  "\\u005cu001b",
  "\\",
  "\\u",
  "a\"b",
  "$(id)`id`!1",
  "-x",
  "--all",
  "",
  "\ud800"
]

const others = [
  ...hostile.map(([name, text]) => [name, `x${text}y`] as const),
  ...[...legit, ...confusing].map((text) => [text, text] as const)
]

describe("a text of others", () => {
  it.each(others)("is shown without anything that steers a terminal, and nothing is lost: %s", (_, text) => {
    for (
      const shown of [
        escape.escape(text),
        escape.quoted(text),
        escape.word(text),
        escape.escapeProse(text),
        quote(text)
      ]
    ) {
      expect(hostileIn(shown)).toEqual([])
      expect(shown).not.toContain("\n")
      expect(shown.isWellFormed()).toBe(true)
    }
    expect(escape.unescape(escape.escape(text))).toBe(text)
  })

  it("stays as it is where it is harmless", () => {
    for (const text of legit) {
      expect(escape.escape(text)).toBe(text)
      expect(escape.escapeProse(text)).toBe(text)
    }
    // an emoji of several, a sign in its emoji form, a joiner that the script needs
    for (const text of ["👩🏽‍⚕️", "❤️", "1️⃣", "می‌خواهم", "ශ්‍රී"]) expect(escape.escapeProse(text)).toBe(text)
    // a mark more than any script has
    expect(escape.escapeProse(`z${"\u0301".repeat(20)}`)).toBe(`z${"\u0301".repeat(8)}${"\\u0301".repeat(12)}`)
  })

  it("is another one for each other text, also with blanks that look the same", () => {
    for (const blank of ["\u00a0", "\u2003", "\u202f", "\u3000"]) {
      const name = `bed${blank}1`
      expect(escape.word(name)).toBe(`"bed\\u${blank.charCodeAt(0).toString(16).padStart(4, "0")}1"`)
      expect(escape.unescape(escape.escape(name))).toBe(name)
      // a sentence keeps them: they belong to some languages
      expect(escape.escapeProse(`« oui${blank}»`)).toBe(`« oui${blank}»`)
    }
    for (const print of [escape.escape, escape.quoted, escape.word]) {
      expect(new Set(others.map(([, text]) => print(text))).size).toBe(new Set(others.map(([, text]) => text)).size)
    }
    // whatever may be recorded
    const seen = new Map<string, string>()
    const parts = ["\\", "u", "0", "001b", "\u001b", "\"", "a"]
    for (let n = 0; n < 7 ** 5; n++) {
      const text = n.toString(7).split("").map((digit) => parts[Number(digit)]).join("")
      const shown = escape.word(text)
      expect(seen.get(shown) ?? text).toBe(text)
      seen.set(shown, text)
      expect(escape.unescape(escape.escape(text))).toBe(text)
    }
  })

  it("stays JSON within JSON", () => {
    for (const [, text] of others) {
      const shown = escape.escapeUnsafe(JSON.stringify({ text }))
      expect(hostileIn(shown)).toEqual([])
      expect(JSON.parse(shown)).toEqual({ text })
    }
  })

  it.skipIf(process.platform === "win32")(
    "copied into a shell as it is shown, it is one argument that names it",
    () => {
      const texts = [...others.map(([, text]) => text), "rm -rf / ; echo $HOME & * ? [a] {b,c} ~ #"]
      for (const shell of ["sh", "bash"]) {
        const script = `for text in ${texts.map(escape.word).join(" ")}; do printf '%s\\0' "$text"; done`
        const { status, stdout } = spawnSync(shell, ["-c", script], { encoding: "utf8" })
        expect({ shell, status }).toEqual({ shell, status: 0 })
        expect(stdout.split("\0").slice(0, -1).map(escape.unescape)).toEqual(texts)
      }
      // none is a flag
      expect(texts.map(escape.word).filter((word) => /^"?-/.test(word))).toEqual([])
    }
  )
})
