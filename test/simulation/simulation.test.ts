/**
 * Hundreds of simulations, and the bugs they must find. `npm run simulate` runs more; a seed that fails is printed, and runs
 * again the same with `--seed`.
 */
import { execFile } from "node:child_process"
import path from "node:path"
import { promisify } from "node:util"
import { describe, expect, it } from "vitest"
import { insideMutants, insideRules } from "./insideMutants.ts"
import { logMutants, mutants } from "./mutants.ts"
import { planted } from "./planted.ts"
import { regressions, seedsOf } from "./seeds.ts"
import { judge, type Options, simulate } from "./simulate.ts"

/** So many seeds of each world. */
const clean = Number(process.env.SLUICE_TEST_SEEDS ?? 60)
/** At most so many look for a bug. */
const seeds = 3000
/** So many seeds must find a bug. More than one shows that it is no rare seed; by the command there may be more. */
const enough = 2

interface Bug extends Options {
  readonly name?: string
}

/** Seeds whose picture is wrong, and what is wrong with it. */
const badSeeds = async (most: number, count: number, { name, ...options }: Bug): Promise<ReadonlyArray<string>> => {
  const bad: Array<string> = []
  for (const seed of seedsOf(name, count)) {
    const { wrong } = judge(seed, options)
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
  const args = [
    ...process.execArgv.filter((flag) => flag.includes("semi-space")),
    "--conditions=sluice-source",
    main,
    "--mutant",
    name,
    "--seeds",
    `${seeds}`,
    "--enough",
    `${enough}`
  ]
  const { stdout } = await promisify(execFile)(process.execPath, args).catch((error: { stdout?: string }) => ({
    stdout: error.stdout ?? String(error)
  }))
  const [, count] = /(\d+) seeds with violations/.exec(stdout) ?? []
  if (count === undefined) throw new Error(`no count: ${stdout}`)
  return Number(count)
}

describe("simulation", () => {
  it.each(["mixed", "programs"] as const)(`finds nothing wrong in ${clean} seeds: %s`, async (world) => {
    expect(await badSeeds(1, clean, { world })).toEqual([])
  }, 300_000)

  it.each(regressions)("finds nothing wrong in seed %i, which has found a bug before", (seed) => {
    expect(judge(seed).wrong).toEqual([])
  })

  it("the same seed gives the same picture", () => {
    expect(simulate(7)).toEqual(simulate(7))
    expect(simulate(7)).not.toEqual(simulate(8))
  })

  it.each(Object.entries(mutants))("finds a store's bug: %s", async (name, mutant) => {
    expect(await badSeeds(enough, seeds, { name, world: "programs", mutant })).toHaveLength(enough)
  }, 300_000)

  it.each(Object.entries(insideMutants))("finds a store's bug: %s", async (name, mutant) => {
    expect(await badSeeds(enough, seeds, { name, mutant })).toHaveLength(enough)
  }, 300_000)

  it.each(Object.entries(insideRules))("finds a bug of what the store persists by itself: %s", async (name, rules) => {
    expect(await badSeeds(enough, seeds, { name, rules })).toHaveLength(enough)
  }, 300_000)

  it.each(Object.entries(logMutants))("finds a bug of the subscribers' log: %s", async (name, logMutant) => {
    expect(await badSeeds(enough, seeds, { name, world: "programs", logMutant })).toHaveLength(enough)
  }, 300_000)

  it.each(Object.keys(planted))("finds a bug of the drain or a subscription: %s", async (name) => {
    expect(await findPlanted(name)).toBe(enough)
  }, 300_000)
})
