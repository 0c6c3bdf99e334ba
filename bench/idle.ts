/**
 * What a worker costs while there is nothing to do, and how soon it begins when there is.
 */
import { admin, type Sql } from "./harness/database.ts"
import { counters } from "./harness/figures.ts"
import { sleep } from "./harness/flow.ts"
import { machine, progress, type Result } from "./harness/output.ts"
import { type Figures, inTurns, median, medians, ofRounds } from "./harness/rounds.ts"
import { startServer } from "./harness/server.ts"
import { type BenchOptions, wanted } from "./harness/settings.ts"
import { countingStatements, givenTo } from "./harness/statements.ts"
import { inWorkplace, type Workplace } from "./harness/workplace.ts"
import { type SystemName, systems } from "./systems/index.ts"
import { verify } from "./work.ts"

const idlers = ["sluice-idle", "graphile-idle", "pg-boss-idle-notify", "pg-boss-idle"] as const satisfies ReadonlyArray<
  SystemName
>

/** How long a worker runs before it is measured. */
const calmMillis = 10_000

/** Statements, transactions and CPU of an interval, for each minute. `sql` is connected to another database. */
const watch = async (sql: Sql, seconds: number, node: () => Promise<number>): Promise<Figures> => {
  const [given, cpu, own] = [await givenTo(sql, "idle"), await counters(sql), await node()]
  await sleep(seconds * 1000)
  const after = await counters(sql)
  const minutes = (after.at - cpu.at) / 60_000
  const now = await givenTo(sql, "idle")
  return {
    statements: (now.statements - given.statements) / minutes,
    transactions: (now.transactions - given.transactions) / minutes,
    nodeMillis: (await node() - own) / 1000 / minutes,
    postgresMillis: (after.cpuMicros - cpu.cpuMicros) / 1000 / minutes
  }
}

/** The time from when another process begins to record one record to its row, at several moments of a poll interval. */
const wakeUps = async (place: Workplace, system: SystemName, times: number, look: () => Promise<Figures>) => {
  const recorder = await place.open(system)
  const millis: Array<number> = []
  for (let n = 0; n < times; n++) {
    // spread over the poll intervals
    await sleep(500 + (n * 617) % 2000)
    const { began } = await recorder.ask({ op: "fill", from: n, count: 1 })
    let figures = await look()
    while ((figures["done"] ?? 0) <= n) {
      await sleep(20)
      figures = await look()
    }
    // the first one is a warm-up
    if (n > 0) millis.push((figures["lastAt"] ?? Number.NaN) - began)
  }
  await recorder.ask({ op: "close" })
  return median(millis)
}

const measure = (server: string, sql: Sql, system: (typeof idlers)[number], seconds: number, times: number) =>
  inWorkplace(server, "idle", async (place): Promise<Figures> => {
    const worker = await place.open(system)
    await worker.ask({ op: "start" })
    await sleep(calmMillis)
    const look = async () => (await worker.ask({ op: "look" })).figures
    const figures = await watch(sql, seconds, async () => (await worker.ask({ op: "look" })).cpuTotalMicros)
    const wakeUpMillis = await wakeUps(place, system, times, look)
    await verify(place.query, times)
    const stopped = await worker.ask({ op: "stop" })
    await worker.ask({ op: "close" })
    return { ...figures, wakeUpMillis, rss: stopped.rss / 2 ** 20 }
  })

/** The bench. */
export const idle = async (options: BenchOptions): Promise<Result> => {
  const { records = 21, rounds, seconds } = options
  const chosen = ["nobody", ...idlers.filter((name) => wanted(options, name))] as const
  const server = await startServer(options.postgres, countingStatements)
  const sql = admin(server.url())
  try {
    await sql.query("create extension pg_stat_statements")
    const runs = await inTurns(chosen, rounds, async (who, round) => {
      const figures = who === "nobody"
        ? await watch(sql.query, seconds, async () => 0)
        : await measure(server.url(), sql.query, who as (typeof idlers)[number], seconds, records)
      progress(`round ${round}: ${who}: ${JSON.stringify(figures)}`)
      return figures
    })
    return {
      bench: "idle",
      ground: [machine(), server.description],
      tables: [{
        title: `A minute of a worker with nothing to do, from ${seconds} seconds; ${ofRounds(rounds)}`,
        columns: [
          { field: "system", heading: "system" },
          { field: "statements", heading: "statements" },
          { field: "transactions", heading: "transactions" },
          { field: "nodeMillis", heading: "Node CPU ms" },
          { field: "postgresMillis", heading: "Postgres CPU ms" },
          { field: "rss", heading: "RSS MiB" },
          { field: "wakeUpMillis", heading: "wake-up ms", digits: 1 },
          { field: "about", heading: "set up as" }
        ],
        rows: [...runs].map(([who, all]) => ({
          system: who,
          ...medians(all),
          about: who === "nobody" ? "the server alone" : systems[who as (typeof idlers)[number]].about
        })),
        notes: [
          "Statements include those that begin and end transactions. Wake-up is the median time from the moment another " +
          "process begins to record one record to its row, the recording included. Postgres's CPU is the whole server's."
        ]
      }]
    }
  } finally {
    await sql.close()
    await server.remove()
  }
}
