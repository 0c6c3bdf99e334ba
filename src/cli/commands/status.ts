/**
 * `sluice status`: prints how many chunks of each kind are in each state, and which workers are alive.
 */
import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { InsideUse, Inspector, KindStatus, mostExact, type WorkerView } from "../../Inspector.ts"
import * as Kind from "../../Kind.ts"
import { Pause, Pauses } from "../../Pauses.ts"
import { Retention } from "../../Retention.ts"
import * as Database from "../Database.ts"
import { told } from "../Failed.ts"
import * as insideUse from "../insideUse.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"
import { untilStopped } from "../stopping.ts"
import { isScreen } from "../Terminal.ts"

/** A worker that has not signed off. */
const WorkerStatus = Schema.Struct({
  id: Schema.String,
  host: Schema.String,
  pid: Schema.String,
  /** Whether its last heartbeat is at most half a minute old. */
  alive: Schema.Boolean,
  /** Seconds since its last heartbeat. */
  seen: Schema.Finite,
  serves: Schema.Array(Schema.String),
  /** Of what it serves, the newest version of the schema that it reads. */
  versions: Schema.Record(Schema.String, Schema.Int)
})
type WorkerStatus = typeof WorkerStatus.Type

/** What `sluice status --json` prints. */
export const Status = Schema.Struct({
  kinds: Schema.Array(KindStatus),
  /** Chunks of all kinds persisted in the last minute, counted up to 100,000. */
  lastMinute: Schema.Int,
  workers: Schema.Array(WorkerStatus),
  /** How the living workers have persisted answers of declared handlers, since each of them started. */
  declared: Schema.Array(InsideUse),
  pauses: Schema.Array(Pause)
})

const toStatus = ({ alive, id, seen, serves }: WorkerView): WorkerStatus => {
  const [host = "", pid = ""] = id.split("/")
  return {
    id,
    host,
    pid,
    alive,
    seen,
    serves: serves.map(Kind.format),
    versions: Object.fromEntries(
      serves.flatMap((kind) =>
        kind.version !== undefined && Number.isSafeInteger(kind.version) ? [[Kind.format(kind), kind.version]] : []
      )
    )
  }
}

const look = Effect.fnUntraced(function*(exact: boolean) {
  const inspector = yield* Inspector
  // a role that may only read skips this: what is not rolled up is counted as well
  yield* Effect.ignore(Retention.use((retention) => retention.rollUp))
  const workers = yield* inspector.workers()
  return {
    kinds: yield* (exact ? inspector.exactStatus : inspector.status),
    lastMinute: yield* inspector.persistedLately,
    workers: workers.map(toStatus),
    declared: insideUse.sumUses(workers),
    pauses: yield* Pauses.use((pauses) => pauses.list)
  }
})

/** The width of an answer, unless the terminal is narrower. */
const usualWidth = 80

const widthOf = (): number => Math.min(usualWidth, print.screen().columns)

/** The columns of the table: what each counts, and its value for a kind. */
const columns = [
  ["ready", "can be claimed", (kind) => kind.ready],
  ["due", "ready, or scheduled and its time has come", (kind) => kind.due],
  ["fly", "in flight, held by a worker", (kind) => kind.inFlight],
  ["sched", "failed, and scheduled for another attempt", (kind) => kind.scheduled],
  ["wait", "waiting behind another chunk of its ordering key", (kind) => kind.waiting],
  ["park", "parked: no handler, its table does not fit, none for its version, or paused", (kind) => kind.parked],
  ["dead", "see `sluice dead`", (kind) => kind.dead],
  ["done", "persisted, also with nothing to create", (kind) => kind.persisted]
] as const satisfies ReadonlyArray<readonly [string, string, (kind: KindStatus) => number]>

const legend = `${columns.map(([title, meaning]) => `${title}: ${meaning}`).join("; ")}; ` +
  "oldest: the age of the oldest chunk that is neither persisted nor dead"

/**
 * The table of kinds. To fit the width, names are shortened first, then numbers are rounded; on a narrow terminal columns
 * without any chunk are left out, and at last lines are cut.
 */
