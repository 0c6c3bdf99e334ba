/**
 * What a handler failed with, as whoever wrote it meets it: in the log at once, and on the screens with the innermost cause
 * first, as wide as the terminal, and whole where no terminal is.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import path from "node:path"
import { afterEach, beforeAll, describe, expect, it } from "vitest"
import { type Printed, run } from "./inProcess.ts"
import { newDatabase } from "./workplace.ts"

const text = "It hurts on the inside of my left knee"
const call = (callId: string, data: object) =>
  JSON.stringify({
    callId,
    namespace: "clinic",
    service: "services.chatlab.standardized_patient.generate-reply",
    outputs: [{ schema: "schemas.chatlab.standardized_patient.patient-reply", version: 1, data }]
  })
const innermost = `invalid input syntax for type timestamp with time zone: "${text}"`

describe("what a handler failed with", { timeout: 240_000 }, () => {
  let url = ""
  let drained: Printed
  const sluice = (...args: ReadonlyArray<string>) => run(...args, "--url", url)

  beforeAll(async () => {
    url = await newDatabase()
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-errors-"))
    const file = path.join(folder, "calls.jsonl")
    fs.writeFileSync(file, `${call("call-1", { text })}\n${call("call-2", { text: [text] })}\n`)
    await sluice("record", file)
    fs.rmSync(folder, { recursive: true })
    drained = await sluice("drain", "--handlers", path.join(import.meta.dirname, "failingReplies.ts"))
  }, 240_000)
  afterEach(() => {
    Reflect.deleteProperty(process.stdout, "isTTY")
    Reflect.deleteProperty(process.stdout, "columns")
  })

  it("is in the log, without recorded data", () => {
    const line = drained.stderr.split("\n").find((line) => line.includes("will be retried"))
    expect(line).toContain("sluice.error=NotSaved")
    expect(line).toContain("sluice.sqlstate=22007")
    expect(line).toMatch(/invalid input syntax for type timestamp with time zone: .*…/)
    const dead = drained.stderr.split("\n").find((line) => line.includes("a chunk is dead"))
    expect(dead).toContain("Expected string")
    expect(drained.stderr).not.toContain("inside")
  })

  it("is listed with the innermost cause first, and in full without a terminal", async () => {
    const { stdout } = await sluice("stuck")
    const line = stdout.split("\n").find((line) => line.includes("latest error"))
    expect(line?.startsWith(`  latest error: ${innermost}`)).toBe(true)
    expect(line).toMatch(/in NotSaved: the reply could not be saved, .* to the end\)$/)
    const listed = await sluice("dead", "list")
    expect(listed.stdout).toMatch(/^ {2}undecodable after 0 attempts: Expected string at \["text"\]$/m)
  })

  it("is shown in full while the chunk still retries, and `stuck` says how", async () => {
    const { stdout } = await sluice("stuck")
    expect(stdout).toMatch(/^ {2}in full: sluice show call-1$/m)
    const shown = await sluice("show", "call-1")
    expect(shown.stdout).toContain(`\n    attempt 1, failed:\n      | ${innermost}`)
    expect(shown.stdout).toMatch(/ to the end\)$/m)
  })

  it("is cut only to the terminal's width", async () => {
    for (const columns of [60, 200]) {
      Object.defineProperty(process.stdout, "isTTY", { value: true, configurable: true })
      Object.defineProperty(process.stdout, "columns", { value: columns, configurable: true })
      const { stdout } = await sluice("stuck")
      const line = stdout.split("\n").find((line) => line.includes("latest error"))
      expect(line).toHaveLength(columns)
      expect(line?.endsWith("…")).toBe(true)
    }
  })
})
