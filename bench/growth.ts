/**
 * Whether Sluice stays fast as its tables grow: beside a long history, beside many waiting chunks, and while vacuum cannot
 * work.
 */
import { cases } from "./growth/cases.ts"
import { compared } from "./growth/compare.ts"
import { beside } from "./growth/held.ts"
import { throughSmall } from "./growth/small.ts"
import { storage } from "./growth/storage.ts"
import { machine, type Result, type Table } from "./harness/output.ts"
import { startServer } from "./harness/server.ts"
import { type BenchOptions, wanted } from "./harness/settings.ts"
import { countingStatements } from "./harness/statements.ts"

/** The bench. */
export const growth = async (options: BenchOptions): Promise<Result> => {
  const { holdMinutes, records = 50_000, rounds, scale } = options
  const server = await startServer(options.postgres, countingStatements)
  const chosen = cases.filter(({ name }) => wanted(options, name))
  const tables: Array<Table> = []
  try {
    if (chosen.length > 0) tables.push(await compared(server.url(), chosen, { records, rounds, scale }))
    if (wanted(options, "held")) tables.push(await beside(server.url(), holdMinutes))
    if (wanted(options, "small")) tables.push(await throughSmall(server.url(), Math.round(1e6 * scale)))
    if (wanted(options, "storage")) tables.push(...await storage(server.url(), Math.round(3e5 * scale), rounds))
    return { bench: "growth", ground: [machine(), server.description], tables }
  } finally {
    await server.remove()
  }
}
