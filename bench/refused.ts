/**
 * What rows that the table refuses cost a declared handler, beside a handler for the batch.
 */
import { machine, progress, type Result } from "./harness/output.ts"
import { type Figures, inTurns, median, ofRounds } from "./harness/rounds.ts"
import { startServer } from "./harness/server.ts"
import { type BenchOptions, wanted } from "./harness/settings.ts"
import { filled, inWorkplace, type Workplace } from "./harness/workplace.ts"
import { refusal } from "./systems/refused.ts"

const shares = ["0", "0.02", "0.4", "1"] as const
const ways = ["many", "declared"] as const

interface Subject {
  readonly share: (typeof shares)[number]
  readonly way: (typeof ways)[number]
}

const warmUp = 10_000

/** Fails unless the culprits, and only they, are charged one attempt, and all others made one domain row each. */
const verify = async ({ query }: Workplace, records: number, failing: number): Promise<void> => {
  const [row] = await query<Record<string, number>>(
    `with culprit as (
       select call_id from sluice.service_call where outputs[1] -> 'data' ->> 'content' = 'refused'
     )
     select (select count(*)::int from culprit) as culprits,
       (select count(*)::int from bench.message) as messages,
       (select count(distinct call_id)::int from bench.message) as calls,
       (select count(*)::int from sluice.persisted_chunk) as ledger,
       (select count(*)::int from sluice.chunk_queue
         where attempts = 1 and crashes = 0 and state = 'scheduled' and call_id in (select call_id from culprit)) as charged,
       (select count(*)::int from sluice.chunk_queue) as outstanding,
       (select count(*)::int from sluice.chunk_failure) as failures`
  )
  const culprits = row?.["culprits"] ?? Number.NaN
  const rest = records - culprits
  const expected = {
    culprits,
    messages: rest,
    calls: rest,
    ledger: rest,
    charged: culprits,
    outstanding: culprits,
    failures: culprits
  }
  if (JSON.stringify(row) !== JSON.stringify(expected) || Math.abs(culprits - records * failing) > 2) {
    throw new Error(
      `of ${records} rows ${failing * 100} % should have been refused: ${JSON.stringify({ row, expected })}`
    )
  }
}

const measure = (server: string, { share, way }: Subject, records: number): Promise<Figures> =>
  inWorkplace(server, "refused", async (place) => {
    const failing = Number(share) / 100
    await place.query(refusal)
    const child = await place.open(`sluice-refused-${way}`, { failing })
    await filled(place, child, { records, warmUp })
    const { seconds } = await child.ask({ op: "drain", count: records })
    await child.ask({ op: "close" })
    await verify(place, warmUp + records, failing)
    return { perSecond: records / seconds }
  })

/** The bench. */
export const refused = async (options: BenchOptions): Promise<Result> => {
  const { records = 50_000, rounds } = options
  const chosen = shares.filter((share) => wanted(options, share))
  const subjects = chosen.flatMap((share) => ways.map((way): Subject => ({ share, way })))
  const server = await startServer(options.postgres)
  try {
    const runs = await inTurns(subjects, rounds, async (subject, round) => {
      const figures = await measure(server.url(), subject, records)
      progress(
        `round ${round}: ${subject.share} %, ${subject.way}: ${Math.round(figures["perSecond"] ?? 0)} a second`
      )
      return figures
    })
    const rates = (share: Subject["share"], way: Subject["way"]) => {
      const subject = subjects.find((one) => one.share === share && one.way === way)
      const all = subject === undefined ? undefined : runs.get(subject)
      return (all ?? []).map((figures) => figures["perSecond"] ?? Number.NaN)
    }
    return {
      bench: "refused",
      ground: [machine(), server.description],
      tables: [{
        title: `Draining ${records.toLocaleString("en-US")} records of which the table refuses some, ${
          ofRounds(rounds)
        }`,
        columns: [
          { field: "share", heading: "% refused" },
          { field: "many", heading: "for the batch/s" },
          { field: "declared", heading: "declared/s" },
          { field: "ratio", heading: "ratio", digits: 2 }
        ],
        rows: chosen.map((share) => {
          const [many, declared] = [rates(share, "many"), rates(share, "declared")]
          return {
            share,
            many: median(many),
            declared: median(declared),
            ratio: median(declared.map((rate, round) => rate / (many[round] ?? Number.NaN)))
          }
        }),
        notes: [
          "By SQL after each round: the refused records, and only they, are charged one attempt; each other record is in " +
          "the domain table and the ledger once. A ratio is the median of the rounds' own."
        ]
      }]
    }
  } finally {
    await server.remove()
  }
}
