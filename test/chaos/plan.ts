/**
 * What a storm is made of, all of it drawn from the seed before anything happens: which fault, whom it hits, when, for how
 * long; and, call by call, what is recorded. The same seed plans the same storm.
 */
import type { ServiceCall } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { Chart, Entry, type Fate, maxAttempts, Memo, Note, OldChart, refused } from "./ward.ts"

/** The kinds of faults that are done to workers and to the server, and how many milliseconds each lasts. */
export const kinds = {
  "worker killed": [0, 0],
  "worker told to stop": [0, 0],
  // between the two
  "worker told twice to stop": [2, 20],
  // a lease is two seconds
  "worker frozen beyond its lease": [2500, 5000],
  "server crashed and restarted": [0, 0],
  "sessions terminated": [0, 0],
  "connections exhausted": [500, 1500],
  "snapshot held": [3000, 5000],
  "rows locked by somebody else": [1500, 3000],
  "connections silent": [0, 0],
  "address leads to a standby": [1000, 3000],
  "declared kinds paused": [500, 2000]
} as const
/** A kind of fault. */
export type Kind = keyof typeof kinds

const names = Object.keys(kinds) as ReadonlyArray<Kind>

/** A fault of the plan. */
export interface Planned {
  /** Milliseconds after the beginning. */
  readonly at: number
  readonly kind: Kind
  /** Which worker, for those that hit one. */
  readonly worker: number
  readonly millis: number
}

const below = (limit: number) => Random.nextIntBetween(0, limit, { halfOpen: true })
const pick = <A>(from: ReadonlyArray<A>) => Effect.map(below(from.length), (index) => from[index]!)

/**
 * The faults of a storm, in their order: each kind once and then, if there is time, again at random. They begin two a
 * second or so, whether or not the one before is over.
 */
export const planFaults = (seed: number, seconds: number, workers: number): ReadonlyArray<Planned> =>
  Effect.runSync(
    Effect.gen(function*() {
      const faults: Array<Planned> = []
      const first = yield* Random.shuffle(names)
      const step = Math.min(1500, seconds * 1000 / (names.length + 1))
      let at = 0
      while (true) {
        at += yield* Random.nextIntBetween(Math.floor(step / 4), Math.floor(step))
        const kind = first.pop() ?? (yield* pick(names))
        if (at > seconds * 1000) return faults
        const [least, most] = kinds[kind]
        faults.push({ at, kind, worker: yield* below(workers), millis: yield* Random.nextIntBetween(least, most) })
      }
    }).pipe(Random.withSeed(`${seed} faults`))
  )

/**
 * What a recorded chunk is: a note of some fate, a memo, a chart or an entry that ends well or is refused, or one that
 * nobody can make sense of.
 */
export type ChunkFate =
  | Fate
  | "undecodable"
  | "unserved"
  | "memo"
  | "memo fails"
  | "declared"
  | "refused"
  | "lacks its ward"

/** A chunk of a call, and what must become of it. */
export interface Expected {
  readonly part: string
  readonly fate: ChunkFate
  readonly rows: number
  readonly failures: number
}

/** A call, with its chunks. */
export interface PlannedCall {
  readonly call: ServiceCall.ServiceCall
  readonly chunks: ReadonlyArray<Expected>
}

// the first calls are of all fates, so that each happens in the shortest storm
const opening: ReadonlyArray<ChunkFate> = [
  "creates",
  "fails",
  "throws",
  "hangs",
  "slow",
  "exhausts",
  "rejects",
  "kills",
  "undecodable",
  "unserved",
  "memo",
  "memo fails",
  "declared",
  "refused",
  "declared",
  "lacks its ward"
]

const drawFate = Effect.map(below(1000), (drawn): ChunkFate =>
  drawn < 1
    ? "kills"
    : drawn < 12
    ? "undecodable"
    : drawn < 25
    ? "unserved"
    : drawn < 35
    ? "exhausts"
    : drawn < 45
    ? "rejects"
    : drawn < 47
    ? "hangs"
    : drawn < 50
    ? "slow"
    : drawn < 70
    ? "throws"
    : drawn < 100
    ? "fails"
    : drawn < 180
    ? "memo"
    : drawn < 190
    ? "memo fails"
    : drawn < 580
    ? "declared"
    : drawn < 584
    ? "refused"
    : drawn < 594
    ? "lacks its ward"
    : "creates")

const failuresOf = (fate: ChunkFate, times: number): number => {
  if (fate === "fails" || fate === "throws" || fate === "hangs") return times
  if (fate === "exhausts" || fate === "refused") return maxAttempts
  return ["rejects", "undecodable", "memo fails", "lacks its ward"].includes(fate) ? 1 : 0
}

