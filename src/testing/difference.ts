/**
 * Lists the differences between two snapshots of an application's tables: a line per place, with its path. Compares by
 * structure, including `Map`, `Set`, `Date`, bytes and bigint; a field that is `undefined` differs from a missing one.
 */
import * as Equal from "effect/Equal"
import { format } from "effect/Formatter"
import { printStep } from "../internal/jsonProblem.ts"
import { shorten } from "../internal/quote.ts"

// deeper values are reported as a whole
const deepest = 20

const isPlain = (value: unknown): value is Readonly<Record<PropertyKey, unknown>> => {
  if (typeof value !== "object" || value === null) return false
  return [Object.prototype, null].includes(Object.getPrototypeOf(value))
}

/**
 * A deep copy that later changes do not affect: handlers may go on adding to a list. Values that are not containers are
 * kept as they are.
 */
export const snapshot = <A>(value: A): A => copy(value, new Map()) as A

const copy = (value: unknown, seen: Map<unknown, unknown>): unknown => {
  if (seen.has(value)) return seen.get(value)
  if (Array.isArray(value)) {
    const list: Array<unknown> = []
    seen.set(value, list)
    for (const one of value) list.push(copy(one, seen))
    return list
  }
  if (value instanceof Map) {
    const map = new Map<unknown, unknown>()
    seen.set(value, map)
    for (const [key, one] of value) map.set(copy(key, seen), copy(one, seen))
    return map
  }
  if (value instanceof Set) {
    const set = new Set<unknown>()
    seen.set(value, set)
    for (const one of value) set.add(copy(one, seen))
    return set
  }
  if (value instanceof Date) return new Date(value)
  if (value instanceof Uint8Array) return value.slice()
  if (!isPlain(value)) return value
  const record: Record<PropertyKey, unknown> = Object.create(Object.getPrototypeOf(value))
  seen.set(value, record)
  for (const key of Reflect.ownKeys(value)) {
    // not by assignment: a key may be `__proto__`
    Object.defineProperty(record, key, { value: copy(value[key], seen), enumerable: true, writable: true })
  }
  return record
}

const print = (value: unknown): string => shorten(format(value), 200)

/** A line for each place where the found value differs from the expected one; empty when they are equal. */
export const differences = (expected: unknown, found: unknown): ReadonlyArray<string> => compare(expected, found, [])

type Steps = ReadonlyArray<string>

const line = (steps: Steps, words: string): string => `tables${steps.join("")} ${words}`
const missing = (steps: Steps, value: unknown) => line(steps, `lacks ${print(value)}`)
const surplus = (steps: Steps, value: unknown) => line(steps, `has ${print(value)} too much`)

const compare = (expected: unknown, found: unknown, steps: Steps): ReadonlyArray<string> => {
  if (Equal.equals(expected, found)) return []
  const within = steps.length < deepest ? inside(expected, found, steps) : []
  return within.length > 0 ? within : [line(steps, `is ${print(found)}, not ${print(expected)}`)]
}

const inside = (expected: unknown, found: unknown, steps: Steps): ReadonlyArray<string> => {
  if (Array.isArray(expected) && Array.isArray(found)) return inLists(expected, found, steps)
  if (expected instanceof Set && found instanceof Set) {
    return [
      ...[...expected].filter((one) => !hasEqual(found, one)).map((one) => missing(steps, one)),
      ...[...found].filter((one) => !hasEqual(expected, one)).map((one) => surplus(steps, one))
    ]
  }
  if (expected instanceof Map && found instanceof Map) return inEntries([...expected], [...found], steps)
  if (isRow(expected) && isRow(found)) return inEntries(entriesOf(expected), entriesOf(found), steps)
  return []
}

/** Whether a value has fields. Bytes, and objects with their own equality, are reported as a whole. */
const isRow = (value: unknown): value is object =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value) &&
  !Equal.isEqual(value)

const hasEqual = (values: Iterable<unknown>, wanted: unknown): boolean => {
  for (const value of values) if (Equal.equals(value, wanted)) return true
  return false
}

/** Skips the common start and end of two lists: a row may have been added or removed between them. */
const inLists = (expected: ReadonlyArray<unknown>, found: ReadonlyArray<unknown>, steps: Steps) => {
  const shorter = Math.min(expected.length, found.length)
  let start = 0
  while (start < shorter && Equal.equals(expected[start], found[start])) start++
  let end = 0
  while (end < shorter - start && Equal.equals(expected.at(-1 - end), found.at(-1 - end))) end++
  const lines: Array<string> = []
  for (let at = start; at < Math.max(expected.length, found.length) - end; at++) {
    if (at >= found.length - end) lines.push(missing(steps, expected[at]))
    else if (at >= expected.length - end) lines.push(surplus(steps, found[at]))
    else lines.push(...compare(expected[at], found[at], [...steps, printStep(at)]))
  }
  return lines
}

type Entries = ReadonlyArray<readonly [key: unknown, value: unknown]>

const entriesOf = (row: object): Entries => Reflect.ownKeys(row).map((key) => [key, Reflect.get(row, key)])

const inEntries = (expected: Entries, found: Entries, steps: Steps) => {
  const at = (key: unknown): Steps => [...steps, typeof key === "string" ? printStep(key) : `[${print(key)}]`]
  const lines: Array<string> = []
  for (const [key, value] of expected) {
    const other = found.find(([theirs]) => Equal.equals(theirs, key))
    if (other === undefined) lines.push(line(at(key), `is missing, not ${print(value)}`))
    else lines.push(...compare(value, other[1], at(key)))
  }
  for (const [key, value] of found) {
    if (!expected.some(([theirs]) => Equal.equals(theirs, key))) {
      lines.push(line(at(key), `is ${print(value)}, not missing`))
    }
  }
  return lines
}
