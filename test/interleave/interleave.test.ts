/**
 * Verbs of the ports side by side, in every order of their statements, on real Postgres: the dangerous ones whole, the
 * others by chance. `npm run interleave` runs all of them; a schedule that shows a fault is printed, and runs again with
 * `--again`.
 */
import { describe, expect, it } from "vitest"
import { dice } from "../support/dice.ts"
import { dangerous, printFound, randomSchedule, runAll, Tally } from "./campaign.ts"
import { open, parseSchedule } from "./explore.ts"
import { mended } from "./known.ts"

/** Locks and snapshots are much the same on both versions, so the older one is shown fewer orders. */
const share = { 15: 1 / 3, 18: 1 }
/** How many schedules are drawn, and from which seed. */
const drawings = Number(process.env.SLUICE_TEST_SCHEDULES ?? 120)
/** At most so many orders of the statements of each that has been wrong before. */
const orders = 28
const seed = Number(process.env.SLUICE_TEST_SEED ?? 20_261_129)

describe.each([15, 18] as const)("on Postgres %i", (version) => {
  const drawn = Math.ceil(drawings * share[version])
  const most = Math.ceil(orders * share[version])
  const faultsOf = async (
    least: number,
    campaign: (tally: Tally, sessions: Awaited<ReturnType<typeof open>>) => Promise<void>
  ) => {
    const sessions = await open(version)
    const tally = new Tally()
    try {
      await campaign(tally, sessions)
    } finally {
      await sessions.close()
    }
    expect(tally.schedules).toBeGreaterThanOrEqual(least)
    return tally.fresh.map(printFound)
  }

  it("the schedules that once showed a fault show none", async () => {
    const faults = await faultsOf(mended.length, async (tally, sessions) => {
      for (const schedule of mended.map(([line]) => parseSchedule(line))) {
        tally.add([schedule, await sessions.run(schedule)])
      }
    })
    expect(faults).toEqual([])
  }, 600_000)

  it(
    "orders of the statements of those that have been wrong before leave the tables as they must be",
    async () => {
      const faults = await faultsOf(Math.ceil(100 * share[version]), async (tally, sessions) => {
        for (const [place, parts] of dangerous) await runAll(sessions, tally, place, parts, most)
      })
      expect(faults).toEqual([])
    },
    600_000
  )

  it(
    `and so do ${drawn} orders by chance, from seed ${seed}: in transactions of callers, with connections that break`,
    async () => {
      const faults = await faultsOf(drawn, async (tally, sessions) => {
        const roll = dice(seed)
        for (let n = 0; n < drawn; n++) tally.add(await randomSchedule(sessions, roll))
      })
      expect([seed, ...faults]).toEqual([seed])
    },
    600_000
  )
})
