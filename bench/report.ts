/**
 * Writes the saved results into `bench/README.md`, between the markers of their bench, and draws the pictures. The text
 * around the markers is written by hand and stays.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { markdown, progress, type Result, results, saved } from "./harness/output.ts"
import { pictures } from "./pictures.ts"

const readme = path.join(import.meta.dirname, "README.md")

/** What stands between the markers of a bench. */
const section = (bench: string, found: ReadonlyArray<Result>): string => {
  if (found.length === 0) return "Not measured yet."
  const drawn = pictures(bench, found.flatMap(({ tables }) => tables))
  for (const { name, svg } of drawn) fs.writeFileSync(path.join(results, `${name}.svg`), svg)
  return [
    ...drawn.map(({ alt, name }) => `![${alt}](results/${name}.svg)`),
    ...found.flatMap(({ ground, tables }) => [...ground, ...tables.map(markdown)])
  ].join("\n\n")
}

/** Writes the report. */
export const report = (): void => {
  const all = saved()
  const markers = /(<!-- results of ([\w-]+) -->\n)[^]*?(<!-- end of \2 -->)/g
  const seen = new Set<string>()
  const written = fs.readFileSync(readme, "utf8").replaceAll(
    markers,
    (_, begin: string, bench: string, end: string) => {
      seen.add(bench)
      return `${begin}\n${section(bench, all.filter((result) => result.bench === bench))}\n\n${end}`
    }
  )
  fs.writeFileSync(readme, written)
  for (const { bench } of all) {
    if (!seen.has(bench)) progress(`bench/README.md has no markers for ${bench}: its result is left out`)
  }
  progress(`bench/README.md is written: ${[...seen].join(", ")}`)
}
