/**
 * Takes of given facts what can be stored. A paid answer is never refused because of its facts.
 */
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { CallFacts, maxFactLength } from "../CallFacts.ts"
import { nearest } from "./nearest.ts"
import { quote } from "./quote.ts"
import { storableText } from "./storableText.ts"

const accepts = Object.entries(CallFacts.fields).map(([name, field]) => [name, Schema.is(field)] as const)
const names: ReadonlySet<string> = new Set(Object.keys(CallFacts.fields))

/** Facts without those that are unusable, and the names of these. */
export interface SoundFacts {
  readonly facts: CallFacts
  readonly dropped: ReadonlyArray<string>
}

const look = (given: object): SoundFacts => {
  const facts: Record<string, unknown> = {}
  const dropped = Object.keys(given).filter((name) => !names.has(name)).map((name) => {
    const meant = nearest(name, [...names].filter((known) => !Object.hasOwn(given, known)))
    return meant === undefined ? quote(name) : `${quote(name)} (is ${quote(meant)} meant?)`
  })
  for (const [name, accept] of accepts) {
    const value: unknown = Reflect.get(given, name)
    // a caller without types may give `undefined` or an empty text for what it does not know
    if (value === undefined || value === null || value === "") continue
    if (!accept(value)) dropped.push(name)
    else if (typeof value === "string") facts[name] = storableText(value.slice(0, maxFactLength))
    else if (typeof value === "object") facts[name] = JSON.parse(JSON.stringify(value))
    else facts[name] = value
  }
  // each field was checked by its schema
  return { facts: facts as CallFacts, dropped }
}

/** The facts that can be stored. */
export const soundFacts = (given: unknown): SoundFacts => {
  if (given === undefined || given === null) return { facts: {}, dropped: [] }
  try {
    return Predicate.isObject(given) ? look(given) : { facts: {}, dropped: ["facts"] }
  } catch {
    return { facts: {}, dropped: ["facts"] }
  }
}