export const kindTable = (kinds: ReadonlyArray<KindStatus>, now: number, width = usualWidth): string => {
  const short = print.shortNames(kinds.map((kind) => kind.schemaIdentity))
  const names = kinds.map((kind) => print.kind(kind.namespace, short(kind.schemaIdentity)))
  const longest = names.reduce((most, name) => Math.max(most, name.length), 0)
  const excess = (table: string) => table.split("\n").reduce((most, line) => Math.max(most, line.length - width), 0)
  const drawn = (shown: ReadonlyArray<typeof columns[number]>, figure: (figure: number) => string | number) => {
    const at = (nameWidth: number) =>
      print.table(
        ["kind", ...shown.map(([title]) => title), "oldest"],
        kinds.map((kind, row) => [
          print.clip(names[row] ?? "", nameWidth),
          ...shown.map(([, , count]) => figure(count(kind))),
          kind.oldest === null ? "" : print.ago(now - kind.oldest.epochMilliseconds)
        ])
      )
    const least = 16
    return at(Math.max(least, longest - excess(at(longest))))
  }
  const exact = drawn(columns, (figure) => figure)
  if (excess(exact) === 0) return exact
  const rounded = drawn(columns, print.figure)
  if (width >= usualWidth || excess(rounded) === 0) return rounded
  return drawn(columns.filter(([, , count]) => kinds.some((kind) => count(kind) > 0)), print.figure)
    .split("\n").map((line) => print.clip(line, width)).join("\n")
}

const workerLine = (
  { alive, host, pid, seen, serves, versions }: WorkerStatus,
  short: (identity: string) => string
): string => {
  const names = serves.map((kind) => {
    const slash = kind.indexOf("/")
    const name = print.kind(kind.slice(0, slash), short(kind.slice(slash + 1)))
    const version = versions[kind]
    return version === undefined ? name : `${name} v${version}`
  })
  const seenAgo = print.ago(seen * 1000)
  return alive
    ? `worker ${host} pid ${pid}: seen ${seenAgo} ago, serves ${names.join(", ") || "nothing"}`
    : `worker ${host} pid ${pid}: silent for ${seenAgo}, and counts as gone`
}

const isOutstanding = (kind: KindStatus): boolean =>
  kind.ready + kind.inFlight + kind.scheduled + kind.waiting + kind.parked + kind.dead > 0

/** At most `limit` kinds: those with outstanding chunks first, if there are more. */
const chosen = (kinds: ReadonlyArray<KindStatus>, limit: number): ReadonlyArray<KindStatus> =>
  kinds.length <= limit
    ? kinds
    : [...kinds.filter(isOutstanding), ...kinds.filter((kind) => !isOutstanding(kind))].slice(0, limit)

/** How an answer is printed. */
interface Layout {
  /** The most kinds, pauses and workers. */
  readonly limit: number
  readonly width: number
  /** The current time, in milliseconds. */
  readonly now: number
}

const inWords = (
  { declared, kinds, lastMinute, pauses, workers }: typeof Status.Type,
  { limit, now, width }: Layout
): ReadonlyArray<string> => {
  const shown = chosen(kinds, limit)
  const seen = workers.slice(0, limit)
  const short = print.shortNames([
    ...shown.map((kind) => kind.schemaIdentity),
    ...seen.flatMap(({ serves }) => serves.map((kind) => kind.slice(kind.indexOf("/") + 1)))
  ])
  const used = declared.flatMap((use) => {
    const words = insideUse.inWords(use)
    return words.length === 0 ? [] : [use.handler, ...words.map((line) => `  ${line}`)]
  })
  const how = "see --limit, or --json"
  return [
    ...kinds.length === 0 ? ["nothing is recorded"] : kindTable(shown, now, width).split("\n"),
    ...print.more(kinds.length, limit, "kinds", how),
    ...kinds.some(({ about }) => about)
      ? [`about: more than ${mostExact} chunks of a state are estimated; --exact counts them`]
      : [],
    `${lastMinute} persisted in the last minute`,
    ...pauses.slice(0, limit).map((pause) => print.clip(print.pause(pause), width)),
    ...print.more(pauses.length, limit, "pauses", how),
    ...seen.map((worker) => print.clip(workerLine(worker, short), width)),
    ...print.more(workers.length, limit, "workers", how),
    ...workers.some(({ alive }) => alive) ? [] : ["no worker is running"],
    ...used.length === 0 ? [] : ["declared handlers, since their workers started:", ...used.map((line) => `  ${line}`)]
  ]
}

