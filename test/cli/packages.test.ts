/**
 * The packages that the command asks for are those that the package itself names.
 */
import { readFileSync } from "node:fs"
import path from "node:path"
import { expect, it } from "vitest"
import * as packages from "../../src/cli/packages.ts"

const read = (file: string) => readFileSync(path.join(import.meta.dirname, "../..", file), "utf8")
const { devDependencies, peerDependencies } = JSON.parse(read("package.json"))

it("have the versions of package.json", () => {
  for (const spec of [...packages.embedded, ...packages.required]) {
    const name = packages.nameOf(spec)
    const version = spec.slice(name.length + 1)
    expect(version === "" ? spec : `${name}@${peerDependencies[name]}`).toBe(spec)
  }
  for (const spec of packages.embedded) expect(devDependencies[packages.nameOf(spec)]).toBe(spec.split("@").at(-1))
  expect(packages.required.map(packages.nameOf)).toEqual(["effect", "@effect/platform-node", "@effect/sql-pg"])
})

it.each(["README.md", "docs/operations.md"])("have the same versions in %s", (file) => {
  const found = read(file).match(/(?<![\w/])(@electric-sql\/[\w-]+|effect|@effect\/platform-node)@[~^\d][\w.]*/g) ?? []
  const known = [...packages.embedded, ...packages.required]
  expect(found.length).toBeGreaterThan(0)
  expect(found.filter((spec) => !known.includes(spec))).toEqual([])
})
