/**
 * Many workers, many batches in flight, large payloads: whether workers slow each other down, and whether a claim is
 * bounded by bytes as well as by rows.
 */
import { measure as drained } from "./drain.ts"
import type { Child } from "./harness/child.ts"
import { counters } from "./harness/figures.ts"
import { sleep } from "./harness/flow.ts"
import { machine, progress, type Result, type Row, type Table } from "./harness/output.ts"
import { type Figures, inTurns, median, medians } from "./harness/rounds.ts"
import { startServer } from "./harness/server.ts"
import { type BenchOptions, wanted } from "./harness/settings.ts"
import { inWorkplace, type Workplace } from "./harness/workplace.ts"
import { verify } from "./work.ts"

// of each process, until Node has compiled what is run
const warmUp = 30_000

/** Counts the connections that wait for a lock, at intervals, until it is stopped. */
const watchLocks = ({ query }: Workplace) => {
  let looks = 0
  let waits = 0
  let watching = true
  const watch = (async () => {
    while (watching) {
      const [row] = await query<{ waits: number }>(`
        select count(*)::int as waits from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`)
      looks++
      waits += row?.waits ?? 0
      await sleep(20)
    }
  })()
  return async (): Promise<Figures> => {
    watching = false
    await watch
    return { looks, waits }
  }
}

const look = async (workers: ReadonlyArray<Child>): Promise<ReadonlyArray<Figures>> =>
  (await Promise.all(workers.map((worker) => worker.ask({ op: "look" })))).map(({ cpuTotalMicros, figures }) => ({
    ...figures,
    cpuTotalMicros
  }))

const sumOf = (all: ReadonlyArray<Figures>, name: string) => all.reduce((sum, one) => sum + (one[name] ?? 0), 0)

/** The systems that drain: Sluice, and the same work written by hand. */
type Drainer = "sluice-watched" | "by-hand"

/** Drains, with this many processes, what another process has recorded. */
const together = (server: string, system: Drainer, count: number, records: number): Promise<Figures> =>
  inWorkplace(server, "scale", async (place) => {
    const recorder = await place.open(system)
    const workers: Array<Child> = []
    for (let n = 0; n < count; n++) {
      const worker = await place.open(system, { inFlight: 2 })
      workers.push(worker)
      await recorder.ask({ op: "fill", from: n * warmUp, count: warmUp })
      await worker.ask({ op: "drain", count: warmUp })
    }
    await place.query("checkpoint")
    await recorder.ask({ op: "fill", from: count * warmUp, count: records })
    await place.query("vacuum analyze")
    const before = await look(workers)
    const serverBefore = await counters(place.query)
    const locks = watchLocks(place)
    const started = await Promise.all(workers.map((worker) => worker.ask({ op: "start" })))
    let now = before
    while (sumOf(now, "done") - sumOf(before, "done") < records) {
      await sleep(50)
      now = await look(workers)
    }
    const serverAfter = await counters(place.query)
    const waited = await locks()
    for (const worker of workers) await worker.ask({ op: "stop" })
    for (const child of [recorder, ...workers]) await child.ask({ op: "close" })
    await verify(place.query, count * warmUp + records)
    const began = Math.min(...started.map((answer) => answer.began))
    const ended = Math.max(...now.map((figures) => figures["lastAt"] ?? Number.NaN))
    const shares = now.map((figures, n) => (figures["done"] ?? 0) - (before[n]?.["done"] ?? 0))
    return {
      perSecond: records / (ended - began) * 1000,
      fair: Math.min(...shares) / Math.max(...shares),
      twice: sumOf(now, "claimed") - sumOf(before, "claimed") - records,
      lockWaits: (waited["waits"] ?? 0) / (waited["looks"] ?? 1),
      claimMillis: median(now.map((figures) => figures["claimMillis"] ?? Number.NaN)),
      nodeCpuMicros: (sumOf(now, "cpuTotalMicros") - sumOf(before, "cpuTotalMicros")) / records,
      postgresCpuMicros: (serverAfter.cpuMicros - serverBefore.cpuMicros) / records
    }
  })

const processes = async (server: string, options: BenchOptions, records: number): Promise<Table> => {
  const systems: ReadonlyArray<Drainer> = ["sluice-watched", "by-hand"]
  const subjects = [1, 2, 4, 8].flatMap((count) => systems.map((system) => ({ system, count })))
  const runs = [
    ...await inTurns(subjects, options.rounds, async ({ count, system }, round) => {
      const figures = await together(server, system, count, records)
      progress(`round ${round}: ${count} processes of ${system}: ${JSON.stringify(figures)}`)
      return figures
    })
  ]
  const rates = (system: Drainer, count: number) =>
    runs.flatMap(([subject, all]) =>
      subject.system === system && subject.count === count ? all.map((one) => one["perSecond"] ?? Number.NaN) : []
    )
  return {
    title: `Processes draining ${records.toLocaleString("en-US")} records, 2 batches of 500 in flight in each`,
    columns: [
      { field: "system", heading: "system" },
      { field: "processes", heading: "processes" },
      { field: "perSecond", heading: "records/s" },
      { field: "ofTwo", heading: "of two processes", digits: 2 },
      { field: "fair", heading: "least/most of one process", digits: 2 },
      { field: "twice", heading: "claimed twice" },
      { field: "lockWaits", heading: "waiting for a lock at a time", digits: 3 },
      { field: "claimMillis", heading: "claim ms", digits: 2 },
      { field: "nodeCpuMicros", heading: "Node µs", digits: 1 },
      { field: "postgresCpuMicros", heading: "Postgres µs", digits: 1 }
    ],
    rows: systems.flatMap((name) =>
      runs.flatMap(([{ count, system }, all]) =>
        system !== name ? [] : [{
          system: system === "by-hand" ? "by-hand" : "sluice-per-record",
          processes: count,
          ...medians(all),
          ofTwo: median(rates(system, count).map((rate, round) => rate / (rates(system, 2)[round] ?? Number.NaN)))
        }]
      )
    ),
    notes: [
      "Waiting for a lock: the mean number of connections that did, sampled every 20 ms. Claimed twice must be 0."
    ]
  }
}

