/**
 * The log lines of a claim: one for each outcome that an operator may have to act on, none for what went well. Of an error
 * they hold the tag, the SQLSTATE with table and column, and the innermost message, without what it repeats of the recorded
 * call: the whole error is kept with the chunk, for `sluice show` and `DeadLetters`. Ids and messages are escaped, because
 * the program's logger may print them as they are.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Settlement } from "../../ChunkStore.ts"
import { type Gist, gistOf } from "../../internal/describe.ts"
import { escape, escapeProse } from "../../internal/escape.ts"
import { type OutcomeName, outcomeWords } from "../../internal/outcomeWords.ts"
import { redact } from "../../internal/redact.ts"
import { type Redact, redactedText, Redaction } from "../../Redaction.ts"
import { nameOf, type Outcome, type Outcomes } from "../Outcome.ts"

type Settled = Outcome & { readonly _tag: "Settled" }

type Annotations = Readonly<Record<string, unknown>>
type Parked = Extract<Settlement, { readonly _tag: "Park" }>

const annotationsOf = ({ chunk, ...settlement }: Settlement): Annotations => ({
  "sluice.call_id": escape(chunk.key.callId),
  "sluice.namespace": chunk.namespace,
  "sluice.schema": chunk.key.schemaIdentity,
  ...(chunk.key.part === "" ? {} : { "sluice.part": escape(chunk.key.part) }),
  ...("failure" in settlement
    ? { "sluice.handler": settlement.failure.handler, "sluice.failure": settlement.failure.kind }
    : {})
})

/** What an error says, without what was recorded. */
const errorOf = ({ cause, settlement }: Settled, hide: Redact): Annotations => {
  if (!("failure" in settlement)) return {}
  const { chunk: { call, key, orderingKey, payload }, failure } = settlement
  const gist: Gist = (cause === undefined ? undefined : gistOf(cause)) ??
    { tag: failure.kind, sqlstate: undefined, message: failure.message }
  const data = "data" in payload ? payload.data : undefined
  const quoteless = redact(gist.message, [data, call.input, call.context, orderingKey, key.part], gist.sqlstate)
  const message = quoteless === "" ? "" : redactedText(hide, quoteless)
  return {
    "sluice.error": escape(gist.tag),
    ...(gist.sqlstate === undefined ? {} : { "sluice.sqlstate": gist.sqlstate }),
    ...(gist.table === undefined ? {} : { "sluice.table": escape(gist.table) }),
    ...(gist.column === undefined ? {} : { "sluice.column": escape(gist.column) }),
    ...(message === "" ? {} : { "sluice.message": escapeProse(message) })
  }
}

/** What is logged of a settlement besides its chunk. */
const detailsOf = (settlement: Settlement): Annotations =>
  settlement._tag === "Bury"
    ? { "sluice.reason": settlement.reason }
    : settlement._tag === "Retry"
    ? {
      "sluice.attempt": settlement.chunk.attempts + 1,
      "sluice.delay": Duration.format(Duration.millis(Math.round(Duration.toMillis(settlement.delay))))
    }
    : {}

/** Writes the line of an outcome, if it has one. */
const write = (outcome: OutcomeName, annotations: Annotations) => {
  const { log } = outcomeWords[outcome]
  return log === undefined ? Effect.void : Effect.annotateLogs(Effect.logWithLevel(log.level)(log.message), annotations)
}

/** The most kinds that are logged separately. Callers that record can invent kinds, so their number is unlimited. */
const mostKinds = 20

/**
 * Counts the parked chunks of a kind since it was first logged. The count starts again after this time without one, in
 * milliseconds.
 */
const quiet = Duration.toMillis(Duration.minutes(10))
interface Spell {
  chunks: number
  logged: number
  last: number
}

/** Why a kind's handler cannot run here, if that is so. The log says it in place of `no-handler`. */
type WhyUnfit = (namespace: string, schemaIdentity: string) => string | undefined

const kindAnnotations = ({ chunk: { key, namespace }, reason }: Parked, why: WhyUnfit): Annotations => ({
  "sluice.namespace": namespace,
  "sluice.schema": key.schemaIdentity,
  "sluice.reason": (reason === "no-handler" ? why(namespace, key.schemaIdentity) : undefined) ?? reason
})

/** All kinds beyond {@link mostKinds}. */
const others: Annotations = { "sluice.kinds": "others: see `sluice status`" }

/**
 * Logs parked chunks by kind: when the first is parked, and each time their number has doubled. A backlog without a
 * handler is logged as one event, not once per claim. Returns the annotations to be logged now.
 */
const makeParking = (why: WhyUnfit) => {
  const spells = new Map<string, Spell>()
  const rest: Spell = { chunks: 0, logged: 0, last: 0 }

  const spellOf = (name: string): Spell => {
    const known = spells.get(name)
    if (known !== undefined) return known
    if (spells.size >= mostKinds) return rest
    const made: Spell = { chunks: 0, logged: 0, last: 0 }
    spells.set(name, made)
    return made
  }

  return (parked: ReadonlyArray<Parked>, now: number): ReadonlyArray<Annotations> => {
    for (const [name, spell] of spells) if (now - spell.last >= quiet) spells.delete(name)
    if (now - rest.last >= quiet) rest.chunks = rest.logged = 0
    const met = new Map<Spell, Annotations>()
    for (const settlement of parked) {
      const kind = kindAnnotations(settlement, why)
      const spell = spellOf(Object.values(kind).join("/"))
      spell.chunks++
      spell.last = now
      met.set(spell, spell === rest ? others : kind)
    }
    return [...met].filter(([spell]) => spell.chunks >= 2 * spell.logged).map(([spell, kind]) => {
      spell.logged = spell.chunks
      return { ...kind, "sluice.chunks": spell.chunks }
    })
  }
}

/** Makes the log of one drain, which is called once for each claim. */
export const makeClaimLog = (why: WhyUnfit) => {
  const parking = makeParking(why)
  return Effect.fnUntraced(function*(outcomes: Outcomes) {
    const hide = yield* Redaction
    const parked: Array<Parked> = []
    let lost = 0
    for (const outcome of outcomes.values()) {
      if (outcome._tag === "Lost") lost++
      if (outcome._tag !== "Settled") continue
      const { settlement } = outcome
      if (settlement._tag === "Park") parked.push(settlement)
      else {yield* write(nameOf(outcome), {
          ...annotationsOf(settlement),
          ...errorOf(outcome, hide),
          ...detailsOf(settlement)
        })}
    }
    for (const kind of parking(parked, yield* Clock.currentTimeMillis)) yield* write("parked", kind)
    if (lost > 0) yield* write("lost", { "sluice.chunks": lost })
  })
}

/** Logs one claim. */
export type ClaimLog = ReturnType<typeof makeClaimLog>
