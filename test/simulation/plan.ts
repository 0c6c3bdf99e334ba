/**
 * What one simulation is about: calls to record, and for each chunk what its handler will do, so that what must become
 * of it can be said beforehand.
 */
import { Output, ServiceCall } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"

/** What a chunk's handler does, and so what becomes of the chunk. */
export const Fate = Schema.Literals([
  /** Creates `rows` rows. */
  "creates",
  /** Fails its first `times` attempts, then creates. */
  "fails",
  /** The same, as a bug: it throws. */
  "throws",
  /** The same, by never coming back. */
  "hangs",
  /** Fails for ever. */
  "exhausts",
  /** Says that trying again cannot help. */
  "rejects",
  /** Takes its worker down whenever it runs. */
  "kills"
])
/** What a chunk's handler does. */
export type Fate = typeof Fate.Type

const Note = Schema.Struct({
  fate: Fate,
  times: Schema.Int,
  rows: Schema.Int,
  /** Whether it writes its rows before it does anything else. */
  writesFirst: Schema.Boolean,
  /** What it does with its connection besides: see `session.ts`. */
  uses: Schema.Literals(["nothing", "savepoint", "setting"]),
  /** How long it takes. */
  millis: Schema.Int
})
/** What stands in a chunk. */
export type Note = typeof Note.Type

/** The kind every worker serves, old ones at version 1 only. */
export class Plain extends Output.make("schemas.clinic.ward.plain-note", {
  version: 2,
  schema: Note,
  upcasts: { 1: Output.upcast(Schema.Json, (note) => note) }
}) {}
/** The same, as old programs know it. */
export class OldPlain extends Output.make("schemas.clinic.ward.plain-note", { version: 1, schema: Note }) {}
/** A kind with a handler that wants its batch at once. */
export class Batched extends Output.make("schemas.clinic.ward.batched-note", { version: 1, schema: Note }) {}
/** A kind that only some workers serve: there are old and new ones side by side. */
export class Rare extends Output.make("schemas.clinic.ward.rare-note", { version: 1, schema: Note }) {}
/** A kind whose handler says whose rows it writes, by a setting, or tries something in a savepoint. */
export class Scoped extends Output.make("schemas.clinic.ward.scoped-note", { version: 1, schema: Note }) {}
/** A kind that nobody serves. */
export class Unserved extends Output.make("schemas.clinic.ward.unserved-note", { version: 1, schema: Note }) {}

const kinds = [Plain, Plain, Plain, Batched, Rare, Scoped, Scoped, Unserved] as const

/** A chunk of the plan. */
export interface Planned {
  readonly callId: string
  readonly schema: string
  readonly orderingKey: string | undefined
  /** Undefined when what is recorded does not decode. */
  readonly note: Note | undefined
  /** Whether a program beside the drain persists it as well, by `ChunkLedger.once`. */
  readonly once: boolean
}

/** A call of the plan. */
export interface PlannedCall {
  readonly call: ServiceCall.ServiceCall
  readonly chunks: ReadonlyArray<Planned>
  /** Milliseconds after the one before. */
  readonly after: number
  /** Recorded by `run`, whose service takes so many milliseconds. */
  readonly runs: number | undefined
}

const fates: ReadonlyArray<Fate> = [
  "creates",
  "creates",
  "creates",
  "creates",
  "creates",
  "creates",
  "fails",
  "throws",
  "hangs",
  "exhausts",
  "rejects",
  "kills"
]

const below = (limit: number) => Random.nextIntBetween(0, limit, { halfOpen: true })
const pick = <A>(from: ReadonlyArray<A>) => Effect.map(below(from.length), (index) => from[index]!)
const oneIn = (n: number) => Effect.map(below(n), (drawn) => drawn === 0)

/** What a handler of the kind does with its connection. Few say whose rows they write: those share no transaction from then on. */
const usesOf = (kind: (typeof kinds)[number]) =>
  Effect.map(below(4), (drawn): Note["uses"] => {
    if (kind === Scoped) return drawn < 2 ? "setting" : "savepoint"
    return kind === Plain && drawn === 0 ? "savepoint" : "nothing"
  })

const planOutput = Effect.fnUntraced(function*(callId: string, orderingKey: string | undefined, part: string) {
  const kind = yield* pick(kinds)
  const note: Note = {
    fate: yield* pick(fates),
    times: 1 + (yield* below(2)),
    rows: yield* below(3),
    writesFirst: yield* Random.nextBoolean,
    uses: yield* usesOf(kind),
    // a claim of a few of them takes longer than a lease, and none longer than a handler may; a batch is one run
    millis: (yield* oneIn(3)) ? yield* below(kind === Batched ? 400 : 1000) : 0
  }
  const decodes = !(yield* oneIn(12))
  const once = decodes && kind !== Unserved && note.uses !== "setting" && note.fate === "creates" &&
    orderingKey === undefined && (yield* oneIn(4))
  const planned: Planned = { callId, schema: kind.identity, orderingKey, note: decodes ? note : undefined, once }
  // programs that record are deployed before those that drain: not drawn, so that every seed draws what it always drew
  const version = kind === Plain && note.rows === 1 ? 2 : 1
  return { planned, output: { schema: kind.identity, version, part, data: decodes ? { ...note } : { fate: "?" } } }
})

const planCall = Effect.fnUntraced(function*(number: number) {
  const callId = `call-${number}`
  const orderingKey = (yield* oneIn(2)) ? yield* pick(["bed-1", "bed-2"]) : undefined
  const first = yield* planOutput(callId, orderingKey, "")
  const second = (yield* oneIn(5)) ? [yield* planOutput(callId, orderingKey, "second")] : []
  const outputs = [first, ...second]
  const call: ServiceCall.ServiceCall = {
    callId,
    namespace: "clinic",
    service: "services.clinic.ward.take-notes",
    outputs: outputs.map(({ output }) => output),
    ...(orderingKey === undefined ? {} : { orderingKey }),
    ...((yield* oneIn(4)) ? { priority: yield* below(5) } : {})
  }
  return {
    call,
    chunks: outputs.map(({ planned }) => planned),
    after: (yield* oneIn(3)) ? yield* below(2000) : 0,
    runs: (yield* oneIn(4)) ? yield* below(1500) : undefined
  }
})

/** The plan that the surrounding `Random` draws. */
export const plan: Effect.Effect<ReadonlyArray<PlannedCall>> = Effect.flatMap(
  Effect.map(below(12), (more) => 3 + more),
  (count) => Effect.forEach(Array.from({ length: count }, (_, index) => index), planCall)
)
