/**
 * Thousands of simulations, and the bugs they must find. `npm run simulate` runs more; a seed that fails is printed, and
 * runs again the same with `--seed`.
 */
import * as Effect from "effect/Effect"
import { describe, expect, it } from "vitest"
import { violations } from "./check.ts"
import { mutants } from "./mutants.ts"
import { type Mutant, simulate } from "./simulate.ts"

const seeds = Number(process.env.SLUICE_TEST_SEEDS ?? 1000)

/** The first seed up to a limit whose picture is wrong, and what is wrong with it. */
const firstBad = async (limit: number, mutant?: Mutant): Promise<string | undefined> => {
  for (let seed = 1; seed <= limit; seed++) {
    const wrong = violations(await Effect.runPromise(simulate(seed, mutant)))
    if (wrong.length > 0) return `npm run simulate -- --seed ${seed}: ${wrong.join("; ")}`
  }
  return undefined
}

describe("simulation", () => {
  it(`finds nothing wrong in ${seeds} seeds`, async () => {
    expect(await firstBad(seeds)).toBeUndefined()
  }, 300_000)

  it("the same seed gives the same picture", async () => {
    const [first, second] = await Promise.all([7, 7].map((seed) => Effect.runPromise(simulate(seed))))
    expect(first).toEqual(second)
  })

  describe("finds planted bugs", () => {
    for (const [name, mutant] of Object.entries(mutants)) {
      it(name, async () => {
        expect(await firstBad(seeds, mutant)).toBeDefined()
      }, 300_000)
    }
  })
})
