/**
 * The elements of an answer that is a list: a stable part for each, and JSON that can be stored whatever the model
 * returned. One bad element must not refuse the call, for the others are paid for as well.
 */
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"
import { textProblem } from "./jsonProblem.ts"

/** What a part may be made of: a property's name, or a function of the element as the model returned it. */
export type PartOf = string | ((element: Schema.Json, index: number) => string | number | undefined)

/** The longest part that can be recorded, in UTF-16 units. */
export const maxPartLength = 128

// room for a suffix that tells duplicates apart
const longestKey = maxPartLength - 12

const keyOf = (element: Schema.Json, index: number, part: PartOf): unknown => {
  if (typeof part === "string") return Predicate.hasProperty(element, part) ? element[part] : undefined
  try {
    return part(element, index)
  } catch {
    // a function written for good elements may throw on a bad one
    return undefined
  }
}

const isKey = (key: unknown): key is string | number =>
  typeof key === "number"
    ? Number.isFinite(key)
    : typeof key === "string" && key !== "" && key.length <= longestKey && textProblem(key) === undefined

/** The part of each element, all different: see `Output.each`. */
export const partsOf = (elements: ReadonlyArray<Schema.Json>, part: PartOf | undefined): ReadonlyArray<string> => {
  if (part === undefined) return elements.map((_, index) => String(index))
  const taken = new Set<string>()
  /** How often each key was seen: a search from 2 for each duplicate would be quadratic. */
  const seen = new Map<string, number>()
  return elements.map((element, index) => {
    const found = keyOf(element, index, part)
    const key = isKey(found) ? String(found) : `#${index}`
    let count = (seen.get(key) ?? 0) + 1
    let own = count === 1 ? key : `${key}#${count}`
    while (taken.has(own)) own = `${key}#${++count}`
    seen.set(key, count)
    taken.add(own)
    return own
  })
}
