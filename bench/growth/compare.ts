/**
 * A database that has grown beside an empty one: drained in turns, so that other work of the machine affects both.
 */
import { progress, type Row, type Table } from "../harness/output.ts"
import { type Figures, inTurns, median, medians, ofRounds } from "../harness/rounds.ts"
import { inWorkplace, type Workplace } from "../harness/workplace.ts"
import type { Options } from "../systems/system.ts"
import { verify } from "../work.ts"
import { type Case, grow } from "./cases.ts"

const warmUp = 5000

interface Drained {
  readonly records: number
  readonly options: Options
  readonly renew: string | undefined
}

/** Drains some records with a worker of its own. */
const drained = async (place: Workplace, from: number, { options, records, renew }: Drained): Promise<Figures> => {
  const child = await place.open("sluice-watched", options)
  await child.ask({ op: "fill", from, count: warmUp })
  await child.ask({ op: "drain", count: warmUp })
  if (renew !== undefined) await place.query(renew)
  // before the fill, so that what the drain touches was written since and is not written whole once more
  await place.query("checkpoint")
  await child.ask({ op: "fill", from: from + warmUp, count: records })
  await place.query("vacuum analyze")
  const { figures, seconds } = await child.ask({ op: "drain", count: records })
  await verify(place.query, from + warmUp + records)
  const idle = await child.ask({ op: "claimNothing", times: 20 })
  await child.ask({ op: "close" })
  return {
    perSecond: records / seconds,
    claimMillis: figures["claimMillis"] ?? Number.NaN,
    idleMillis: idle.figures["claimMillis"] ?? Number.NaN
  }
}

const names = ["perSecond", "claimMillis", "idleMillis"] as const

/** Measures one case: the empty database, the grown one, and the median of the rounds' ratios. */
const measure = (server: string, one: Case, size: number, all: number, rounds: number): Promise<Row> =>
  inWorkplace(server, "grown", async (place) => {
    const records = Math.round(all * (one.share ?? 1))
    // opened once for its tables
    await (await place.open("sluice-watched")).ask({ op: "close" })
    await grow(place.query, one, size)
    const plain: Drained = { records, options: {}, renew: undefined }
    const peculiar: Drained = { records, options: one.options?.(size) ?? {}, renew: one.renew }
    const runs = await inTurns(["empty", "grown"] as const, rounds, async (which, round) => {
      const figures = which === "empty"
        ? await inWorkplace(server, "empty", (empty) => drained(empty, 0, plain))
        : await drained(place, (round - 1) * (warmUp + records), peculiar)
      progress(`round ${round}: ${one.name}: ${which}: ${Math.round(figures["perSecond"] ?? 0)} a second`)
      return figures
    })
    const empty = runs.get("empty") ?? []
    const grown = runs.get("grown") ?? []
    const ratio = (name: string) =>
      median(grown.map((figures, round) => (figures[name] ?? Number.NaN) / (empty[round]?.[name] ?? Number.NaN)))
    const [before, after] = [medians(empty), medians(grown)]
    return Object.assign(
      { case: one.name, about: one.about, size },
      ...names.map((name) => ({
        [`${name}Empty`]: before[name],
        [`${name}Grown`]: after[name],
        [`${name}Ratio`]: ratio(name)
      }))
    ) as Row
  })

/** All cases that were asked for. */
export const compared = async (
  server: string,
  cases: ReadonlyArray<Case>,
  { records, rounds, scale }: { readonly records: number; readonly rounds: number; readonly scale: number }
): Promise<Table> => {
  const rows: Array<Row> = []
  for (const one of cases) {
    const size = one.fixed === true ? one.size : Math.max(1, Math.round(one.size * scale))
    rows.push(await measure(server, one, size, records, rounds))
  }
  return {
    title: `Draining ${records.toLocaleString("en-US")} records beside what has grown, ${ofRounds(rounds)}`,
    columns: [
      { field: "case", heading: "case" },
      { field: "size", heading: "there are" },
      { field: "about", heading: "" },
      { field: "perSecondEmpty", heading: "records/s, empty" },
      { field: "perSecondGrown", heading: "grown" },
      { field: "perSecondRatio", heading: "ratio", digits: 2 },
      { field: "claimMillisEmpty", heading: "claim ms, empty", digits: 2 },
      { field: "claimMillisGrown", heading: "grown", digits: 2 },
      { field: "claimMillisRatio", heading: "ratio", digits: 2 },
      { field: "idleMillisEmpty", heading: "claim of nothing ms, empty", digits: 2 },
      { field: "idleMillisGrown", heading: "grown", digits: 2 },
      { field: "idleMillisRatio", heading: "ratio", digits: 2 }
    ],
    rows,
    notes: [
      "A ratio is the median of the rounds' own.",
      ...(cases.some(({ options }) => options !== undefined)
        ? [
          "keys-each, keys-100 and key-one drain records that have ordering keys, beside records without in the empty " +
          "database: what order costs, rather than what growth costs."
        ]
        : [])
    ]
  }
}
