/**
 * The effect of the queue's storage parameters: the same work with those of the migration and with others.
 */
import { counters } from "../harness/figures.ts"
import { flow } from "../harness/flow.ts"
import { progress, type Row, type Table } from "../harness/output.ts"
import { type Figures, inTurns, medians } from "../harness/rounds.ts"
import { spent } from "../harness/statements.ts"
import { inWorkplace, type Workplace } from "../harness/workplace.ts"
import { queueState, queueStateAfter } from "./queueState.ts"

const backlog = 3000
const warmUp = 5000
const autovacuum = `autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_limit,
  autovacuum_analyze_scale_factor`
const table = "alter table sluice.chunk_queue"

interface Variant {
  readonly name: string
  /** Statements that change what the migration set. */
  readonly change: ReadonlyArray<string>
}

const variants: ReadonlyArray<Variant> = [
  { name: "as migrated", change: [] },
  { name: "fillfactor 45", change: [`${table} set (fillfactor = 45)`] },
  { name: "fillfactor 70", change: [`${table} set (fillfactor = 70)`] },
  { name: "fillfactor 100", change: [`${table} reset (fillfactor)`] },
  { name: "autovacuum by default", change: [`${table} reset (${autovacuum})`] },
  { name: "all by default", change: [`${table} reset (fillfactor, ${autovacuum})`] }
]

/** What a part of the work cost, by the record. */
const cost = async (place: Workplace, records: number, work: () => Promise<unknown>): Promise<Figures> => {
  const before = await queueState(place.query)
  await place.query("select pg_stat_statements_reset()")
  const began = await counters(place.query)
  await work()
  const ended = await counters(place.query)
  const { claim, settle } = await spent(place.query)
  const after = await queueStateAfter(place.query, (before["deleted"] ?? 0) + records)
  const grown = (name: string) => (after[name] ?? Number.NaN) - (before[name] ?? Number.NaN)
  return {
    perSecond: records / (ended.at - began.at) * 1000,
    walBytes: Number(ended.wal - began.wal) / records,
    postgresMicros: (ended.cpuMicros - began.cpuMicros) / records,
    claimMicros: claim * 1000 / records,
    settleMicros: settle * 1000 / records,
    inPlace: grown("inPlace") / grown("updated"),
    tableBytes: after["tableBytes"] ?? Number.NaN,
    indexBytes: after["indexBytes"] ?? Number.NaN,
    vacuums: grown("vacuums")
  }
}

/** Work through a small queue, and then a backlog that was recorded before. */
const measure = (server: string, { change }: Variant, records: number): Promise<Readonly<Record<Work, Figures>>> =>
  inWorkplace(server, "storage", async (place) => {
    await place.query("create extension pg_stat_statements")
    const recorder = await place.open("sluice-watched")
    const worker = await place.open("sluice-watched")
    for (const statement of change) await place.query(statement)
    await recorder.ask({ op: "fill", from: 0, count: warmUp })
    await worker.ask({ op: "drain", count: warmUp })
    await queueStateAfter(place.query, warmUp)
    const small = await cost(
      place,
      records,
      () => flow({ recorder, worker, backlog, from: warmUp, enough: (recorded) => recorded >= records })
    )
    await place.query("truncate sluice.chunk_queue")
    await place.query("checkpoint")
    await recorder.ask({ op: "fill", from: 2 * warmUp + 2 * records, count: records })
    await place.query("analyze sluice.chunk_queue")
    const large = await cost(place, records, () => worker.ask({ op: "drain", count: records }))
    return { small, large }
  })

type Work = "small" | "large"

const columns: Table["columns"] = [
  { field: "variant", heading: "storage parameters" },
  { field: "perSecond", heading: "records/s" },
  { field: "claimMicros", heading: "claim µs a record", digits: 1 },
  { field: "settleMicros", heading: "settle µs a record", digits: 1 },
  { field: "postgresMicros", heading: "Postgres µs a record", digits: 1 },
  { field: "walBytes", heading: "WAL bytes a record" },
  { field: "inPlace", heading: "updates in place", digits: 3 },
  { field: "tableBytes", heading: "queue bytes" },
  { field: "indexBytes", heading: "its indexes' bytes" },
  { field: "vacuums", heading: "vacuums", digits: 1 }
]

/** Compares them. The server must have `pg_stat_statements`. */
export const storage = async (server: string, records: number, rounds: number): Promise<ReadonlyArray<Table>> => {
  const runs = await inTurns(variants, rounds, async (variant, round) => {
    const figures = await measure(server, variant, records)
    progress(`round ${round}: ${variant.name}: ${JSON.stringify(figures)}`)
    return figures
  })
  const rows = (work: Work): ReadonlyArray<Row> =>
    [...runs].map(([{ name }, all]) => ({ variant: name, ...medians(all.map((figures) => figures[work])) }))
  const many = records.toLocaleString("en-US")
  return [
    {
      title: `Storage parameters: ${many} chunks through a queue of ${backlog.toLocaleString("en-US")}`,
      columns,
      rows: rows("small"),
      notes: ["Records are recorded meanwhile, which is part of these costs."]
    },
    { title: `Storage parameters: a backlog of ${many} chunks drained`, columns, rows: rows("large") }
  ]
}
