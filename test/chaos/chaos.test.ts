/**
 * A short storm with every run of the tests; `npm run chaos` makes longer ones.
 */
import * as Effect from "effect/Effect"
import { randomInt } from "node:crypto"
import { describe, expect, it } from "vitest"
import { chaos } from "./chaos.ts"
import { kinds, planCall, planFaults } from "./plan.ts"

const seed = Number(process.env.SLUICE_TEST_SEED ?? randomInt(1, 1_000_000))
const again = `npm run chaos -- --seconds 10 --seed ${seed}`

describe("the plan of a storm", () => {
  it("is the same for a seed, and another for another", () => {
    expect(planFaults(seed, 10, 3)).toEqual(planFaults(seed, 10, 3))
    expect(planFaults(seed, 10, 3)).not.toEqual(planFaults(seed + 1, 10, 3))
    const calls = (from: number) => Array.from({ length: 50 }, (_, place) => planCall(from, place + 1))
    expect(calls(seed)).toEqual(calls(seed))
    expect(calls(seed)).not.toEqual(calls(seed + 1))
  })

  it("has every kind of fault, and some that overlap", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const plan = planFaults(seed, 10, 3)
      expect([...new Set(plan.map(({ kind }) => kind))].sort(), `seed ${seed}`).toEqual(Object.keys(kinds).sort())
      const overlapping = plan.filter(({ at }, index) => plan.slice(0, index).some((one) => one.at + one.millis > at))
      expect(overlapping.length, `seed ${seed}`).toBeGreaterThan(0)
    }
  })
})

/** How often it happens depends on what else is due or under way at that moment. In longer storms it does. */
const byChance = ["answer persisted inside the server", "call recorded in one statement with others"]

it("whatever breaks: each chunk is persisted once, dead with a reason, or parked", async () => {
  const { chunks, drained, duplicates, faults, lost, planned, wrong } = await Effect.runPromise(
    chaos({ seed, seconds: 10, workers: 3, patience: 120 })
  )
  expect({ drained, duplicates, lost, wrong }, again).toEqual({ drained: true, duplicates: 0, lost: 0, wrong: [] })
  expect(chunks, again).toBeGreaterThan(100)
  // each kind has really happened, as often as was planned
  expect(faults, again).toMatchObject(planned)
  const missing = Object.entries(faults).filter(([what, count]) => count === 0 && !byChance.includes(what))
  expect(missing, again).toEqual([])
}, 240_000)
