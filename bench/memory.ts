/**
 * A long drain at full speed while another process records: whether the worker's memory stays flat. And many short lives
 * of a system in one process: whether anything is left behind.
 */
import { startChild } from "./harness/child.ts"
import { flow, sleep } from "./harness/flow.ts"
import { machine, progress, type Result, type Row, type Table } from "./harness/output.ts"
import { type Figures, median } from "./harness/rounds.ts"
import { startServer } from "./harness/server.ts"
import { type BenchOptions, wanted } from "./harness/settings.ts"
import { inWorkplace } from "./harness/workplace.ts"
import { verify } from "./work.ts"

const megabyte = 2 ** 20
const backlog = 20_000

/** The slope of a line through the points. */
const slope = (points: ReadonlyArray<readonly [x: number, y: number]>): number => {
  const mean = (of: (point: readonly [x: number, y: number]) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length
  const [x, y] = [mean(([x]) => x), mean(([, y]) => y)]
  const above = mean(([px, py]) => (px - x) * (py - y))
  return above / mean(([px]) => (px - x) ** 2)
}

/** Drains for so many minutes. */
const long = (server: string, minutes: number): Promise<Table> =>
  inWorkplace(server, "memory", async (place) => {
    const recorder = await place.open("sluice-watched")
    const worker = await place.open("sluice-watched")
    const began = performance.now()
    const elapsed = () => (performance.now() - began) / 60_000
    const step = Math.min(0.5, minutes / 4)
    const rows: Array<Row> = []
    const points: Array<readonly [x: number, y: number]> = []
    let since: Array<Figures> = []
    const recorded = await flow({
      recorder,
      worker,
      backlog,
      from: 0,
      enough: async (recorded) => {
        const { figures, rss } = await worker.ask({ op: "look" })
        since.push({ rss: rss / megabyte, done: figures["done"] ?? Number.NaN })
        if (elapsed() >= step * (rows.length + 1)) {
          const rss = median(since.map((one) => one["rss"] ?? Number.NaN))
          rows.push({
            minute: step * (rows.length + 1),
            drained: since.at(-1)?.["done"],
            recorded,
            rss,
            most: Math.max(...since.map((one) => one["rss"] ?? Number.NaN))
          })
          // the first half fills caches and heaps
          if (elapsed() > minutes / 2) points.push([elapsed(), rss])
          progress(`memory: ${JSON.stringify(rows.at(-1))}`)
          since = []
        }
        return elapsed() >= minutes
      }
    })
    await worker.ask({ op: "close" })
    await recorder.ask({ op: "close" })
    await verify(place.query, recorded)
    const [connections] = await place.query<{ count: number }>(`
      select count(*)::int as count from pg_stat_activity
      where datname = current_database() and application_name <> 'bench' and backend_type = 'client backend'`)
    return {
      title: `${minutes} minutes of draining at full speed: the worker's memory`,
      columns: [
        { field: "minute", heading: "minute", digits: 2 },
        { field: "drained", heading: "drained" },
        { field: "rss", heading: "RSS MiB, median" },
        { field: "most", heading: "most" }
      ],
      rows,
      notes: [
        `In its second half it changes by ${slope(points).toFixed(2)} MiB a minute. ` +
        `Connections left after closing: ${connections?.count ?? "?"}.`
      ]
    }
  })

/** Opens, drains and closes a system so many times in one process. */
const lives = (server: string, times: number): Promise<Table> =>
  inWorkplace(server, "lives", async (place) => {
    const recorder = await place.open("sluice-watched")
    const child = startChild()
    const rows: Array<Row> = []
    const look = async (life: number) => {
      // a socket takes a moment to close
      await sleep(1000)
      const { figures } = await child.ask({ op: "alive" })
      rows.push({ life, ...figures, heap: (figures["heapBytes"] ?? Number.NaN) / megabyte })
      progress(`life ${life}: ${JSON.stringify(figures)}`)
    }
    try {
      await look(0)
      for (let life = 1; life <= times; life++) {
        await child.ask({ op: "open", system: "sluice-watched", url: place.url, options: {} })
        await recorder.ask({ op: "fill", from: life * 1000, count: 1000 })
        await child.ask({ op: "drain", count: 1000 })
        await child.ask({ op: "close" })
        if ([1, 2, times >> 2, times >> 1, times].includes(life)) await look(life)
      }
      await verify(place.query, times * 1000)
    } finally {
      await child.end()
    }
    return {
      title: `Opened, drained 1,000 records and closed ${times} times in one process: what is alive afterwards`,
      columns: [
        { field: "life", heading: "after life" },
        { field: "fibers", heading: "fibers" },
        { field: "resources", heading: "sockets, timers, pipes" },
        { field: "listeners", heading: "listeners of the process" },
        { field: "heap", heading: "heap MiB", digits: 1 }
      ],
      rows,
      notes: ["Life 0 is the process before it opened anything."]
    }
  })

/** The bench. */
export const memory = async (options: BenchOptions): Promise<Result> => {
  const { minutes, records: times = 40 } = options
  const server = await startServer(options.postgres)
  const tables: Array<Table> = []
  try {
    if (wanted(options, "long")) tables.push(await long(server.url(), minutes))
    if (wanted(options, "lives")) tables.push(await lives(server.url(), times))
    return { bench: "memory", ground: [machine(), server.description], tables }
  } finally {
    await server.remove()
  }
}
