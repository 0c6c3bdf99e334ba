/**
 * Where the time of a drain goes, in Node and in Postgres: Sluice beside the same work written by hand, which is the least
 * that handing records to a program costs.
 */
import { counters } from "./harness/figures.ts"
import { machine, progress, type Result } from "./harness/output.ts"
import { type Figures, inTurns, medians } from "./harness/rounds.ts"
import { startServer } from "./harness/server.ts"
import { type BenchOptions, wanted } from "./harness/settings.ts"
import { byKind, timingPlans } from "./harness/statements.ts"
import { inWorkplace } from "./harness/workplace.ts"
import type { SystemName } from "./systems/index.ts"
import { verify } from "./work.ts"

const warmUp = 20_000

const measure = (server: string, system: SystemName, records: number): Promise<Figures> =>
  inWorkplace(server, "bench", async ({ open, query }) => {
    await query("create extension pg_stat_statements")
    const child = await open(system)
    await child.ask({ op: "fill", from: 0, count: warmUp })
    await child.ask({ op: "drain", count: warmUp })
    await query("checkpoint")
    await child.ask({ op: "fill", from: warmUp, count: records })
    await query("vacuum analyze")
    await query("select pg_stat_statements_reset()")
    const began = await counters(query)
    const { cpuMicros, figures } = await child.ask({ op: "drain", count: records, profiled: true })
    const ended = await counters(query)
    const statements = await byKind(query)
    await child.ask({ op: "close" })
    await verify(query, warmUp + records)
    const all = { ...figures, ...statements, node: cpuMicros, postgres: ended.cpuMicros - began.cpuMicros }
    return Object.fromEntries(Object.entries(all).map(([name, micros]) => [name, micros / records]))
  })

const systems = ["by-hand", "sluice-persist-many", "sluice-per-record"] as const

/** The bench. */
export const profile = async (options: BenchOptions): Promise<Result> => {
  const records = options.records ?? 100_000
  const server = await startServer(options.postgres, timingPlans)
  try {
    const runs = await inTurns(
      systems.filter((system) => wanted(options, system)),
      options.rounds,
      (system, round) => {
        progress(`round ${round}: ${system}`)
        return measure(server.url(), system, records)
      }
    )
    const rows = [...runs].map(([system, all]) => ({ system, ...medians(all) }))
    const digits = 1
    return {
      bench: "profile",
      ground: [machine(), server.description],
      tables: [
        {
          title: "Node, microseconds a record: CPU of all its threads, and where its main thread was",
          columns: [
            { field: "system", heading: "system" },
            { field: "node", heading: "CPU", digits },
            { field: "garbageCollection", heading: "garbage", digits },
            { field: "effect", heading: "Effect", digits },
            { field: "sluice", heading: "Sluice", digits },
            { field: "driver", heading: "driver", digits },
            { field: "socket", heading: "socket", digits },
            { field: "schema", heading: "Schema", digits },
            { field: "handler", heading: "handler", digits },
            { field: "other", heading: "other", digits }
          ],
          rows,
          notes: ["The profiler samples time, so that what waits for a CPU in the middle of its work counts as well."]
        },
        {
          title: "Postgres, microseconds a record: CPU of all its processes, and the time its statements took",
          columns: [
            { field: "system", heading: "system" },
            { field: "postgres", heading: "CPU", digits },
            { field: "claim", heading: "claim", digits },
            { field: "rows", heading: "domain rows", digits },
            { field: "settle", heading: "ledger and settlement", digits },
            { field: "others", heading: "others", digits }
          ],
          rows
        }
      ]
    }
  } finally {
    await server.remove()
  }
}
