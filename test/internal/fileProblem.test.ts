/**
 * What the operating system reports about a file, in words.
 */
import * as fs from "node:fs/promises"
import * as os from "node:os"
import path from "node:path"
import { afterAll, beforeAll, expect, it } from "vitest"
import { fileProblem } from "../../src/internal/fileProblem.ts"

let folder = ""
beforeAll(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), "sluice-files-"))
})
afterAll(() => fs.rm(folder, { recursive: true }))

const errorOf = (work: Promise<unknown>): Promise<unknown> => work.then(() => undefined, (error: unknown) => error)

it("names the file and what is wrong with it", async () => {
  const there = path.join(folder, "calls.jsonl")
  await fs.writeFile(there, "")
  await fs.symlink("loop", path.join(folder, "loop"))
  const problemOf = async (file: string) => fileProblem(await errorOf(fs.readFile(file)), file)
  expect(await problemOf(folder)).toBe(`${folder} is a folder, not a file`)
  expect(await problemOf(path.join(folder, "none"))).toBe(`there is no file ${folder}/none`)
  expect(await problemOf(path.join(there, "more"))).toBe(
    `the path ${there}/more goes through a file as if it were a folder`
  )
  expect(await problemOf(path.join(folder, "loop"))).toBe(`the links at ${folder}/loop form a loop`)
  expect(await problemOf("x".repeat(5000))).toMatch(/^the path x+… is too long$/)
  expect(await problemOf(there)).toBe(undefined)
})

it("leaves errors that are not about a file to others", () => {
  expect(fileProblem(new Error("ENOENT"), "a")).toBe(undefined)
  expect(fileProblem(Object.assign(new Error(), { code: "ENOENT", syscall: "connect", path: "/tmp/s" }))).toBe(
    undefined
  )
  expect(fileProblem(Object.assign(new Error(), { code: "EISDIR", syscall: "read" }))).toBe(undefined)
  expect(fileProblem(undefined)).toBe(undefined)
  expect(fileProblem(Object.assign(new Error(), { code: "toString", syscall: "open", path: "a" }))).toBe(undefined)
})