const inFlight = async (server: string, options: BenchOptions, records: number): Promise<Table> => {
  const runs = await inTurns([1, 2, 3, 4], options.rounds, async (count, round) => {
    const figures = await drained(server, { system: "sluice-per-record", options: { inFlight: count } }, records)
    progress(`round ${round}: ${count} in flight: ${Math.round(figures["perSecond"] ?? 0)} a second`)
    return figures
  })
  const one = [...runs.values()][0] ?? []
  const rate = (figures: Figures | undefined) => figures?.["perSecond"] ?? Number.NaN
  return {
    title: `Batches of 500 in flight in one process draining ${records.toLocaleString("en-US")} records`,
    columns: [
      { field: "inFlight", heading: "in flight" },
      { field: "perSecond", heading: "records/s" },
      { field: "ofOne", heading: "of one", digits: 2 },
      { field: "nodeCpuMicros", heading: "Node µs", digits: 1 },
      { field: "postgresCpuMicros", heading: "Postgres µs", digits: 1 }
    ],
    rows: [...runs].map(([count, all]) => ({
      inFlight: count,
      ...medians(all),
      ofOne: median(all.map((figures, round) => rate(figures) / rate(one[round])))
    }))
  }
}

interface Size {
  readonly name: string
  readonly contentLength: number
  /** How many records, as a share of those of 1 KB, so that no run takes too long. */
  readonly share: number
}

const sizes: ReadonlyArray<Size> = [
  { name: "1 KB", contentLength: 600, share: 1 },
  { name: "8 KB", contentLength: 7_600, share: 0.25 },
  { name: "64 KB", contentLength: 65_000, share: 0.05 },
  { name: "1 MB", contentLength: 1_048_000, share: 0.006 }
]

/** The worker is another process than the one that records, so that its memory is that of draining alone. */
const sized = (server: string, { contentLength, share }: Size, all: number): Promise<Figures> =>
  inWorkplace(server, "sized", async (place) => {
    const records = Math.max(20, Math.round(all * share))
    const recorder = await place.open("sluice-watched")
    const worker = await place.open("sluice-watched")
    await recorder.ask({ op: "fill", from: 0, count: warmUp })
    const { rss: before } = await worker.ask({ op: "drain", count: warmUp })
    await place.query("checkpoint")
    await recorder.ask({ op: "fill", from: warmUp, count: records, contentLength })
    await place.query("vacuum analyze")
    const { figures, peakRss, rss, seconds } = await worker.ask({ op: "drain", count: records })
    await verify(place.query, warmUp + records)
    const [row] = await place.query<{ bytes: number }>(
      "select max(octet_length(outputs[1]::text))::float8 as bytes from sluice.service_call"
    )
    const megabyte = 2 ** 20
    const each = (row?.bytes ?? Number.NaN) / megabyte
    const inClaim = figures["mostChunks"] ?? Number.NaN
    return {
      records,
      perSecond: records / seconds,
      megabytesPerSecond: records * each / seconds,
      inClaim,
      megabytesInClaim: inClaim * each,
      rssBefore: before / megabyte,
      rssAfter: rss / megabyte,
      rssPeak: peakRss / megabyte
    }
  })

const payloads = async (server: string, options: BenchOptions, records: number): Promise<Table> => {
  const runs = await inTurns(sizes, options.rounds, async (size, round) => {
    const figures = await sized(server, size, records)
    progress(`round ${round}: ${size.name}: ${JSON.stringify(figures)}`)
    return figures
  })
  return {
    title: "Payloads: 3 batches in flight, each at most 500 records and 16 MiB of JSON",
    columns: [
      { field: "payload", heading: "payload" },
      { field: "records", heading: "records" },
      { field: "perSecond", heading: "records/s" },
      { field: "megabytesPerSecond", heading: "MiB/s", digits: 1 },
      { field: "inClaim", heading: "records in the largest claim" },
      { field: "megabytesInClaim", heading: "its MiB", digits: 1 },
      { field: "rssBefore", heading: "RSS MiB before" },
      { field: "rssPeak", heading: "at most" },
      { field: "rssAfter", heading: "after" }
    ],
    rows: [...runs].map(([size, all]): Row => ({ payload: size.name, ...medians(all) }))
  }
}

const parts = { processes, "in-flight": inFlight, payloads }

/** The bench. */
export const scale = async (options: BenchOptions): Promise<Result> => {
  const records = options.records ?? 100_000
  const server = await startServer(options.postgres)
  const tables: Array<Table> = []
  try {
    for (const [name, part] of Object.entries(parts)) {
      if (wanted(options, name)) tables.push(await part(server.url(), options, records))
    }
    return { bench: "scale", ground: [machine(), server.description], tables }
  } finally {
    await server.remove()
  }
}
