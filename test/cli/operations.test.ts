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

const commands = [...page.matchAll(/^```sh\n([^]*?)^```$/gm)].flatMap(([, block]) =>
  (block ?? "").split("\n").filter((line) => line.startsWith("sluice "))
)

describe("docs/operations.md", () => {
  it("every command in it runs, in its order", async () => {
    const place = workplace(await Effect.runPromise(Scope.provide(freshDatabase(), scope)))
    place.handler("broken")
    await place.sluice("record", place.file("calls.jsonl", place.calls(10)))
    await place.sluice("drain", "--until-empty")
    expect(commands.length).toBeGreaterThan(12)
    for (const line of commands) {
      const [, ...args] = words(line)
      const { status, stderr, stdout } = await place.sluice(...args)
      // the doctor's status says how bad it is
      expect({ line, status: line === "sluice doctor" ? 0 : status, stderr }).toMatchObject({ line, status: 0 })
      expect(stdout).not.toBe("")
      // what is redriven dies again, so that there is something to discard
      if (line.startsWith("sluice dead redrive") && !line.includes("--dry-run")) {
        await place.sluice("drain", "--until-empty")
      }
    }
  }, 120_000)

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