/** One refresh of `--watch`. */
export interface Picture {
  readonly found: typeof Status.Type
  readonly now: number
}

const persistedIn = ({ kinds }: typeof Status.Type): number => kinds.reduce((sum, kind) => sum + kind.persisted, 0)

/** How many chunks were persisted per second between two pictures, or undefined for the first one. */
const rateOf = (current: Picture, previous: Picture | undefined): string | undefined => {
  if (previous === undefined || current.now <= previous.now) return undefined
  const rate = (persistedIn(current.found) - persistedIn(previous.found)) / ((current.now - previous.now) / 1000)
  // the counts go down only if the tables were changed manually
  const shown = Math.max(0, rate)
  return `${shown < 100 ? Math.round(shown * 10) / 10 : Math.round(shown)} persisted per second`
}

/**
 * The lines of one refresh of `--watch`: the time, the database, the rate since the previous picture, the answer of `sluice
 * status`, and a legend of its columns. At most `height` lines.
 */
export const picture = (
  current: Picture,
  { database, height, previous, ...layout }: Omit<Layout, "now"> & {
    readonly database: string
    readonly height: number
    readonly previous: Picture | undefined
  }
): ReadonlyArray<string> => {
  const time = DateTime.formatIso(DateTime.makeUnsafe(current.now)).slice(0, 19).replace("T", " ")
  const parts = [`${time} UTC`, database, ...Option.toArray(Option.fromUndefinedOr(rateOf(current, previous)))]
  const head = parts.join("  ")
  const lines = [
    ...head.length <= layout.width ? [head] : parts.map((part) => print.clip(part, layout.width)),
    "",
    ...inWords(current.found, { ...layout, now: current.now }).flatMap((line) =>
      line.length <= layout.width ? [line] : print.fill(line, layout.width)
    ),
    ...current.found.kinds.length === 0 ? [] : ["", ...print.fill(legend, layout.width)]
  ]
  return lines.slice(0, height)
}

/** Prints a picture again and again, over the previous one on a terminal. */
const watching = Effect.fnUntraced(function*(
  { database, exact, json, limit }: {
    readonly database: string
    readonly exact: boolean
    readonly json: boolean
    readonly limit: number
  }
) {
  let previous: Picture | undefined
  while (true) {
    const current: Picture = { found: yield* look(exact), now: (yield* DateTime.now).epochMilliseconds }
    if (isScreen(process.stdout)) process.stdout.write("\u001b[2J\u001b[H")
    // the last line of a terminal is left to the cursor
    const height = Math.max(1, print.screen().rows - 1)
    yield* json
      ? print.json(Status, current.found)
      : print.lines(picture(current, { database, height, limit, previous, width: widthOf() }))
    previous = current
    yield* Effect.sleep("2 seconds")
  }
})

const printed = Effect.fnUntraced(function*(json: boolean, limit: number, exact: boolean) {
  const found = yield* look(exact)
  const now = (yield* DateTime.now).epochMilliseconds
  yield* json ? print.json(Status, found) : print.lines(inWords(found, { limit, now, width: widthOf() }))
})

/** The command. */
export const status = Command.make(
  "status",
  {
    ...options.common,
    watch: options.on("watch", "look again every 2 seconds, until stopped"),
    exact: options.on("exact", "count all chunks, also where there are many of a state"),
    limit: options.limit(50)
  },
  ({ exact, limit, url, watch, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const looking = watch
        ? untilStopped(watching({ database: yield* Database.nameOf(url), exact, json, limit }))
        : printed(json, limit, exact)
      yield* Effect.provide(looking, Database.storesAsTheyAre(url))
    }).pipe(told)
).pipe(
  Command.withDescription(
    `Count the chunks in each state; list the workers. ${legend}`
  ),
  Command.withShortDescription("Count the chunks in each state; list the workers"),
  Command.withExamples([
    { command: "sluice status", description: "Look once" },
    { command: "sluice status --watch", description: "Keep looking" }
  ])
)
