/**
 * How fast each system drains: all on one server, in turns, with the same records and the same domain table.
 */
import { startChild } from "./harness/child.ts"
import { admin, createDatabase, dropDatabase } from "./harness/database.ts"
import { counters, settled } from "./harness/figures.ts"
import { machine, progress, type Result } from "./harness/output.ts"
import { type Figures, inTurns, medians, ofRounds } from "./harness/rounds.ts"
import { startServer } from "./harness/server.ts"
import { type BenchOptions, wanted } from "./harness/settings.ts"
import { type SystemName, systems } from "./systems/index.ts"
import type { Options, System } from "./systems/system.ts"
import { domainTables, ledgerTable, verify } from "./work.ts"

/** A system, and how it is set up. */
export interface Subject {
  readonly system: SystemName
  readonly options: Options
}

// until Node has compiled the code: with 5,000, a fast system spent a tenth of the measured time on that
const warmUp = 20_000

/** Measures one system once, in a database and a process of its own. */
export const measure = async (
  server: string,
  { options, system }: Subject,
  records: number,
  contentLength = 600
): Promise<Figures> => {
  const url = await createDatabase(server, "bench")
  const sql = admin(url)
  await sql.query(domainTables)
  await sql.query(ledgerTable)
  const child = startChild()
  try {
    await child.ask({ op: "open", system, url, options })
    await child.ask({ op: "fill", from: 0, count: warmUp, contentLength })
    await child.ask({ op: "drain", count: warmUp })
    // before the fill, so that what the drain touches was written since and is not written whole once more
    await sql.query("checkpoint")
    await child.ask({ op: "fill", from: warmUp, count: records, contentLength })
    await sql.query("vacuum analyze")
    const before = await settled(sql.query)
    const began = await counters(sql.query)
    const drained = await child.ask({ op: "drain", count: records })
    const ended = await counters(sql.query)
    const after = await settled(sql.query)
    await child.ask({ op: "close" })
    await verify(sql.query, warmUp + records)
    return {
      perSecond: records / drained.seconds,
      walBytesPerRecord: Number(ended.wal - began.wal) / records,
      commitsPerRecord: (after.commits - before.commits) / records,
      nodeCpuMicros: drained.cpuMicros / records,
      postgresCpuMicros: (ended.cpuMicros - began.cpuMicros) / records
    }
  } finally {
    await child.end()
    await sql.close()
    await dropDatabase(server, "bench")
  }
}

const subjects: ReadonlyArray<Subject> = [
  { system: "limit", options: {} },
  { system: "by-hand", options: {} },
  { system: "sluice-persist-many", options: {} },
  { system: "sluice-declared", options: { batch: 500, inFlight: 3 } },
  // like the limit
  { system: "sluice-declared", options: { batch: 1000, inFlight: 2 } },
  { system: "sluice-declared-outside", options: {} },
  { system: "sluice-per-record", options: {} },
  { system: "sluice-raw", options: {} },
  ...[1, 2, 4].map((inFlight): Subject => ({ system: "pg-boss-batch", options: { inFlight } })),
  { system: "pg-boss-per-job", options: {} },
  { system: "graphile-fused", options: {} },
  { system: "graphile-transaction", options: {} },
  { system: "pg-boss-single", options: {} },
  { system: "bullmq-fused", options: {} },
  { system: "bullmq-transaction", options: {} },
  { system: "bullmq-postgres", options: {} },
  { system: "effect-persisted-queue", options: {} },
  { system: "original-shape", options: {} }
]

/** Of one system with several settings, the setting that was fastest. */
const best = (rows: ReadonlyArray<Subject & { readonly figures: Figures }>) =>
  [...Map.groupBy(rows, (row) => row.system).values()].map((some) =>
    some.reduce((a, b) => (b.figures["perSecond"] ?? 0) > (a.figures["perSecond"] ?? 0) ? b : a)
  )

/** The bench. */
export const drain = async (options: BenchOptions): Promise<Result> => {
  const records = options.records ?? 100_000
  const skipped: Array<string> = []
  const chosen = subjects.filter(({ system }) => {
    if (!wanted(options, system)) return false
    const why = (systems[system] as System).skip?.()
    if (why !== undefined) skipped.push(`${system} is left out: ${why}.`)
    return why === undefined
  })
  const server = await startServer(options.postgres)
  try {
    const runs = await inTurns(chosen, options.rounds, async (subject, round) => {
      const figures = await measure(server.url(), subject, records, options.content)
      const setting = Object.entries(subject.options).map(([name, value]) => ` ${name} ${value}`).join()
      progress(`round ${round}: ${subject.system}${setting}: ${Math.round(figures["perSecond"] ?? 0)} a second`)
      return figures
    })
    const rows = best([...runs].map(([subject, all]) => ({ ...subject, figures: medians(all) })))
    const limit = rows.find((row) => row.system === "limit")?.figures["perSecond"] ?? Number.NaN
    return {
      bench: "drain",
      ground: [machine(), server.description],
      tables: [{
        title: `Draining ${records.toLocaleString("en-US")} records of ${
          Math.round((options.content + 400) / 1000)
        } KB, ${ofRounds(options.rounds)}`,
        columns: [
          { field: "system", heading: "system" },
          { field: "perSecond", heading: "records/s" },
          { field: "ofLimit", heading: "of the limit", digits: 3 },
          { field: "walBytesPerRecord", heading: "WAL bytes" },
          { field: "commitsPerRecord", heading: "commits", digits: 3 },
          { field: "nodeCpuMicros", heading: "Node µs", digits: 1 },
          { field: "postgresCpuMicros", heading: "Postgres µs", digits: 1 },
          { field: "about", heading: "set up as" }
        ],
        rows: rows.map(({ figures, options: set, system }) => ({
          system,
          ...figures,
          ofLimit: (figures["perSecond"] ?? Number.NaN) / limit,
          about: [
            systems[system].about,
            ...set.batch === undefined ? [] : [`batch ${set.batch}`],
            ...set.inFlight === undefined
              ? []
              : [`${set.inFlight} ${set.batch === undefined ? "workers" : "in flight"}`]
          ].join(", ")
        })),
        notes: [
          ...skipped,
          ...(rows.some(({ system }) => system.startsWith("bullmq-f") || system.startsWith("bullmq-t"))
            ? [
              "BullMQ's Redis writes to the disk once a second: up to that much is lost in a crash. Its CPU is not counted."
            ]
            : [])
        ]
      }]
    }
  } finally {
    await server.remove()
  }
}
