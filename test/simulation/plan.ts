/**
 * What one simulation is about: calls to record, and for each chunk what its handler will do, so that what must become
 * of it can be said beforehand.
 */
import { Output, ServiceCall } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import { refused } from "./rows.ts"

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
/** A kind whose handler is declared: the store makes a row of each item. */
export class Listed extends Output.make("schemas.clinic.ward.listed-note", {
  version: 2,
  schema: Schema.Struct({ items: Schema.Array(Schema.Struct({ text: Schema.String })) }),
  upcasts: {
    1: Output.upcast(
      Schema.Struct({ lines: Schema.Array(Schema.String) }),
      ({ lines }) => ({ items: lines.map((text) => ({ text })) })
    )
  }
}) {}
/** The same, as old programs know it. */
export class OldListed extends Output.make("schemas.clinic.ward.listed-note", {
  version: 1,
  schema: Schema.Struct({ lines: Schema.Array(Schema.String) })
}) {}
/**
 * A declared kind that only some workers serve, of one row. Whose it is stands in the context of its call. Paused for a
 * while.
 */
export class Card extends Output.make("schemas.clinic.ward.card-note", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String })
}) {}
/** A kind that nobody serves. */
export class Unserved extends Output.make("schemas.clinic.ward.unserved-note", { version: 1, schema: Note }) {}

/**
 * What a simulation has: handlers that are programs, or such beside declared ones, with calls that are recorded and
 * persisted in one commit, pauses, and workers that run two batches. The first stays as it is, so that the seeds that find
 * its bugs stay those they are.
 */
export type World = "programs" | "mixed"

type PlannedKind =
  | typeof Plain
  | typeof Batched
  | typeof Rare
  | typeof Scoped
  | typeof Unserved
  | typeof Listed
  | typeof Card

const programs: ReadonlyArray<PlannedKind> = [Plain, Plain, Plain, Batched, Rare, Scoped, Scoped, Unserved]
/** The kinds of a plan: handlers that are programs, both, or mostly those that are declared. */
const mixtures: ReadonlyArray<ReadonlyArray<PlannedKind>> = [
  programs,
  [...programs, Listed, Listed, Listed, Card],
  [Plain, Rare, Listed, Listed, Listed, Card, Card, Card]
]

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
  /** Recorded by `recordNow`, if not by `run`. */
  readonly isNow: boolean
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

/**
 * What a handler of the kind does with its connection. Few say whose rows they write: those share no transaction from then
 * on.
 */
const usesOf = (kind: PlannedKind) =>
  Effect.map(below(4), (drawn): Note["uses"] => {
    if (kind === Scoped) return drawn < 2 ? "setting" : "savepoint"
    return kind === Plain && drawn === 0 ? "savepoint" : "nothing"
  })

/** What a store does with a declared handler's answer: it makes the rows, or the table refuses one of them. */
const declaredOf = (kind: PlannedKind, { fate, rows }: Note, hasWard: boolean): Note => {
  const isRefused = fate === "exhausts" || fate === "rejects"
  const least = isRefused ? 1 : 0
  return {
    fate: kind === Card && !hasWard ? "rejects" : isRefused ? "exhausts" : "creates",
    times: 0,
    rows: kind === Card ? 1 : Math.max(least, rows),
    writesFirst: true,
    uses: "nothing",
    millis: 0
  }
}

/** The answer of a declared kind, as its schema encodes it, or as somebody writes it who does without. */
const answerOf = Effect.fnUntraced(function*(kind: typeof Listed | typeof Card, { fate, rows }: Note) {
  const texts = Array.from(
    { length: rows },
    (_, index) => fate === "exhausts" && index === rows - 1 ? refused : `${index}`
  )
  const isOld = yield* oneIn(3)
  const encoded = kind === Card
    ? Card.encode({ text: texts[0] ?? "" })
    : isOld
    ? OldListed.encode({ lines: texts })
    : Listed.encode({ items: texts.map((text) => ({ text })) })
  const output = yield* Effect.orDie(encoded)
  return (yield* oneIn(6)) ? structuredClone(output) : output
})

