/**
 * Whether the answer is JSON, however that is said, and also when there is none; and an answer that cannot be written.
 */
import * as fs from "node:fs"
import { afterEach, describe, expect, it, vi } from "vitest"
import { run } from "./inProcess.ts"
import { newDatabase, workplace } from "./workplace.ts"

const away = ["--url", "postgres://nobody@127.0.0.1:1/none"]

describe("JSON", { timeout: 120_000 }, () => {
  afterEach(() => vi.unstubAllEnvs())

  const wanted: ReadonlyArray<ReadonlyArray<string>> = [
    ["status", "--json"],
    ["status", "--json=true"],
    ["status", "--json=yes"],
    ["show", "--json", "call-1"],
    // a switch takes no word behind it
    ["show", "--json", "false"],
    ["show", "--json", "1"],
    ["show", "call-1", "--json", "--"],
    // what is not understood is asked for all the same
    ["status", "--json", "--jsn"],
    ["status", "--jsn", "--json=1"],
    ["status", "--json=maybe"],
    ["stuck", "--json", "--limit", "0"],
    ["frobnicate", "--json"],
    ["dead", "frobnicate", "--json=true"]
  ]
  const unwanted: ReadonlyArray<ReadonlyArray<string>> = [
    ["status"],
    ["status", "--json=false"],
    ["status", "--json=0"],
    ["status", "--no-json"],
    ["show", "--", "--json"],
    ["status", "--jsn"],
    ["status", "--jsn", "--no-json"],
    ["status", "--jsn", "--", "--json"]
  ]
  // an address after what ends the flags would be an argument
  const withAddress = (words: ReadonlyArray<string>) => [words[0] ?? "", ...away, ...words.slice(1)]
  it.each(wanted.map((words) => [words.join(" "), words] as const))(
    "is the answer of `%s` that fails",
    async (_, words) => {
      const { failed, stdout } = await run(...(words[0] === "dead" ? [...words, ...away] : withAddress(words)))
      expect(failed).toBe(true)
      expect(JSON.parse(stdout)).toEqual({ error: expect.stringMatching(/\w+ \w+/) })
    }
  )

  it.each(unwanted.map((words) => [words.join(" "), words] as const))("is not the answer of `%s`", async (_, words) => {
    const { failed, stderr, stdout } = await run(...withAddress(words))
    expect({ failed, stdout }).toEqual({ failed: true, stdout: "" })
    expect(stderr).toContain("ERROR")
  })

  it("can be requested by the environment, if the command line does not say", async () => {
    vi.stubEnv("SLUICE_JSON", "true")
    for (const words of [["status"], ["status", "--jsn"]]) {
      expect(JSON.parse((await run(...words, ...away)).stdout)).toEqual({ error: expect.any(String) })
    }
    for (const words of [["status", "--json=false"], ["status", "--no-json", "--jsn"]]) {
      expect((await run(...words, ...away)).stdout).toBe("")
    }
  })
})

describe("an answer that cannot be written", { timeout: 240_000 }, () => {
  const shell = (place: Awaited<ReturnType<typeof workplace>>, args: string, to: string) =>
    place.run("bash", ["-c", `set -o pipefail; ${place.command.map((word) => `'${word}'`).join(" ")} ${args} ${to}`])
      .ended

  it.skipIf(!fs.existsSync("/dev/full"))(
    "because the disk is full is reported in a sentence, and the command fails",
    async () => {
      const place = await workplace(await newDatabase())
      await place.sluice("migrate")
      for (const args of ["status", "doctor --json"]) {
        const { status, stderr } = await shell(place, args, "> /dev/full")
        expect(stderr).toContain("the answer could not be written: ENOSPC")
        expect(stderr).not.toMatch(/^\s+at |Node\.js v/m)
        expect(status).toBe(1)
      }
    }
  )

  it("because standard output is closed is reported as well", async () => {
    const place = await workplace(await newDatabase())
    await place.sluice("migrate")
    const running = place.start("status", "--json")
    running.child.stdout.destroy()
    const { status, stderr } = await running.ended
    expect(stderr).toContain("the answer could not be written: standard output was closed")
    expect(stderr).not.toMatch(/^\s+at |Node\.js v/m)
    expect(status).toBe(1)
    // who looks again and again has read enough
    const watching = place.start("status", "--watch")
    await watching.says("nothing is recorded", { on: "stdout" })
    watching.child.stdout.destroy()
    expect((await watching.ended).status).toBe(0)
  })
})
