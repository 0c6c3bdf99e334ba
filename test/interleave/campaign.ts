/**
 * Which schedules are run: all of some, and of the others as many as there is time for, by a seed.
 */
import { everySchedule, type Outcome, printSchedule, type Schedule, type Sessions } from "./explore.ts"
import { isKnown } from "./known.ts"
import { places } from "./place.ts"
import { fit, levels, type Part, verbs } from "./verbs.ts"

const part = (verb: string): Part => ({ verb })

/** All pairs of verbs that can be side by side in a place. */
export const pairsOf = (place: string): ReadonlyArray<ReadonlyArray<Part>> => {
  const names = Object.keys(verbs)
  return names.flatMap((one, index) => names.slice(index).map((other) => [part(one), part(other)]))
    .filter((parts) => fit(place, parts))
}

/** What has been wrong before, or would be first: whole, not sampled. */
export const dangerous: ReadonlyArray<readonly [place: string, parts: ReadonlyArray<Part>]> = [
  // put aside behind a younger letter, while the one that holds it up is discarded
  ["dead ready dead ready", [part("claim, persist"), part("discard a")]],
  ["dead ready dead ready", [part("claim one, persist"), part("discard a")]],
  // put aside while what holds it up is settled
  ["leased ready ready", [part("claim, persist"), part("held: persist")]],
  ["leased ready ready", [part("claim, release"), part("held: bury")]],
  ["scheduled waiting ready", [part("claim one, persist"), part("claim, persist")]],
  // released while it is put aside
  ["leased ready ready", [part("beat"), part("claim, release"), part("held: persist")]],
  ["dead waiting waiting", [part("beat"), part("claim, persist"), part("discard a")]],
  ["waiting ready", [part("beat"), part("claim, persist")]],
  // a lease that ends under its holder
  ["leased ready ready", [part("held: persist"), part("claim, persist"), part("leases end")]],
  ["leased leased ready", [part("held: release"), part("claim, persist"), part("leases end")]],
  // persisted by two at once
  ["ready ready ready", [part("claim, persist"), part("once a"), part("claim, persist")]],
  ["dead waiting waiting", [part("claim, persist"), part("discard a"), part("redrive all")]],
  // persisted inside the server, beside a claim of the same chunks and beside what takes their calls away
  ["ready ready ready", [part("persist inside"), part("persist inside")]],
  ["ready ready ready", [part("persist inside"), part("claim, persist")]],
  ["ready ready ready", [part("persist one inside"), part("persist one inside")]],
  ["ready ready ready", [part("persist one inside"), part("claim, persist")]],
  ["ready ready ready", [part("persist inside"), part("claim, release"), part("erase all")]],
  ["leased ready ready", [part("persist inside"), part("held: persist"), part("prune")]],
  // chunks of one key that different transactions hold, and each wakes those behind its own
  ["leased waiting waiting", [part("once b"), part("once c")]],
  ["leased waiting waiting waiting", [part("erase others"), part("once b")]],
  ["dead ready ready", [{ verb: "erase a", level: "read committed" }, part("repair a")]],
  // ends of calls
  ["leased waiting ready, ends", [part("held: persist"), part("claim, persist"), part("subscribe to ends")]],
  // recorded in two ways at once
  ["ready ready ready", [part("record f now"), part("record g, e, f")]]
]

/** A schedule by chance: two or three sessions, perhaps in transactions of the application's, perhaps with a break. */
export const randomSchedule = async (
  sessions: Sessions,
  roll: (below: number) => number,
  among: ReadonlyArray<string> = places
): Promise<readonly [Schedule, Outcome]> => {
  const names = Object.keys(verbs)
  const place = among[roll(among.length)]!
  const onePart = (): Part => {
    const verb = names[roll(names.length)]!
    return verbs[verb]?.joins === true && roll(2) === 0 ? { verb, level: levels[roll(levels.length)]! } : { verb }
  }
  let parts: ReadonlyArray<Part>
  do parts = Array.from({ length: 2 + roll(2) }, onePart)
  while (!fit(place, parts))
  const breaks = roll(4) === 0
    ? { step: roll(10), move: roll(2) === 0 ? "break before" as const : "break after" as const }
    : undefined
  const path: Array<number> = []
  const outcome = await sessions.runWith({ place, parts, breaks }, (width) => {
    const choice = roll(width)
    path.push(choice)
    return choice
  })
  return [{ place, parts, path, breaks }, outcome]
}

/** A kind of fault that was met. */
export interface Found {
  readonly wrong: string
  readonly why: string | undefined
  count: number
  /** The shortest schedule that shows it. */
  schedule: Schedule
  trace: ReadonlyArray<string>
}

/** What a campaign came to. */
export class Tally {
  schedules = 0
  readonly found = new Map<string, Found>()
  private readonly tell: (found: Found) => void

  /** `tell` is told of each kind of fault that nobody knows of, when it is met first. */
  constructor(tell: (found: Found) => void = () => undefined) {
    this.tell = tell
  }

  add([schedule, { trace, wrong }]: readonly [Schedule, Outcome]): void {
    this.schedules++
    for (const one of wrong) {
      const kind = `${one.split(":", 1)[0]} | ${schedule.place} | ${
        printSchedule({ ...schedule, path: [], breaks: undefined })
      }`
      const before = this.found.get(kind)
      if (before === undefined) {
        const found = { wrong: one, why: isKnown(one, schedule.parts)?.why, count: 1, schedule, trace }
        this.found.set(kind, found)
        if (found.why === undefined) this.tell(found)
        continue
      }
      before.count++
      if (trace.length < before.trace.length) Object.assign(before, { schedule, trace })
    }
  }

  /** Those that nobody knows of. */
  get fresh(): ReadonlyArray<Found> {
    return [...this.found.values()].filter(({ why }) => why === undefined)
  }
}

/** One kind of fault, as people read it. */
export const printFound = ({ count, schedule, trace, why, wrong }: Found): string =>
  [
    `${wrong} (${count} times${why === undefined ? "" : `, known: ${why}`})`,
    `  --again "${printSchedule(schedule)}"`,
    ...trace.map((line) => `    ${line}`)
  ].join("\n")

/** All schedules of these sessions in a place. */
export const runAll = async (
  sessions: Sessions,
  tally: Tally,
  place: string,
  parts: ReadonlyArray<Part>,
  most: number
): Promise<void> => {
  for await (const one of everySchedule(sessions, place, parts, most)) tally.add(one)
}
