/**
 * What a storm is made of, all of it drawn from the seed before anything happens: which fault, whom it hits, when, for how
 * long; and, call by call, what is recorded. The same seed plans the same storm.
 */
import type { ServiceCall } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { type Fate, maxAttempts, Note } from "./ward.ts"

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
  "address leads to a standby": [1000, 3000]
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

/** What a recorded chunk is: a note of some fate, or one that nobody can make sense of. */
export type ChunkFate = Fate | "undecodable" | "unserved"

/** A call, and what must become of it. */
export interface Expected {
  readonly call: ServiceCall.ServiceCall
  readonly fate: ChunkFate
  readonly rows: number
  readonly failures: number
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
  "unserved"
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
    : "creates")

const failuresOf = (fate: ChunkFate, times: number): number => {
  if (fate === "fails" || fate === "throws" || fate === "hangs") return times
  if (fate === "exhausts") return maxAttempts
  return fate === "rejects" || fate === "undecodable" ? 1 : 0
}

/** The call of a place, from 1, in the order of recording. */
export const planCall = (seed: number, place: number): Expected =>
  Effect.runSync(
    Effect.gen(function*() {
      const drawn = yield* drawFate
      const fate = opening[place - 1] ?? drawn
      const times = fate === "hangs" ? 1 : 1 + (yield* below(2))
      const rows = yield* below(3)
      const keyed = (yield* below(2)) === 0
      const bed = yield* below(10)
      // what does not end well would hold its key for good; nor is it certain of a slow one, see the checker's unlucky
      const ends = ["creates", "fails", "throws"].includes(fate)
      const data = fate === "undecodable"
        ? { fate: "?" }
        : { fate: fate === "unserved" ? "creates" : fate, times, rows, writesFirst: (yield* below(2)) === 0 }
      const call: ServiceCall.ServiceCall = {
        callId: `call-${place}`,
        namespace: "clinic",
        service: "services.clinic.ward.take-notes",
        ...(keyed && ends ? { orderingKey: `bed-${bed}` } : {}),
        outputs: [{ schema: fate === "unserved" ? "schemas.clinic.ward.unserved" : Note.identity, version: 1, data }]
      }
      return { call, fate, rows, failures: failuresOf(fate, times) }
    }).pipe(Random.withSeed(`${seed} call ${place}`))
  )
