/**
 * Runs sessions beside each other, in an order of their statements that a schedule says, and looks at what came of it.
 */
import * as Settings from "effect-sluice/Settings"
import * as Migrations from "effect-sluice/store/Migrations"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import { isSqlError } from "effect/sql/SqlError"
import { Client } from "pg"
import { client } from "../support/client.ts"
import { startCluster, type Version } from "../support/cluster.ts"
import { beat, drain } from "./draining.ts"
import { lookAtEnd, lookNow } from "./look.ts"
import { makePlace, startsStranded } from "./place.ts"
import { type Move, openSession, runtimeOn, type Session } from "./session.ts"
import { subscribe } from "./subscribing.ts"
import { parsePart, type Part, printPart, programOf, verbs } from "./verbs.ts"

/** Which sessions begin where, and what is done at each step. */
export interface Schedule {
  readonly place: string
  readonly parts: ReadonlyArray<Part>
  /** At each step, the one among the sessions that can go on that does. Where it ends, the first. */
  readonly path: ReadonlyArray<number>
  /** The connection that breaks, and at which step. */
  readonly breaks?: { readonly step: number; readonly move: Exclude<Move, "go"> } | undefined
}

/** What came of a schedule. */
export interface Outcome {
  /** At each step, how many sessions could have gone on. */
  readonly widths: ReadonlyArray<number>
  /** The statements, in the order in which they went. */
  readonly trace: ReadonlyArray<string>
  readonly wrong: ReadonlyArray<string>
}

/** The longest a step may take, in milliseconds. */
const patience = 20_000

/**
 * How many statements in a row are one session's, while another could go on: it may be waiting for that one, by trying
 * again.
 */
const mostInARow = 40

const codeOf = (error: unknown): string =>
  Predicate.hasProperty(error, "code") && typeof error.code === "string" ? error.code : ""

/** What a verb may be told beside some other: it did nothing, and may be tried again. */
const mayFail: ReadonlyArray<readonly [verb: RegExp, error: RegExp]> = [
  // another reader, or a person, has taken the subscription
  [/^subscribe/, /LeaseLost/],
  // it waits for those who write for so long
  [/^rebase/, /did not end within 3s/],
  // it waits for who holds a chunk for so long
  [/^erase/, /holds a chunk of one of the calls/]
]

/** An error that is none: a transaction of the application's may meet conflicts, a connection that broke may tell of it. */
const isExpected = (error: unknown, { breaks }: Schedule, part: Part): boolean =>
  Predicate.hasProperty(error, "transient") && error.transient === true &&
  ((part.level !== undefined && part.level !== "read committed" && codeOf(error) === "40001") ||
    (breaks !== undefined && !codeOf(error).startsWith("40")))

const told = (exit: Exit.Exit<unknown, unknown> | undefined, schedule: Schedule, part: Part): ReadonlyArray<string> => {
  if (exit === undefined || Exit.isSuccess(exit)) return []
  const error = Cause.squash(exit.cause)
  // the application's own statements fail with the client's error, and so do handlers
  const cause = Predicate.hasProperty(error, "reason") && Predicate.hasProperty(error.reason, "cause")
    ? error.reason.cause
    : error
  const own = (part.level !== undefined && codeOf(cause) === "40001") ||
    (schedule.breaks !== undefined && isSqlError(error) && codeOf(cause) === "")
  // in a snapshot some verbs are refused, and nothing was done
  const refused = part.level !== undefined && part.level !== "read committed" &&
    String(error).includes("this needs read committed")
  const other = mayFail.some(([verb, text]) => verb.test(part.verb) && text.test(`${codeOf(error)} ${String(error)}`))
  if (own || refused || other || isExpected(error, schedule, part)) return []
  const text = `${codeOf(error) || codeOf(cause)} ${String(error)}`.trim().replaceAll(/[0-9a-f-]{36}/g, "…")
  return [`error: ${text.split("\n", 1)[0]?.slice(0, 120)}`]
}

const short = (text: string): string => text.replaceAll(/\s+/g, " ").trim().slice(0, 70)

