/**
 * What the log is told of a claim: a line for each end that a person may want to know of, none for what went well.
 * Never the error's text, which may quote what was recorded: it stands with the chunk, for `DeadLetters` to show. Ids are
 * escaped: what the program's logger does with them is not known.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Settlement } from "../../ChunkStore.ts"
import { escape } from "../../internal/escape.ts"
import type { Outcomes } from "../Outcome.ts"

const annotations = ({ chunk, ...settlement }: Settlement) => ({
  "sluice.call_id": escape(chunk.key.callId),
  "sluice.namespace": chunk.namespace,
  "sluice.schema": chunk.key.schemaIdentity,
  ...(chunk.key.part === "" ? {} : { "sluice.part": escape(chunk.key.part) }),
  ...("failure" in settlement
    ? { "sluice.handler": settlement.failure.handler, "sluice.failure": settlement.failure.kind }
    : {})
})

/** The most kinds whose parking is told of one by one: of more there may be any number, for who records makes them up. */
const mostKinds = 20

/** What was parked of a kind since it was news. It is news again when nothing of it was parked for so long. */
interface Spell {
  chunks: number
  told: number
  last: number
}
const quiet = Duration.toMillis(Duration.minutes(10))

const kindOf = ({ chunk: { key, namespace }, reason }: Settlement & { readonly _tag: "Park" }) => ({
  "sluice.namespace": namespace,
  "sluice.schema": key.schemaIdentity,
  "sluice.reason": reason
})
type Kind = ReturnType<typeof kindOf>

/** All kinds beyond {@link mostKinds}. */
const others = { "sluice.kinds": "others: see `sluice status`" }

/**
 * What is parked is told of by kind, and of one kind when it begins and whenever as much again has come to it: a backlog
 * without a handler is one piece of news, not one a claim. Gives back what is news.
 */
const makeParking = () => {
  const spells = new Map<string, Spell>()
  const rest: Spell = { chunks: 0, told: 0, last: 0 }

  const spellOf = (name: string): Spell => {
    const known = spells.get(name)
    if (known !== undefined) return known
    if (spells.size >= mostKinds) return rest
    const made: Spell = { chunks: 0, told: 0, last: 0 }
    spells.set(name, made)
    return made
  }

  return (parked: ReadonlyArray<Settlement & { readonly _tag: "Park" }>, now: number) => {
    for (const [name, spell] of spells) if (now - spell.last >= quiet) spells.delete(name)
    if (now - rest.last >= quiet) rest.chunks = rest.told = 0
    const met = new Map<Spell, Kind | typeof others>()
    for (const settlement of parked) {
      const kind = kindOf(settlement)
      const spell = spellOf(Object.values(kind).join("/"))
      spell.chunks++
      spell.last = now
      met.set(spell, spell === rest ? others : kind)
    }
    return [...met].filter(([spell]) => spell.chunks >= 2 * spell.told).map(([spell, kind]) => {
      spell.told = spell.chunks
      return { ...kind, "sluice.chunks": spell.chunks }
    })
  }
}

/** Makes what logs the claims of one drain, one by one. */
export const makeClaimLog = () => {
  const parking = makeParking()
  return Effect.fnUntraced(function*(outcomes: Outcomes) {
    const settlements: Array<Settlement> = []
    let lost = 0
    for (const outcome of outcomes.values()) {
      if (outcome._tag === "Lost") lost++
      else if (outcome._tag === "Settled") settlements.push(outcome.settlement)
    }
    for (const settlement of settlements) {
      if (settlement._tag === "Bury") {
        yield* Effect.logWarning("a chunk is dead").pipe(
          Effect.annotateLogs({ ...annotations(settlement), "sluice.reason": settlement.reason })
        )
      } else if (settlement._tag === "Retry") {
        yield* Effect.logInfo("a chunk failed and will be tried again").pipe(
          Effect.annotateLogs({
            ...annotations(settlement),
            "sluice.attempt": settlement.chunk.attempts + 1,
            "sluice.delay": Duration.format(Duration.millis(Math.round(Duration.toMillis(settlement.delay))))
          })
        )
      }
    }
    const parked = settlements.filter((settlement) => settlement._tag === "Park")
    for (const news of parking(parked, yield* Clock.currentTimeMillis)) {
      yield* Effect.logInfo("chunks are parked").pipe(Effect.annotateLogs(news))
    }
    if (lost > 0) {
      yield* Effect.logWarning("chunks are another worker's by now: the lease ran out").pipe(
        Effect.annotateLogs("sluice.chunks", lost)
      )
    }
  })
}

/** Tells of one claim. */
export type ClaimLog = ReturnType<typeof makeClaimLog>
