/**
 * Sums and words for what the living workers report about their declared handlers: how many answers the store persisted
 * by itself, how many were claimed, and why.
 */
import * as Effect from "effect/Effect"
import { type InsideUse, Inspector, WhyClaimed, type WorkerView } from "../Inspector.ts"
import { escapeProse } from "../internal/escape.ts"
import * as Kind from "../Kind.ts"

const words: { readonly [Why in WhyClaimed]: string } = {
  off: "because SLUICE_DECLARED_INSIDE is false",
  inline: "by persistNow or recordNow",
  unable: "whose declaration the database cannot carry out by itself",
  retry: "tried before",
  key: "with an ordering key",
  version: "of another version",
  fingerprint: "not encoded by the present schema",
  refused: "from a batch that the database refused",
  other: "claimed along with others"
}

/** The sums of all living workers, by handler. */
export const sumUses = (workers: ReadonlyArray<WorkerView>): ReadonlyArray<InsideUse> => {
  const sums = new Map<string, InsideUse>()
  for (const use of workers.flatMap(({ alive, inside }) => alive ? inside : [])) {
    const sum = sums.get(use.handler)
    const claimed: Record<string, number> = { ...sum?.claimed }
    for (const [why, count] of Object.entries(use.claimed)) claimed[why] = (claimed[why] ?? 0) + count
    sums.set(use.handler, {
      handler: use.handler,
      inside: (sum?.inside ?? 0) + use.inside,
      claimed,
      refusal: sum?.refusal ?? use.refusal,
      unfit: sum?.unfit ?? use.unfit
    })
  }
  return [...sums.values()].sort((a, b) => (a.handler < b.handler ? -1 : 1))
}

/** How the answers of a handler were persisted, in words; empty if there were none. */
export const inWords = ({ claimed, inside, refusal, unfit }: InsideUse): ReadonlyArray<string> => {
  // in the order of `WhyClaimed`; a row that was edited manually may hold others
  const reasons = WhyClaimed.literals.flatMap((why) => {
    const count = claimed[why] ?? 0
    return count === 0 ? [] : [`${count} ${words[why]}`]
  })
  const count = Object.values(claimed).reduce((sum, one) => sum + one, 0)
  return [
    ...inside + count === 0
      ? []
      : [
        `${inside} persisted inside the database, ${count} by a worker${count === 0 ? "" : `: ${reasons.join(", ")}`}`
      ],
    ...unfit === null ? [] : [`its answers are parked: ${escapeProse(unfit)}`],
    ...refusal === null ? [] : [`the database refuses to persist its answers by itself: ${escapeProse(refusal)}`]
  ]
}

/** Why the handler of a kind cannot run, in words, if that is known. */
export type UnfitOf = (kind: Kind.Kind) => string | undefined

const unfitOf = (workers: ReadonlyArray<WorkerView>): UnfitOf => {
  const uses = new Map(sumUses(workers).map((use) => [use.handler, use]))
  return ({ namespace, schemaIdentity }) => {
    const name = schemaIdentity.slice(schemaIdentity.lastIndexOf(".") + 1)
    const found = [namespace, Kind.core].map((served) => uses.get(`${served}/${name}`))
      .find((use) => use !== undefined && use.unfit !== null)
    return found === undefined ? undefined : escapeProse(`handler ${found.handler} cannot run: ${found.unfit}`)
  }
}

/** The same for kinds of which a living worker reports that its table does not fit; of none if the role may not read that. */
export const unfit: Effect.Effect<UnfitOf, never, Inspector> = Inspector.use((inspector) => inspector.workers()).pipe(
  Effect.orElseSucceed((): ReadonlyArray<WorkerView> => []),
  Effect.map(unfitOf)
)
