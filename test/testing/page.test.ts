/**
 * `docs/testing.md` shows only what is run: its blocks are parts of tests, and its commands are the project's.
 */
import { readFileSync } from "node:fs"
import path from "node:path"
import { expect, it } from "vitest"
import { answerMutants } from "../simulation/answerMutants.ts"
import { mutants } from "../simulation/mutants.ts"
import { planted } from "../simulation/planted.ts"

const root = path.resolve(import.meta.dirname, "../..")
const read = (file: string) => readFileSync(path.join(root, file), "utf8")
const page = read("docs/testing.md")
const blocks = (language: string) =>
  [...page.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, "gm"))].map(([, block]) => block ?? "")

const tests = [
  "examples/in-memory.test.ts",
  "examples/declared.test.ts",
  "examples/rehearsal.test.ts",
  "test/support/foreignStore.ts",
  "test/testing/postgres.test.ts",
  "test/testing/TestDatabase.test.ts"
].map(read)

it("its TypeScript stands in tests", () => {
  expect(blocks("ts").length).toBeGreaterThan(4)
  for (const block of blocks("ts")) expect(tests.some((text) => text.includes(block)), block).toBe(true)
})

it.each(["postgres", "TestDatabase"])("what it shows of Postgres is all of what is marked there: %s", (name) => {
  const [, marked] = read(`test/testing/${name}.test.ts`).split("// ---\n")
  expect(blocks("ts")).toContain(marked)
})

it("its commands are scripts, and its mutants exist", () => {
  const { scripts } = JSON.parse(read("package.json")) as { readonly scripts: Readonly<Record<string, string>> }
  const commands = blocks("sh").flatMap((block) => block.trim().split("\n"))
  expect(commands.length).toBeGreaterThan(3)
  for (const command of commands) expect(scripts).toHaveProperty(/^npm run (\S+)/.exec(command)?.[1] ?? command)
  const bugs = [...page.matchAll(/--mutant "([^"]+)"/g)].map(([, bug]) => bug ?? "")
  expect(bugs.length).toBeGreaterThan(0)
  for (const bug of bugs) expect({ ...mutants, ...planted, ...answerMutants }).toHaveProperty([bug])
})

it("its files are there", () => {
  const files = [...page.matchAll(/`((?:test|examples)\/[\w./]+)`|\]\(\.\.\/([\w./-]+)\)/g)].map(([, a, b]) =>
    a ?? b ?? ""
  )
  expect(files.length).toBeGreaterThan(5)
  for (const file of files) expect(() => readFileSync(path.join(root, file)), file).not.toThrow(/ENOENT/)
})