/** A deadlock is found soon, and no time goes into plans: which plans there are is another test's. */
const settings = { deadlock_timeout: "20ms", plan_cache_mode: "force_generic_plan", jit: "off" }

/** Sessions on a server of their own. */
export const open = async (version: Version) => {
  const cluster = await startCluster({ version, settings })
  const url = cluster.url()
  await Effect.runPromise(Migrations.run.pipe(Effect.provide(Layer.merge(client(url), Settings.layer({})))))
  const connect = async () => {
    const db = new Client({ connectionString: url })
    await db.connect()
    return db
  }
  const [db, watcher] = [await connect(), await connect()]
  await db.query(`
    create table note (id serial primary key, call_id text not null, written_by text not null);
    create table told (call_id text not null);
    create table told_end (call_id text not null);
    create table visit (id serial primary key);
    create table seqs (call_id text primary key, seq bigint);
    insert into seqs values ('a', 1), ('b', 2), ('c', 3), ('d', 4)`)

  let wake: () => void = () => undefined
  const changed = () => wake()
  const sessions: ReadonlyArray<Session> = [
    await openSession("A", url, changed),
    await openSession("B", url, changed),
    await openSession("C", url, changed)
  ]
  const beside = runtimeOn(url, 1)

  const pause = (millis: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, millis)
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })

  const isWaiting = async (backends: ReadonlyArray<number>): Promise<boolean> => {
    const { rows } = await watcher.query(
      "select pid from unnest($1::int[]) pid where cardinality(pg_blocking_pids(pid)) = 0",
      [backends]
    )
    return rows.length === 0
  }
  const areGone = async (backends: ReadonlyArray<number>): Promise<boolean> => {
    const { rows } = await watcher.query("select pid from pg_stat_activity where pid = any($1::int[])", [backends])
    return rows.length === 0
  }

  /** Until each session has ended, is held at its next statement, or waits for a lock of another that is held. */
  const settled = async (used: ReadonlyArray<Session>): Promise<void> => {
    const until = performance.now() + patience
    while (performance.now() < until) {
      const broken = used.flatMap((session) => session.broken())
      const moving = used.filter((session) => session.exit() === undefined && session.held() === undefined)
      if (moving.length === 0 && (broken.length === 0 || await areGone(broken))) return
      const backends = moving.flatMap((session) => session.atServer() ?? [])
      const others = used.some((session) => session.held() !== undefined)
      if (
        moving.length > 0 && others && backends.length === moving.length &&
        (broken.length === 0 || await areGone(broken)) && await isWaiting(backends)
      ) {
        return
      }
      await pause(2)
    }
    throw new Error(
      `nothing moves: ${used.map(({ exit, held, name }) => `${name} ${exit() ? "ended" : held() ?? "?"}`).join("; ")}`
    )
  }

  /** Whether a transaction is under way that holds up the log: also one of the server's own, as an autovacuum's. */
  const isHeldUp = async (): Promise<boolean> => {
    const { rows } = await watcher.query(`
      select from sluice.subscription_log l, (
        select xact from sluice.persisted_chunk union all select xact from sluice.call_end
      ) line
      where line.xact::text::bigint - l.base >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint limit 1`)
    return rows.length > 0
  }

  /** Tells the subscribers of all that there is. A reader that died leaves suspects: then they are told in parts. */
  const tellAll = async (): Promise<void> => {
    const until = performance.now() + patience
    for (const feed of ["objects", "calls"] as const) {
      while (await beside.runPromise(subscribe(feed)) || (await isHeldUp() && performance.now() < until)) await pause(1)
    }
  }

  /** Runs a schedule. `choose` says which of so many sessions goes on. */
  const runWith = async (
    schedule: Omit<Schedule, "path">,
    choose: (width: number, step: number) => number
  ): Promise<Outcome> => {
    const used = sessions.slice(0, schedule.parts.length)
    for (const [index, session] of used.entries()) {
      const learns = verbs[schedule.parts[index]!.verb]?.learns
      if (learns !== undefined) await session.run(learns)
    }
    const held = await makePlace(db, schedule.place)
    for (const [index, session] of used.entries()) session.start(programOf(schedule.parts[index]!, held))
    const widths: Array<number> = []
    const trace: Array<string> = []
    await settled(used)
    let last: { readonly session: Session; readonly count: number } | undefined
    while (used.some((session) => session.exit() === undefined)) {
      const ready = used.filter((session) => session.held() !== undefined)
      const step = widths.length
      const chosen = ready[Math.min(choose(ready.length, step), ready.length - 1)]!
      const tired = last !== undefined && last.count >= mostInARow ? last.session : undefined
      const session = chosen === tired ? ready.find((one) => one !== tired) ?? chosen : chosen
      last = { session, count: last?.session === session ? last.count + 1 : 1 }
      const move = schedule.breaks?.step === step ? schedule.breaks.move : "go"
      widths.push(ready.length)
      trace.push(`${session.name}: ${short(session.held() ?? "")}${move === "go" ? "" : `  (${move})`}`)
      session.move(move)
      await settled(used)
    }
    const wrong = [
      ...used.flatMap((session, index) => told(session.exit(), { ...schedule, path: [] }, schedule.parts[index]!)),
      // what stood behind nothing from the beginning is released by a beat
      ...(await lookNow(db)).filter((one) =>
        !(startsStranded(schedule.place) && one.startsWith("waits behind nothing"))
      )
    ]
    // whoever is left drains what is left
    await db.query(`
      update sluice.chunk_queue set lease_until = now() - interval '1 second' where lease_token is not null;
      update sluice.chunk_queue set state = 'ready', parked_for = null where state = 'parked';
      update sluice.subscription set lease_until = null, lease_token = null, due_at = now()`)
    await beside.runPromise(beat)
    for (let n = 0; n < 20 && await beside.runPromise(drain); n++);
    await beside.runPromise(beat)
    await tellAll()
    return { widths, trace, wrong: [...new Set([...wrong, ...await lookAtEnd(db)])] }
  }

  return {
    run: (schedule: Schedule) => runWith(schedule, (_, step) => schedule.path[step] ?? 0),
    runWith,
    close: async () => {
      for (const session of sessions) await session.close()
      await beside.dispose()
      await db.end()
      await watcher.end()
      await cluster.remove()
    }
  }
}

