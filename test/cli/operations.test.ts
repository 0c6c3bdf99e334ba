/**
 * `docs/operations.md` says only what runs; the dashboard and the alerts use only metrics there are.
 */
import { Metrics } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as fs from "node:fs"
import path from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { freshDatabase } from "../support/Postgres.ts"
import { cleanUp, workplace } from "./workplace.ts"

const root = path.resolve(import.meta.dirname, "../..")
const page = fs.readFileSync(path.join(root, "docs/operations.md"), "utf8")
const scope = Scope.makeUnsafe()
afterAll(async () => {
  cleanUp()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

/** A command line's words; what is in quotes is one. */
const words = (line: string): ReadonlyArray<string> =>
  [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? "")

/** The page's blocks of commands, each with what the page says is printed, if it does. */
const blocks = [...page.matchAll(/^ *```sh\n([^]*?)^ *```$(?:\n+```text\n([^]*?)^```$)?/gm)].map(
  ([, commands, printed]) => ({ commands: (commands ?? "").trim().split(/\n */), printed })
)

/** What is printed, without times, sizes, estimates and traces, and without the width of columns. */
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
  const place = workplace(await Effect.runPromise(Scope.provide(freshDatabase(), scope)))
  // ten notes, of which one is refused, and an X-ray that nobody has a handler for
  place.handler("broken")
  await place.sluice("record", place.file("calls.jsonl", place.calls(10)))
  await place.sluice("record", place.file("other.jsonl", place.calls(1, 77).replaceAll("ward.note", "ward.x-ray")))
  await place.sluice("drain", "--until-empty")
  const outputs: Array<string> = []
  for (const { commands } of blocks) {
    let output = ""
    for (const line of commands) {
      const [name, ...args] = words(line)
      expect(name).toBe("sluice")
      // there is a backlog
      if (args[0] === "drain") await place.sluice("record", place.file("more.jsonl", place.calls(20, 200)))
      const ended = await place.sluice(...args)
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
    expect(blocks.flatMap(({ commands }) => commands).length).toBeGreaterThan(18)
    const outputs = await runAll((line, { status, stdout }) => {
      // the doctor's status says how bad it is: there is a dead letter
      expect({ line, status }).toEqual({ line, status: line === "sluice doctor" ? 1 : 0 })
      // but for SQL, traces and payloads, all fits into a terminal
      const wide = stdout.split("\n").filter((text) => text.length > 80 && !/^ +(at|data:) /.test(text))
      expect({ line, wide: line.includes("migrate") ? [] : wide }).toEqual({ line, wide: [] })
    })
    for (const [n, { commands, printed }] of blocks.entries()) {
      const [said, is] = [printed ?? outputs[n], outputs[n]].map((text) => steady(text ?? ""))
      expect({ commands, printed: is }).toEqual({ commands, printed: said })
    }
  }, 300_000)

  it("says what each of its calls at night prints", () => {
    const calls = page.slice(page.indexOf("## What to do when"), page.indexOf("## Watching it"))
    expect(calls.match(/^```sh$/gm)?.length).toBe(calls.match(/^```text$/gm)?.length)
    expect(calls.match(/^```sh$/gm)?.length).toBeGreaterThanOrEqual(10)
  })

  it("names every setting and every metric", () => {
    const settings = fs.readFileSync(path.join(root, "src/Settings.ts"), "utf8").match(/SLUICE_[A-Z_]+/g) ?? []
    expect([...new Set(settings)].filter((name) => !page.includes(name))).toEqual([])
    expect(Metrics.names.filter((name) => !page.includes(name))).toEqual([])
  })
})

describe("what watches it", () => {
  const used = (file: string): ReadonlyArray<string> =>
    [
      ...new Set(fs.readFileSync(path.join(root, "examples", file), "utf8").match(/sluice_[a-z_]+/g) ?? [])
    ].map((name) => name.replace(/_(bucket|sum|count)$/, ""))

  it.each(["grafana-dashboard.json", "alert-rules.yml"])("%s asks for metrics there are", (file) => {
    expect(used(file).length).toBeGreaterThan(3)
    expect(used(file).filter((name) => !Metrics.names.includes(name))).toEqual([])
  })

  it("every metric is on the dashboard", () => {
    expect(Metrics.names.filter((name) => !used("grafana-dashboard.json").includes(name))).toEqual([])
  })
})