/**
 * Ends well for certain: nothing else may hold an ordering key. Nor is it certain of a slow one, see the checker's unlucky.
 */
const endsWell: ReadonlyArray<ChunkFate> = ["creates", "fails", "throws", "memo", "memo fails", "declared"]

/**
 * What is recorded of a chart or an entry: as its schema encodes it, at an older version, or as somebody writes it by hand.
 */
const declaredOutput = Effect.fnUntraced(function*(fate: ChunkFate, rows: number) {
  const texts = Array.from(
    { length: rows },
    (_, index) => fate === "refused" && index === rows - 1 ? refused : `${index + 1}`
  )
  const way = yield* below(10)
  if (fate === "lacks its ward" || (rows === 1 && way < 5)) return yield* Entry.encode({ text: texts[0]! })
  if (way < 2) return yield* OldChart.encode({ texts })
  const chart = yield* Chart.encode({ lines: texts.map((text) => ({ text })) })
  return way === 2 ? structuredClone(chart) : chart
})

const planOutput = Effect.fnUntraced(function*(fate: ChunkFate, part: string) {
  const times = fate === "hangs" ? 1 : 1 + (yield* below(2))
  const drawn = yield* below(3)
  const writesFirst = (yield* below(2)) === 0
  const isOne = fate === "memo" || fate === "memo fails" || fate === "lacks its ward"
  const rows = isOne || fate === "refused" ? Math.max(1, isOne ? 1 : drawn) : drawn
  const chunk: Expected = { part, fate, rows, failures: failuresOf(fate, times) }
  if (fate === "declared" || fate === "refused" || fate === "lacks its ward") {
    return { chunk, output: { ...(yield* Effect.orDie(declaredOutput(fate, rows))), part } }
  }
  if (fate === "memo" || fate === "memo fails") {
    return { chunk, output: { ...(yield* Effect.orDie(Memo.encode({ fails: fate === "memo fails" }))), part } }
  }
  const data = fate === "undecodable"
    ? { fate: "?" }
    : { fate: fate === "unserved" ? "creates" : fate, times, rows, writesFirst }
  const schema = fate === "unserved" ? "schemas.clinic.ward.unserved" : Note.identity
  return { chunk, output: { schema, version: 1, part, data } }
})

/** An entry that the store can persist while it records it. */
const plainEntry = Effect.map(Effect.orDie(Entry.encode({ text: "1" })), (output) => {
  const chunk: Expected = { part: "", fate: "declared", rows: 1, failures: 0 }
  return { chunk, output }
})

/** Who records a call. */
export interface Recorder {
  /** A part of the names of its calls and ordering keys. */
  readonly of: string
  /** Whether it records them in their order, so that they may have ordering keys. */
  readonly isInOrder: boolean
}

const first: Recorder = { of: "", isInOrder: true }

/** The call of a place, from 1. */
export const planCall = (seed: number, place: number, { isInOrder, of } = first): PlannedCall =>
  Effect.runSync(
    Effect.gen(function*() {
      const drawn = yield* drawFate
      const isFirst = of === first.of
      const isPlain = !isFirst && place % 3 === 0
      const fate = isPlain ? "declared" : (isFirst ? opening[place - 1] : undefined) ?? drawn
      const one = isPlain ? yield* plainEntry : yield* planOutput(fate, "")
      // a second answer, so that a call's chunks can part
      const hasSecond = (yield* below(8)) === 0 && !isPlain && fate !== "lacks its ward"
      const second = hasSecond ? [yield* planOutput("declared", "second")] : []
      const outputs = [one, ...second]
      const isKeyed = (yield* below(2)) === 0 && isInOrder && !isPlain &&
        outputs.every(({ chunk }) => endsWell.includes(chunk.fate))
      const bed = yield* below(10)
      const isUrgent = (yield* below(8)) === 0
      const call: ServiceCall.ServiceCall = {
        callId: `call-${of}${place}`,
        namespace: "clinic",
        service: "services.clinic.ward.take-notes",
        context: fate === "lacks its ward" ? {} : { ward: "east" },
        ...(isKeyed ? { orderingKey: `bed-${of}${bed}` } : {}),
        ...(isUrgent ? { priority: 3 } : {}),
        outputs: outputs.map(({ output }) => output)
      }
      return { call, chunks: outputs.map(({ chunk }) => chunk) }
    }).pipe(Random.withSeed(`${seed} call ${of}${place}`))
  )
