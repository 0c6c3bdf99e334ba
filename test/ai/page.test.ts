/**
 * `docs/ai.md` shows only what is run: its blocks are parts of the triage service and of the tests.
 */
import { readFileSync } from "node:fs"
import { expect, it } from "vitest"

const read = (file: string) => readFileSync(new URL(`../../${file}`, import.meta.url), "utf8")
const sources = ["examples/triage/main.ts", "test/ai/resolveHook.mjs", "test/ai/repairRejected.test.ts"].map(read)

it("every block of the page is part of a file", () => {
  const blocks = [...read("docs/ai.md").matchAll(/^```\w+\n([^]*?)^```$/gm)].map(([, block = ""]) => block)
  expect(blocks.length).toBeGreaterThan(1)
  expect(blocks.filter((block) => !sources.some((source) => source.includes(block)))).toEqual([])
})
