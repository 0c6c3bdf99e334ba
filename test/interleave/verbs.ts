/**
 * The verbs of the ports, as programs that sessions run beside each other. What claims does with its claim what a drain
 * does, also when the store fails.
 */
import { ChunkStore } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import {
  beat,
  bury,
  claiming,
  first,
  lease,
  once,
  park,
  persist,
  persistInside,
  persistOneInside,
  release,
  retry,
  settle,
  untilDone
} from "./draining.ts"
import * as operating from "./operating.ts"
import { type Held, names, type State, statesOf } from "./place.ts"
import * as recording from "./recording.ts"
import type { Program } from "./session.ts"
import * as subscribing from "./subscribing.ts"

/** A verb, and what is to be known of it. */
export interface Verb {
  readonly program: (held: Held | undefined) => Program
  /** Whether there is something for it to do. */
  readonly fits?: (states: ReadonlyArray<State>) => boolean
  /** Whether it is the holder's of the claim that is there from the beginning: one at a time, but for renewals. */
  readonly holder?: "ends" | "renews"
  /** Whether applications may call it in a transaction of their own. */
  readonly joins?: boolean
  /** What its store learns once: run before a schedule, whose statements are then the same each time. */
  readonly learns?: Program
}

const held = (end: (held: Held) => Program): Verb => ({
  program: (it) => it === undefined ? Effect.void : end(it),
  fits: (states) => states.some((state) => state === "leased" || state === "expired"),
  holder: "ends"
})

const isThere = (id: string) => (states: ReadonlyArray<State>): boolean => names.indexOf(id) < states.length
const isDead = (states: ReadonlyArray<State>): boolean => states.includes("dead")
const isFirstDead = (states: ReadonlyArray<State>): boolean => states[0] === "dead"

/** A verb that may be called anywhere. */
const plain = (program: Program): Verb => ({ program: () => program })
/** A verb that may also be called in a transaction of the application's. */
const joining = (program: Program, fits: (states: ReadonlyArray<State>) => boolean = () => true): Verb => ({
  program: () => program,
  fits,
  joins: true
})

/** All verbs, by name. */
export const verbs: Readonly<Record<string, Verb>> = {
  "claim, persist": plain(claiming(persist)),
  "claim one, persist": plain(claiming(persist, { limit: 1 })),
  "persist inside": { program: () => persistInside, learns: persistInside },
  "persist one inside": { program: () => persistOneInside, learns: persistOneInside },
  "claim, release": plain(claiming(({ chunks, token }) => untilDone(settle(token, chunks, release)))),
  "claim, retry": plain(claiming(first(retry))),
  "claim, bury": plain(claiming(first(bury))),
  "claim, park": plain(claiming(first(park))),
  "persist b now": joining(claiming(persist, { callId: "b" }), isThere("b")),
  "held: persist": held(persist),
  "held: release": held(({ chunks, token }) => settle(token, chunks, release)),
  "held: retry": held(({ chunks, token }) => settle(token, chunks, retry)),
  "held: bury": held(({ chunks, token }) => settle(token, chunks, bury)),
  "held: park": held(({ chunks, token }) => settle(token, chunks, park)),
  "held: give up": held(({ token }) => ChunkStore.ChunkStore.use((store) => store.giveUp(token))),
  "held: renew": {
    ...held(({ chunks, token }) => ChunkStore.ChunkStore.use((store) => store.renew(token, chunks, lease))),
    holder: "renews"
  },
  "once a": joining(once("a"), isThere("a")),
  "once b": joining(once("b"), isThere("b")),
  "once c": joining(once("c"), isThere("c")),
  "once e": joining(once("e")),
  "record e": joining(recording.record("e")),
  "record g, e, f": joining(recording.record("g", "e", "f")),
  "record e, g in a group": plain(recording.recordGrouped("f", "e", "g")),
  "record f now": joining(recording.recordNow("f")),
  "record f inside": { program: () => recording.recordInside("f"), joins: true, learns: persistInside },
  "record e held": plain(recording.recordHeld("e")),
  "run e": plain(recording.run("e", "answered")),
  "run e, given up": plain(recording.run("e", "given up")),
  "run e, invalid": plain(recording.run("e", "invalid")),
  "run i": plain(recording.run("i", "answered")),
  "decode i": plain(recording.decode("i")),
  "discard a": joining(operating.discard({ callId: "a" }), isFirstDead),
  "discard all": joining(operating.discard({}), isDead),
  "redrive a": joining(operating.redrive({ callId: "a" }), isFirstDead),
  "redrive all": joining(operating.redrive({}), isDead),
  "repair a": { program: () => operating.repair(true), fits: isFirstDead },
  "repair a, in vain": { program: () => operating.repair(false), fits: isFirstDead },
  "beat": plain(beat),
  "mend": plain(operating.mend),
  "pause": { program: () => operating.pause, fits: (states) => states.includes("parked") },
  "pause, resume": plain(operating.pauseAndResume),
  "prune": plain(operating.prune),
  "erase a": joining(operating.eraseCall("a")),
  // which another session may be recording or running
  "erase e": joining(operating.eraseCall("e")),
  "erase i": joining(operating.eraseCall("i")),
  "erase all": joining(operating.eraseAll),
  "erase others": joining(operating.eraseOthers),
  "subscribe": plain(subscribing.subscribe("objects")),
  "subscribe to ends": plain(subscribing.subscribe("calls")),
  "skip": plain(subscribing.skip("free")),
  "reset": plain(subscribing.reset),
  "remove": plain(subscribing.remove),
  "rebase": plain(operating.rebase),
  // time passes for whoever is not in the middle of something
  "leases end": plain(Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql`
        update sluice.chunk_queue set lease_until = now() - interval '1 second'
        where seq in (select seq from sluice.chunk_queue where lease_token is not null for update skip locked)`))
}

/** The levels of isolation an application's transaction may have. */
export const levels = ["read committed", "repeatable read", "serializable"] as const
export type Level = typeof levels[number]

/** A verb in a transaction of the application's, that has looked at its tables before, and writes afterwards. */
export const inTransaction = (level: Level, program: Program): Program =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql.withTransaction(Effect.gen(function*() {
      yield* sql.unsafe(`set transaction isolation level ${level}`)
      yield* sql`select count(*) from visit`
      yield* program
      yield* sql`insert into visit default values`
    })))

/** One of these programs is what each session runs. */
export interface Part {
  readonly verb: string
  readonly level?: Level
}

/** How a part is called. */
export const printPart = ({ level, verb }: Part): string => level === undefined ? verb : `${verb} (${level})`

/** A part, from what it is called. */
export const parsePart = (text: string): Part => {
  const [, verb = text, level] = /^(.*) \((.*)\)$/.exec(text) ?? []
  return levels.some((one) => one === level) ? { verb, level: level as Level } : { verb }
}

/** The program of a part. */
export const programOf = ({ level, verb }: Part, it: Held | undefined): Program => {
  const found = verbs[verb]
  if (found === undefined) throw new Error(`no such verb: ${verb}. There are: ${Object.keys(verbs).join("; ")}`)
  const program = found.program(it)
  return level === undefined ? program : inTransaction(level, program)
}

/** Whether sessions with these parts can be side by side in a place. */
export const fit = (place: string, parts: ReadonlyArray<Part>): boolean => {
  const states = statesOf(place)
  const all = parts.map(({ verb }) => verbs[verb])
  return all.every((verb) => verb?.fits?.(states) ?? true) &&
    all.filter((verb) => verb?.holder === "ends").length < 2 &&
    parts.every(({ level }, index) => level === undefined || all[index]?.joins === true)
}
