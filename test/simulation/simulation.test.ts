/**
 * Hundreds of simulations, and the bugs they must find. `npm run simulate` runs more; a seed that fails is printed, and runs
 * again the same with `--seed`.
 */
import { execFile } from "node:child_process"
import path from "node:path"
import { promisify } from "node:util"
import { describe, expect, it } from "vitest"
import { logMutants, mutants } from "./mutants.ts"
import { planted } from "./planted.ts"
import { seedsOf } from "./seeds.ts"
import { judge, type LogMutant, type Mutant, simulate } from "./simulate.ts"

const clean = Number(process.env.SLUICE_TEST_SEEDS ?? 300)
/** Of which at most so many look for a bug. */
const seeds = 3000
/** So many seeds must find a bug. More than one shows that it is no rare seed; by the command there may be more. */
const enough = 2

interface Bug {
  readonly name: string
  readonly mutant?: Mutant
  readonly log?: LogMutant
}

/** Seeds whose picture is wrong, and what is wrong with it. */
const badSeeds = async (most: number, bug?: Bug): Promise<ReadonlyArray<string>> => {
  const bad: Array<string> = []
  for (const seed of seedsOf(bug?.name, bug === undefined ? clean : seeds)) {
    const { wrong } = judge(seed, bug?.mutant, bug?.log)
    if (wrong.length > 0) bad.push(`npm run simulate -- --seed ${seed}: ${wrong.join("; ")}`)
    if (bad.length === most) break
    // a simulation never lets go by itself
    if (seed % 20 === 0) await new Promise(setImmediate)
  }
  return bad
}

/** How many seeds find a bug in the sources, which only a process of its own can have. */
const findPlanted = async (name: string): Promise<number> => {
  const main = path.join(import.meta.dirname, "main.ts")
  const args = ["--conditions=sluice-source", main, "--mutant", name, "--seeds", `${seeds}`, "--enough", `${enough}`]
  const { stdout } = await promisify(execFile)(process.execPath, args).catch((error: { stdout?: string }) => ({
    stdout: error.stdout ?? String(error)
  }))
  const [, count] = /(\d+) seeds with violations/.exec(stdout) ?? []
  if (count === undefined) throw new Error(`no count: ${stdout}`)
  return Number(count)
}

describe("simulation", () => {
  it(`finds nothing wrong in ${clean} seeds`, async () => {
    expect(await badSeeds(1)).toEqual([])
  }, 300_000)

  it("the same seed gives the same picture", () => {
    expect(simulate(7)).toEqual(simulate(7))
    expect(simulate(7)).not.toEqual(simulate(8))
  })

  it.each(Object.entries(mutants))("finds a store's bug: %s", async (name, mutant) => {
    expect(await badSeeds(enough, { name, mutant })).toHaveLength(enough)
  }, 300_000)

  it.each(Object.entries(logMutants))("finds a bug of the subscribers' log: %s", async (name, log) => {
    expect(await badSeeds(enough, { name, log })).toHaveLength(enough)
  }, 300_000)

  it.each(Object.keys(planted))("finds a bug of the drain or a subscription: %s", async (name) => {
    expect(await findPlanted(name)).toBe(enough)
  }, 300_000)
})
