/**
 * The verbs of a store's services: each knows its own name, by which errors and time limits tell of it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** The verb that is under way: `claim`, `deadLetters.redrive`. `ChunkStoreError.operation` says which failed. */
export const Verb = Context.Reference<string>("effect-sluice/store/Verb", { defaultValue: () => "store" })

/** What is done to a verb's effect, by the verb's name. It changes neither what the effect gives nor how it can fail. */
export type Change = <A, E, R>(effect: Effect.Effect<A, E, R>, verb: string) => Effect.Effect<A, E, R>

const isGroup = (member: unknown): member is object =>
  typeof member === "object" && member !== null && Object.getPrototypeOf(member) === Object.prototype

/** The service with each of its verbs changed: members that are effects, functions that give one, or groups of these. */
export const eachVerb = <S extends object>(service: S, change: Change): S => {
  const of = (member: unknown, verb: string): unknown => {
    if (Effect.isEffect(member)) return change(member, verb)
    if (typeof member === "function") return (...args: ReadonlyArray<unknown>): unknown => of(member(...args), verb)
    return isGroup(member) ? eachVerb(member, change) : member
  }
  // each member is what it was, but for what is done to its effects
  return Object.fromEntries(Object.entries(service).map(([verb, member]) => [verb, of(member, verb)])) as S
}

/**
 * The service whose verbs know their names. Those of `ChunkStore` stand by themselves; those of other services follow the
 * service's name.
 */
export const named = <S extends object>(service: string, verbs: S): S =>
  eachVerb(
    verbs,
    (effect, verb) => Effect.provideService(effect, Verb, service === "ChunkStore" ? verb : `${service}.${verb}`)
  )