/** What the plan says of all chunks of a call. */
interface Shared {
  readonly callId: string
  readonly orderingKey: string | undefined
  /** Whether the call's context has a ward. */
  readonly hasWard: boolean
}

const planOutput = Effect.fnUntraced(function*(
  kinds: ReadonlyArray<PlannedKind>,
  { callId, hasWard, orderingKey }: Shared,
  part: string
) {
  const kind = yield* pick(kinds)
  const isDeclared = kind === Listed || kind === Card
  const drawn: Note = {
    fate: yield* pick(fates),
    times: 1 + (yield* below(2)),
    rows: yield* below(3),
    writesFirst: yield* Random.nextBoolean,
    uses: yield* usesOf(kind),
    // a claim of a few of them takes longer than a lease, and none longer than a handler may; a batch is one run
    millis: (yield* oneIn(3)) ? yield* below(kind === Batched ? 400 : 1000) : 0
  }
  const note = isDeclared ? declaredOf(kind, drawn, hasWard) : drawn
  const decodes = !(yield* oneIn(12))
  const once = decodes && kind !== Unserved && kind !== Card && note.uses !== "setting" && note.fate === "creates" &&
    orderingKey === undefined && (yield* oneIn(4))
  const planned: Planned = { callId, schema: kind.identity, orderingKey, note: decodes ? note : undefined, once }
  // programs that record are deployed before those that drain: not drawn, so that every seed draws what it always drew
  const version = kind === Listed || (kind === Plain && note.rows === 1) ? 2 : 1
  if (isDeclared && decodes) return { planned, output: { ...(yield* answerOf(kind, note)), part } }
  return { planned, output: { schema: kind.identity, version, part, data: decodes ? { ...note } : { fate: "?" } } }
})

const planCall = Effect.fnUntraced(function*(world: World, kinds: ReadonlyArray<PlannedKind>, number: number) {
  const callId = `call-${number}`
  const orderingKey = (yield* oneIn(2)) ? yield* pick(["bed-1", "bed-2"]) : undefined
  const hasWard = world === "mixed" && !(yield* oneIn(8))
  const shared: Shared = { callId, orderingKey, hasWard }
  const first = yield* planOutput(kinds, shared, "")
  const second = (yield* oneIn(5)) ? [yield* planOutput(kinds, shared, "second")] : []
  const outputs = [first, ...second]
  const call: ServiceCall.ServiceCall = {
    callId,
    namespace: "clinic",
    service: "services.clinic.ward.take-notes",
    ...(hasWard ? { context: { ward: callId } } : {}),
    outputs: outputs.map(({ output }) => output),
    ...(orderingKey === undefined ? {} : { orderingKey }),
    ...((yield* oneIn(4)) ? { priority: yield* below(5) } : {})
  }
  return {
    call,
    chunks: outputs.map(({ planned }) => planned),
    after: (yield* oneIn(3)) ? yield* below(2000) : 0,
    runs: (yield* oneIn(4)) ? yield* below(1500) : undefined,
    // until its handlers have run it is not recorded: one that takes its process down each time would never be
    isNow: world === "mixed" && (yield* oneIn(orderingKey === undefined ? 2 : 5)) &&
      outputs.every(({ planned }) => planned.note?.fate !== "kills")
  }
})

/** The plan that the surrounding `Random` draws. */
export const plan = (world: World): Effect.Effect<ReadonlyArray<PlannedCall>> =>
  Effect.flatMap(
    Effect.map(below(12), (more) => 3 + more),
    (count) => {
      const all = (kinds: ReadonlyArray<PlannedKind>) =>
        Effect.forEach(Array.from({ length: count }, (_, index) => index), (number) => planCall(world, kinds, number))
      return world === "mixed" ? Effect.flatMap(pick(mixtures), all) : all(programs)
    }
  )
