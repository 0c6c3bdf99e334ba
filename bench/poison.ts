/**
 * What failing records cost the others: a share of them fails, half before and half after the first write.
 */
import { machine, progress, type Result } from "./harness/output.ts"
import { type Figures, inTurns, median, medians, ofRounds } from "./harness/rounds.ts"
import { startServer } from "./harness/server.ts"
import { type BenchOptions, wanted } from "./harness/settings.ts"
import { filled, inWorkplace, type Workplace } from "./harness/workplace.ts"
import { culpritTags } from "./systems/poison.ts"

interface Share {
  readonly name: string
  readonly failing: number
  /** Of the rate without failures. */
  readonly goal: number
}

const clean: Share = { name: "0", failing: 0, goal: 0.95 }

const shares: ReadonlyArray<Share> = [
  clean,
  { name: "0.02", failing: 0.0002, goal: 0.9 },
  { name: "0.2", failing: 0.002, goal: 0.6 },
  { name: "1", failing: 0.01, goal: 0.4 },
  { name: "5", failing: 0.05, goal: 0.2 }
]

const warmUp = 5000

/** Fails unless the culprits, and only they, are charged one attempt, and all others made one domain row each. */
const verify = async ({ query }: Workplace, records: number, failing: number): Promise<number> => {
  const [row] = await query<Record<string, number>>(
    `with culprit as (
       select call_id from sluice.service_call where outputs[1] -> 'data' -> 'metadata' -> 'tags' ->> 0 = any($1)
     )
     select (select count(*)::int from culprit) as culprits,
       (select count(*)::int from bench.message) as messages,
       (select count(distinct call_id)::int from bench.message) as calls,
       (select count(*)::int from bench.message where call_id in (select call_id from culprit)) as guilty,
       (select count(*)::int from sluice.persisted_chunk) as ledger,
       (select count(*)::int from sluice.chunk_queue) as outstanding,
       (select count(*)::int from sluice.chunk_queue
         where attempts = 1 and crashes = 0 and state = 'scheduled' and call_id in (select call_id from culprit)) as charged,
       (select count(*)::int from sluice.chunk_failure) as failures`,
    [culpritTags]
  )
  const culprits = row?.["culprits"] ?? Number.NaN
  const rest = records - culprits
  const expected = {
    culprits,
    messages: rest,
    calls: rest,
    guilty: 0,
    ledger: rest,
    outstanding: culprits,
    charged: culprits,
    failures: culprits
  }
  if (JSON.stringify(row) !== JSON.stringify(expected) || Math.abs(culprits - records * failing) > 2) {
    throw new Error(`of ${records} records ${failing * 100} % should have failed: ${JSON.stringify({ row, expected })}`)
  }
  return culprits
}

const measure = (server: string, { failing }: Share, records: number): Promise<Figures> =>
  inWorkplace(server, "poison", async (place) => {
    const child = await place.open("sluice-poison", { failing })
    await filled(place, child, { records, warmUp })
    const before = (await child.ask({ op: "look" })).figures["transactions"] ?? Number.NaN
    const { figures, seconds } = await child.ask({ op: "drain", count: records })
    await child.ask({ op: "close" })
    const culprits = await verify(place, warmUp + records, failing)
    return {
      perSecond: records / seconds,
      transactions: ((figures["transactions"] ?? Number.NaN) - before) / records * 1000,
      culprits
    }
  })

/** The bench. */
export const poison = async (options: BenchOptions): Promise<Result> => {
  const { records = 50_000, rounds } = options
  const chosen = shares.filter((share) => share === clean || wanted(options, share.name))
  const server = await startServer(options.postgres)
  try {
    // without failures twice, first and last: the others are compared with the mean of the two, and the difference shows how
    // exact that is
    const again: Share = { ...clean, name: "0, again" }
    const runs = await inTurns([...chosen, again], rounds, async (share, round) => {
      const figures = await measure(server.url(), share, records)
      progress(`round ${round}: ${share.name} %: ${Math.round(figures["perSecond"] ?? 0)} a second`)
      return figures
    })
    const rate = (share: Share, round: number) => runs.get(share)?.[round]?.["perSecond"] ?? Number.NaN
    const ratio = (share: Share, round: number) => rate(share, round) / ((rate(clean, round) + rate(again, round)) / 2)
    return {
      bench: "poison",
      ground: [machine(), server.description],
      tables: [{
        title: `Draining ${records.toLocaleString("en-US")} records of which some fail, ${ofRounds(rounds)}`,
        columns: [
          { field: "share", heading: "% fail" },
          { field: "perSecond", heading: "records/s" },
          { field: "ratio", heading: "of the clean rate", digits: 3 },
          { field: "goal", heading: "goal", digits: 2 },
          { field: "transactions", heading: "transactions per 1,000 records", digits: 1 },
          { field: "culprits", heading: "culprits" }
        ],
        rows: [...runs].map(([share, all]) => ({
          ...medians(all),
          share: share.name,
          goal: share.goal,
          ratio: median(all.map((_, round) => ratio(share, round)))
        })),
        notes: [
          "By SQL after each round: every other record is in the domain table and the ledger once; the culprits, and only " +
          "they, are charged one attempt, and left no row. They are tried again an hour later, so once in a round. Those among " +
          "the 5,000 of the warm-up are counted as well."
        ]
      }]
    }
  } finally {
    await server.remove()
  }
}
