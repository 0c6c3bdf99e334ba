/**
 * `docs/operations.md` and the README say only what runs.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as TestConsole from "effect/testing/TestConsole"
import * as fs from "node:fs"
import path from "node:path"
import { describe, expect, it } from "vitest"
import { sluice, version } from "../../src/cli/command.ts"
import * as Help from "../../src/cli/Help.ts"
import * as options from "../../src/cli/options.ts"
import * as Metrics from "../../src/Metrics.ts"
import * as Settings from "../../src/Settings.ts"
import { notes, ward, workplace } from "./workplace.ts"

const root = path.resolve(import.meta.dirname, "../..")
const page = fs.readFileSync(path.join(root, "docs/operations.md"), "utf8")
const readme = fs.readFileSync(path.join(root, "README.md"), "utf8")

/** A command line's words; what is in quotes is one. */
const words = (line: string): ReadonlyArray<string> =>
  [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? "")

/** A page's blocks of commands, each with what the page says is printed, if it does. */
const blocksOf = (text: string) =>
  [...text.matchAll(/^ *```sh\n([^]*?)^ *```$(?:\n+```text\n([^]*?)^```$)?/gm)].map(
    ([, commands, printed]) => ({ commands: (commands ?? "").trim().split(/\n */), printed })
  )

/** What is printed, without times, sizes, estimates, names of machines and traces, and without the width of columns. */
const steady = (text: string): string =>
  text
    .replaceAll(/^ +at .*\n/gm, "")
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
    .replaceAll(/\d+ (ms|s|min|h|d)\b/g, "AGE")
    .replaceAll(/\d+ (kB|dead rows|live ones|persisted in the last)/g, "N $1")
    .replaceAll(/ +/g, " ")

/** Runs the page's commands in its order; what each block of them printed. */
const runAll = async (
  check: (line: string, ended: { readonly status: number | null; readonly stdout: string }) => void
) => {
  const place = await ward("broken")
  // ten notes, of which one is refused, and an X-ray that nobody has a handler for
  await place.record(10)
  await place.inside("record", place.file("other.jsonl", notes(1, 77).replaceAll("ward.note", "ward.x-ray")))
  await place.sluice("drain", "--until-empty")
  place.file("calls.jsonl", notes(10))
  const outputs: Array<string> = []
  for (const { commands } of blocksOf(page)) {
    let output = ""
    for (const line of commands) {
      const [name, ...args] = words(line)
      expect(name).toBe("sluice")
      // there is a backlog
      if (args[0] === "drain") await place.inside("record", place.file("more.jsonl", notes(20, 200)))
      // a process is what loads handlers; that commands are found and end as one, other tests say
      const ended = await (args[0] === "drain" || args[0] === "handlers" ? place.sluice : place.inside)(...args)
      check(line, ended)
      output += ended.stdout
      // what is redriven dies again, so that there is something to discard
      if (line.startsWith("sluice dead redrive") && !line.includes("--dry-run")) {
        await place.sluice("drain", "--until-empty")
      }
    }
    outputs.push(output)
  }
  return outputs
}

describe("docs/operations.md", () => {
  it("every command in it runs, in its order, and prints what the page says", async () => {
    const blocks = blocksOf(page)
    expect(blocks.flatMap(({ commands }) => commands).length).toBeGreaterThan(18)
    const outputs = await runAll((line, { status, stdout }) => {
      // the doctor's status says how bad it is: there is a dead letter
      expect({ line, status }).toEqual({ line, status: line === "sluice doctor" ? 1 : 0 })
      // but for SQL, traces and payloads, all fits into a terminal
      const wide = stdout.split("\n").filter((text) => text.length > 80 && !/^ +(at|data:) /.test(text))
      expect({ line, wide: line.includes("migrate") ? [] : wide }).toEqual({ line, wide: [] })
    })
    const printed = blocks.map(({ commands }, n) => ({ commands, printed: steady(outputs[n] ?? "") }))
    expect(printed).toEqual(
      blocks.map(({ commands, printed }, n) => ({ commands, printed: steady(printed ?? outputs[n] ?? "") }))
    )
  }, 300_000)

  it("says what each of its calls at night prints", () => {
    const calls = page.slice(page.indexOf("## What to do when"), page.indexOf("## Watching it"))
    expect(calls.match(/^```sh$/gm)?.length).toBe(calls.match(/^```text$/gm)?.length)
    expect(calls.match(/^```sh$/gm)?.length).toBeGreaterThanOrEqual(10)
  })

  it("names every setting, every metric with its labels, and every value of these", () => {
    const settings = [...Settings.names, ...Object.values(options.names)]
    expect(settings.filter((name) => !page.includes(`\`${name}\``))).toEqual([])
    for (const [name, labels] of Object.entries(Metrics.labels)) {
      const row = page.split("\n").find((line) => line.startsWith("|") && line.includes(`\`${name}\``)) ?? ""
      expect({ name, row }).toEqual({ name, row: expect.stringContaining(`| ${labels.join(", ")}`.trimEnd()) })
      for (const value of Metrics.values[name] ?? []) expect(row).toContain(`\`${value}\``)
    }
  })
})

describe("the commands in running text", () => {
  /** On a server that is not there: what is understood fails there, and what is not before. */
  const said = (line: string) =>
    Effect.gen(function*() {
      // these ask no database
      const url = /--(help|completions|version)|^sluice grants/.test(line)
        ? []
        : ["--url", "postgres://nobody@127.0.0.1:1/none"]
      yield* Effect.exit(Command.runWith(sluice, { version })([...words(line).slice(1), ...url]))
      return (yield* TestConsole.errorLines).join("\n")
    }).pipe(Effect.provide([Help.layer, NodeServices.layer, TestConsole.layer]), Effect.runPromise)

  const inline = [...`${page}\n${readme}`.replaceAll(/^ *```[^]*?^ *```$/gm, "").matchAll(/`(sluice [a-z-][^`]*)`/g)]
    .map(([, line]) => line ?? "")
  it.each([...new Set(inline)])("%s is understood", async (line) => {
    expect(await said(line)).not.toMatch(/See sluice/)
  })

  it("are some, and what is not understood is seen", async () => {
    expect(inline.length).toBeGreaterThan(5)
    expect(await said("sluice drain --evry 5s")).toMatch(/See sluice drain --help/)
  })
})

describe("the README", () => {
  it("shows what the command prints, from the first to the last", async () => {
    const place = await workplace()
    const section = readme.slice(readme.indexOf("## The command"))
    const blocks = blocksOf(section.slice(0, section.indexOf("\n## ", 1))).filter(({ printed }) =>
      printed !== undefined
    )
    expect(blocks.length).toBeGreaterThan(1)
    for (const { commands, printed } of blocks) {
      let output = ""
      for (const line of commands) {
        const [, ...args] = words(line.replace(/^npx /, ""))
        const ended = await (args[0] === "drain" ? place.sluice : place.inside)(...args)
        expect({ line, status: ended.status }).toEqual({ line, status: 0 })
        output += ended.stdout
      }
      expect({ commands, printed: steady(output) }).toEqual({ commands, printed: steady(printed ?? "") })
    }
  }, 1_500_000)
})
