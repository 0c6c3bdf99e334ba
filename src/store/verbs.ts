/**
 * Gives each verb of a store's services its name, which errors and time limits report.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** The verb in progress: `claim`, `deadLetters.redrive`. `ChunkStoreError.operation` names the one that failed. */
export const Verb = Context.Reference<string>("effect-sluice/store/Verb", { defaultValue: () => "store" })

/** A transformation of a verb's effect, given the verb's name. It keeps the types of result and errors. */
export type Change = <A, E, R>(effect: Effect.Effect<A, E, R>, verb: string) => Effect.Effect<A, E, R>

const isGroup = (member: unknown): member is object =>
  typeof member === "object" && member !== null && Object.getPrototypeOf(member) === Object.prototype

/** The service with each verb transformed. Verbs are effects, functions that return one, or groups of these. */
export const eachVerb = <S extends object>(service: S, change: Change): S => {
  const of = (member: unknown, verb: string): unknown => {
    if (Effect.isEffect(member)) return change(member, verb)
    if (typeof member === "function") return (...args: ReadonlyArray<unknown>): unknown => of(member(...args), verb)
    return isGroup(member) ? eachVerb(member, change) : member
  }
  // the transformation keeps the type of every member
  return Object.fromEntries(Object.entries(service).map(([verb, member]) => [verb, of(member, verb)])) as S
}

/**
 * The service whose verbs know their names. The names of `ChunkStore`'s verbs have no prefix; those of other services begin
 * with the service's name.
 */
export const named = <S extends object>(service: string, verbs: S): S =>
  eachVerb(
    verbs,
    (effect, verb) => Effect.provideService(effect, Verb, service === "ChunkStore" ? verb : `${service}.${verb}`)
  )
