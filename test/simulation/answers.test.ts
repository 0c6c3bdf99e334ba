/**
 * Simulations of what is paid for, and the bugs that they must find. `npm run simulate -- --answers` runs more.
 */
import { describe, expect, it } from "vitest"
import { answerMutants } from "./answerMutants.ts"
import { type AnswerMutant, simulateAnswers } from "./answers.ts"
import { answerViolations } from "./checkAnswers.ts"
import { seedsOf } from "./seeds.ts"

const clean = Number(process.env.SLUICE_TEST_SEEDS ?? 120)
/** Of which at most so many look for a bug. */
const seeds = 1000
/** So many seeds must find a bug, for it not to be found by luck. */
const enough = 5

const badSeeds = async (most: number, bug?: string, mutant?: AnswerMutant): Promise<ReadonlyArray<string>> => {
  const bad: Array<string> = []
  for (const seed of seedsOf(bug, bug === undefined ? clean : seeds)) {
    const wrong = answerViolations(simulateAnswers(seed, mutant))
    if (wrong.length > 0) bad.push(`npm run simulate -- --answers --seed ${seed}: ${wrong.join("; ")}`)
    if (bad.length === most) break
    // a simulation never lets go by itself
    if (seed % 20 === 0) await new Promise(setImmediate)
  }
  return bad
}

describe("simulation of answers", () => {
  it(`finds nothing wrong in ${clean} seeds`, async () => {
    expect(await badSeeds(1)).toEqual([])
  }, 300_000)

  it("the same seed gives the same end", () => {
    expect(simulateAnswers(7)).toEqual(simulateAnswers(7))
    expect(simulateAnswers(7)).not.toEqual(simulateAnswers(8))
  })

  it.each(Object.entries(answerMutants))("finds a bug: %s", async (name, mutant) => {
    expect(await badSeeds(enough, name, mutant)).toHaveLength(enough)
  }, 300_000)
})
