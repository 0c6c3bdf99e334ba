/**
 * Searches for seeds that find the planted bugs, each in a process of its own, and writes `knownSeeds.ts`.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import path from "node:path"
import { promisify } from "node:util"
import { answerMutants } from "./answerMutants.ts"
import { insideMutants, insideRules } from "./insideMutants.ts"
import { logMutants, mutants } from "./mutants.ts"
import { planted } from "./planted.ts"

const file = path.join(import.meta.dirname, "knownSeeds.ts")
const main = path.join(import.meta.dirname, "main.ts")

/** As many as the tests ask for. */
const bugs = [
  ...[mutants, insideMutants, insideRules, logMutants, planted].flatMap(Object.keys).map((name) => ({
    name,
    args: ["--enough", "2", "--seeds", "3000"]
  })),
  ...Object.keys(answerMutants).map((name) => ({ name, args: ["--enough", "5", "--seeds", "1000", "--answers"] }))
]

const search = async ({ args, name }: typeof bugs[number]): Promise<readonly [string, ReadonlyArray<number>]> => {
  const command = ["--conditions=sluice-source", main, "--mutant", name, ...args]
  // that it finds some is told by its status
  const { stdout } = await promisify(execFile)(process.execPath, command).catch((error: { stdout: string }) => error)
  return [name, [...stdout.matchAll(/^seed (\d+):/gm)].map(([, seed]) => Number(seed))]
}

/** Renews the file. */
export const renewSeeds = Effect.gen(function*() {
  const found = yield* Effect.forEach(
    bugs,
    (bug) =>
      Effect.tap(Effect.promise(() => search(bug)), ([name, seeds]) => Console.log(`${name}: ${seeds.join(", ")}`)),
    { concurrency: 2 }
  )
  const lines = found.map(([name, seeds]) => `  ${JSON.stringify(name)}: [${seeds.join(", ")}]`)
  const before = fs.readFileSync(file, "utf8")
  fs.writeFileSync(file, before.replace(/= \{[^]*$/, `= {\n${lines.join(",\n")}\n}\n`))
})
