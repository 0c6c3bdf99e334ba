/**
 * Very many chunks through a small queue: whether it stays small. Between two vacuums it grows, so this continues until
 * autovacuum has come several times, about once a minute.
 */
import type { Sql } from "../harness/database.ts"
import { counters } from "../harness/figures.ts"
import { flow, sleep } from "../harness/flow.ts"
import { progress, type Row, type Table } from "../harness/output.ts"
import { inWorkplace } from "../harness/workplace.ts"
import { queueState } from "./queueState.ts"

const backlog = 3000
const vacuums = 3
/** The limit of chunks, as a multiple of those that were asked for. */
const patience = 5

/** Waits for autovacuum: it first comes to a database of a new server after minutes, and then each minute. */
const visited = async (sql: Sql): Promise<void> => {
  await sql("create table bench.visited as select n from generate_series(1, 1000) n")
  for (;;) {
    const [row] = await sql<{ count: number }>(
      "select autoanalyze_count::int as count from pg_stat_user_tables where relname = 'visited'"
    )
    if ((row?.count ?? 0) > 0) return
    await sleep(1000)
  }
}

/** Records and drains chunks through a queue of a few thousand, and measures the queue ten times. */
export const throughSmall = (server: string, chunks: number): Promise<Table> =>
  inWorkplace(server, "small", async (place) => {
    const recorder = await place.open("sluice-watched")
    const worker = await place.open("sluice-watched")
    const rows: Array<Row> = []
    // a small run only checks that the bench still works
    if (chunks >= 100_000) await visited(place.query)
    const began = await counters(place.query)
    const look = async (recorded: number) => {
      const { at, wal } = await counters(place.query)
      const perRecord = { walBytes: Number(wal - began.wal) / recorded, perSecond: recorded / (at - began.at) * 1000 }
      rows.push({ recorded, ...await queueState(place.query), ...perRecord })
      progress(`small: ${JSON.stringify(rows.at(-1))}`)
    }
    const isEnough = (recorded: number) =>
      recorded >= chunks * patience || (recorded >= chunks && Number(rows.at(-1)?.["vacuums"]) >= vacuums)
    await flow({
      recorder,
      worker,
      backlog,
      from: 0,
      enough: async (recorded) => {
        const next = chunks * (rows.length + 1) / 10
        if (recorded >= next && recorded !== rows.at(-1)?.["recorded"]) await look(recorded)
        return isEnough(recorded)
      }
    })
    return {
      title: `${Number(rows.at(-1)?.["recorded"]).toLocaleString("en-US")} chunks through a queue of ${
        backlog.toLocaleString("en-US")
      }`,
      columns: [
        { field: "recorded", heading: "recorded" },
        { field: "tableBytes", heading: "queue bytes" },
        { field: "indexBytes", heading: "its indexes' bytes" },
        { field: "dead", heading: "dead rows" },
        { field: "vacuums", heading: "vacuums" },
        { field: "walBytes", heading: "WAL bytes a record" },
        { field: "perSecond", heading: "records/s, recorded and persisted" }
      ],
      rows
    }
  })
