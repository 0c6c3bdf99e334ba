/**
 * Whether other shapes of work are as fast as one kind of answer that becomes one row: by declared handlers, by handlers
 * for the batch, and by the limit.
 */
import { machine, progress, type Result } from "./harness/output.ts"
import { inTurns, median, ofRounds } from "./harness/rounds.ts"
import { startServer } from "./harness/server.ts"
import { type BenchOptions, wanted } from "./harness/settings.ts"
import { filled, inWorkplace } from "./harness/workplace.ts"
import type { SystemName } from "./systems/index.ts"
import { linesOfDialogue } from "./systems/shapes.ts"
import { verify } from "./work.ts"

/** A shape, and the systems that do it. The first one is the limit. */
interface Shape {
  readonly part: string
  readonly name: string
  readonly rows: number
  readonly systems: ReadonlyArray<SystemName>
}

const shapes: ReadonlyArray<Shape> = [
  {
    part: "mixed",
    name: "four kinds in turns, a row each",
    rows: 1,
    systems: ["limit", "sluice-mixed-many", "sluice-mixed-both", "sluice-mixed-declared"]
  },
  {
    part: "each",
    name: "one kind, ten rows an answer",
    rows: linesOfDialogue,
    systems: ["limit-each", "sluice-each-many", "sluice-each-declared"]
  }
]

const warmUp = 20_000

const measure = (server: string, system: SystemName, records: number, rows: number): Promise<number> =>
  inWorkplace(server, "shapes", async (place) => {
    const child = await place.open(system)
    await filled(place, child, { records, warmUp })
    const { seconds } = await child.ask({ op: "drain", count: records })
    await child.ask({ op: "close" })
    await verify(place.query, warmUp + records, rows)
    return records / seconds
  })

/** The bench. */
export const shapesBench = async (options: BenchOptions): Promise<Result> => {
  const { records = 50_000, rounds } = options
  const subjects = shapes.filter(({ part }) => wanted(options, part)).flatMap((shape) =>
    shape.systems.map((system) => ({ shape, system }))
  )
  const server = await startServer(options.postgres)
  try {
    const runs = await inTurns(subjects, rounds, async ({ shape, system }, round) => {
      const rate = await measure(server.url(), system, records, shape.rows)
      progress(`round ${round}: ${shape.name}, ${system}: ${Math.round(rate)} a second`)
      return rate
    })
    const limitOf = (shape: Shape, round: number) => {
      const limit = subjects.find((one) => one.shape === shape)
      return (limit === undefined ? undefined : runs.get(limit)?.[round]) ?? Number.NaN
    }
    return {
      bench: "shapes",
      ground: [machine(), server.description],
      tables: [{
        title: `Draining ${records.toLocaleString("en-US")} records of other shapes, ${ofRounds(rounds)}`,
        columns: [
          { field: "shape", heading: "answers" },
          { field: "system", heading: "system" },
          { field: "perSecond", heading: "records/s" },
          { field: "ratio", heading: "of the limit", digits: 2 }
        ],
        rows: [...runs].map(([{ shape, system }, rates]) => ({
          shape: shape.name,
          system,
          perSecond: median(rates),
          ratio: median(rates.map((rate, round) => rate / limitOf(shape, round)))
        })),
        notes: ["A ratio is the median of the rounds' own."]
      }]
    }
  } finally {
    await server.remove()
  }
}