/** Sessions, opened. */
export type Sessions = Awaited<ReturnType<typeof open>>

/** The path after one, in the order in which all of them are gone; none after the last. */
const nextPath = (path: ReadonlyArray<number>, widths: ReadonlyArray<number>): ReadonlyArray<number> | undefined => {
  const full = widths.map((_, step) => path[step] ?? 0)
  let step = full.length - 1
  while (step >= 0 && full[step]! + 1 >= widths[step]!) step--
  return step < 0 ? undefined : [...full.slice(0, step), full[step]! + 1]
}

/** All schedules of some sessions in a place, as many as there are, or as are asked for. */
export const everySchedule = async function*(
  sessions: Sessions,
  place: string,
  parts: ReadonlyArray<Part>,
  most: number
): AsyncGenerator<readonly [Schedule, Outcome]> {
  let path: ReadonlyArray<number> | undefined = []
  for (let count = 0; count < most && path !== undefined; count++) {
    const schedule: Schedule = { place, parts, path }
    const outcome = await sessions.run(schedule)
    yield [schedule, outcome]
    path = nextPath(path, outcome.widths)
  }
}

/** A schedule as one line, and back. */
export const printSchedule = ({ breaks, parts, path, place }: Schedule): string =>
  [
    place,
    parts.map(printPart).join(" | "),
    path.join(","),
    ...breaks === undefined ? [] : [`${breaks.move} ${breaks.step}`]
  ]
    .join(" / ")

/** A schedule, from its line. */
export const parseSchedule = (line: string): Schedule => {
  const [place = "", parts = "", path = "", breaks] = line.split(" / ")
  const [, move, step] = /^(break before|break after) (\d+)$/.exec(breaks ?? "") ?? []
  return {
    place,
    parts: parts.split(" | ").map(parsePart),
    path: path === "" ? [] : path.split(",").map(Number),
    breaks: move === "break before" || move === "break after" ? { step: Number(step), move } : undefined
  }
}
