/**
 * `sluice status`: prints how many chunks of each kind are in each state, and which workers are alive.
 */
import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Inspector, KindStatus, type WorkerView } from "../../Inspector.ts"
import * as Kind from "../../Kind.ts"
import { Pause, Pauses } from "../../Pauses.ts"
import * as Database from "../Database.ts"
import { told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"
import { untilStopped } from "../stopping.ts"

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
  pauses: Schema.Array(Pause)
})

const toStatus = ({ id, serves, ...worker }: WorkerView): WorkerStatus => {
  const [host = "", pid = ""] = id.split("/")
  return {
    id,
    host,
    pid,
    ...worker,
    serves: serves.map(Kind.format),
    versions: Object.fromEntries(
      serves.flatMap((kind) =>
        kind.version !== undefined && Number.isSafeInteger(kind.version) ? [[Kind.format(kind), kind.version]] : []
      )
    )
  }
}

const look = Effect.gen(function*() {
  const inspector = yield* Inspector
  return {
    kinds: yield* inspector.status,
    lastMinute: yield* inspector.persistedLately,
    workers: (yield* inspector.workers()).map(toStatus),
    pauses: yield* Pauses.use((pauses) => pauses.list)
  }
})

const columns = 80
const head = ["kind", "ready", "due", "fly", "sched", "wait", "park", "dead", "done", "oldest"]

/** The table of kinds in 80 columns: names are shortened first, then numbers are rounded. */
export const kindTable = (kinds: ReadonlyArray<KindStatus>, now: number): string => {
  const short = print.shortNames(kinds.map((kind) => kind.schemaIdentity))
  const names = kinds.map((kind) => print.kind(kind.namespace, short(kind.schemaIdentity)))
  const longest = names.reduce((most, name) => Math.max(most, name.length), 0)
  const drawn = (width: number, figure: (figure: number) => string | number) =>
    print.table(
      head,
      kinds.map((kind, row) => [
        print.clip(names[row] ?? "", width),
        ...[
          kind.ready,
          kind.due,
          kind.inFlight,
          kind.scheduled,
          kind.waiting,
          kind.parked,
          kind.dead,
          kind.persisted
        ].map(figure),
        kind.oldest === null ? "" : print.ago(now - kind.oldest.epochMilliseconds)
      ])
    )
  const excess = (table: string) => table.split("\n").reduce((most, line) => Math.max(most, line.length - columns), 0)
  const least = 16
  const whole = drawn(longest, (figure) => figure)
  const clipped = drawn(Math.max(least, longest - excess(whole)), (figure) => figure)
  if (excess(clipped) === 0) return clipped
  const rounded = drawn(longest, print.figure)
  return drawn(Math.max(least, longest - excess(rounded)), print.figure)
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

const inWords = (
  { kinds, lastMinute, pauses, workers }: typeof Status.Type,
  { limit, now }: { readonly limit: number; readonly now: number }
): ReadonlyArray<string> => {
  const shown = chosen(kinds, limit)
  const seen = workers.slice(0, limit)
  const short = print.shortNames([
    ...shown.map((kind) => kind.schemaIdentity),
    ...seen.flatMap(({ serves }) => serves.map((kind) => kind.slice(kind.indexOf("/") + 1)))
  ])
  const how = "see --limit, or --json"
  return [
    ...kinds.length === 0 ? ["nothing is recorded"] : kindTable(shown, now).split("\n"),
    ...print.more(kinds.length, limit, "kinds", how),
    `${lastMinute} persisted in the last minute`,
    ...pauses.slice(0, limit).map((pause) => print.clip(print.pause(pause), columns)),
    ...print.more(pauses.length, limit, "pauses", how),
    ...seen.map((worker) => print.clip(workerLine(worker, short), columns)),
    ...print.more(workers.length, limit, "workers", how),
    ...workers.some(({ alive }) => alive) ? [] : ["no worker is running"]
  ]
}

/** The command. */
export const status = Command.make(
  "status",
  {
    ...options.common,
    watch: options.on("watch", "again every 2 seconds, until told to stop"),
    limit: options.limit(50)
  },
  ({ limit, url, watch, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const once = Effect.gen(function*() {
        const found = yield* look
        if (watch && process.stdout.isTTY) process.stdout.write("\u001b[2J\u001b[H")
        const now = (yield* DateTime.now).epochMilliseconds
        yield* json ? print.json(Status, found) : print.lines(inWords(found, { limit, now }))
      })
      const looking = watch ? untilStopped(Effect.forever(Effect.andThen(once, Effect.sleep("2 seconds")))) : once
      yield* Effect.provide(looking, Database.storesAsTheyAre(url))
    }).pipe(told)
).pipe(
  Command.withDescription(
    "How many chunks stand where, and which workers live. ready: can be claimed; due: the ready, and the scheduled " +
      "whose time has come; fly: held by a worker; sched: failed, and scheduled for another attempt; wait: behind another " +
      "of their ordering key; park: no handler, none for its version, or paused; dead: see `sluice dead`; done: persisted; oldest: recorded, and not done"
  ),
  Command.withShortDescription("How many chunks stand where, and which workers live"),
  Command.withExamples([
    { command: "sluice status", description: "Look once" },
    { command: "sluice status --watch", description: "Keep looking" }
  ])
)
