/**
 * A short storm with every run of the tests; `npm run chaos` makes longer ones.
 */
import * as Effect from "effect/Effect"
import { randomInt } from "node:crypto"
import { expect, it } from "vitest"
import { chaos } from "./chaos.ts"

it("whatever breaks: each chunk is persisted once, dead with a reason, or parked", async () => {
  const seed = Number(process.env.SLUICE_TEST_SEED ?? randomInt(1, 1_000_000))
  const outcome = await Effect.runPromise(chaos({ seed, seconds: 10, workers: 3 }))
  expect(outcome.chunks, `npm run chaos -- --seconds 10 --seed ${seed}`).toBeGreaterThan(100)
  expect(outcome, `npm run chaos -- --seconds 10 --seed ${seed}`).toMatchObject({
    drained: true,
    duplicates: 0,
    lost: 0,
    wrong: []
  })
}, 240_000)
