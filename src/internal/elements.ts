/**
 * The elements of an answer that is a list: a stable part for each, and JSON that can be stored whatever the model
 * returned. One bad element must not refuse the call, for the others are paid for as well.
 */
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"
import { maxDepth, textProblem } from "./jsonProblem.ts"
import { storableText } from "./storableText.ts"

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

/**
 * The JSON with everything replaced that cannot be stored but can come out of `JSON.parse`: NUL by `\0`, lone
 * surrogates by U+FFFD, a number beyond all doubles by its text, what is nested too deeply by a text that says so.
 */
export const storable = (value: Schema.Json, depth = 0): Schema.Json => {
  if (typeof value === "string") return storableText(value)
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value)
  if (typeof value !== "object" || value === null) return value
  if (depth >= maxDepth) return `nested more than ${maxDepth} deep`
  if (Array.isArray(value)) return value.map((one: Schema.Json) => storable(one, depth + 1))
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [storableText(key), storable(one, depth + 1)]))
}
