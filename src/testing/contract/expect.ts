/**
 * What the scenes of the contract expect. The package needs no test runner at run time, so it compares by itself, in the
 * words of Vitest's `expect`; a failed expectation carries both values, which runners show side by side.
 */
import * as Equal from "effect/Equal"
import { format } from "effect/Formatter"
import { shorten } from "../../internal/quote.ts"

/** A failed expectation. */
export class Mismatch extends Error {
  override readonly name = "Mismatch"
  readonly actual: unknown
  readonly expected: unknown
  constructor(message: string, actual: unknown, expected: unknown) {
    super(message)
    this.actual = actual
    this.expected = expected
  }
}

/** Stands for every value of which this holds. */
class Some {
  readonly includes: (value: unknown) => boolean
  constructor(includes: (value: unknown) => boolean) {
    this.includes = includes
  }
}

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null

/**
 * A list or a record, which equals another by what it holds. All else has its own equality, or is compared by its fields.
 */
const isPlain = (value: object): boolean =>
  Array.isArray(value) || [Object.prototype, null].includes(Object.getPrototypeOf(value))

const fieldsOf = (value: object): ReadonlyArray<string> =>
  Object.keys(value).filter((key) => Reflect.get(value, key) !== undefined)

/** Neither is a list, or both are, of one length. */
const haveOneShape = (a: object, b: object): boolean =>
  Array.isArray(a) ? Array.isArray(b) && a.length === b.length : !Array.isArray(b)

/** Equal in structure. A field that is undefined equals one that is missing. */
const isEqual = (actual: unknown, expected: unknown): boolean => {
  if (expected instanceof Some) return expected.includes(actual)
  if (Object.is(actual, expected)) return true
  if (!isObject(actual) || !isObject(expected) || !haveOneShape(actual, expected)) return false
  const arePlain = isPlain(actual) && isPlain(expected)
  // not for lists and records: their hashes are kept, also when they have changed since
  if (!isPlain(actual) && !isPlain(expected) && Equal.equals(actual, expected)) return true
  const keys = new Set([...fieldsOf(actual), ...fieldsOf(expected)])
  return (arePlain || keys.size > 0) &&
    [...keys].every((key) =>
      Object.hasOwn(actual, key) && Object.hasOwn(expected, key) &&
      isEqual(Reflect.get(actual, key), Reflect.get(expected, key))
    )
}

/** Equal in all fields that the expected value has. Lists have the same length. */
const matches = (actual: unknown, expected: unknown): boolean =>
  isObject(actual) && isObject(expected) && isPlain(expected)
    ? haveOneShape(actual, expected) &&
      Object.keys(expected).every((key) =>
        key in actual && matches(Reflect.get(actual, key), Reflect.get(expected, key))
      )
    : isEqual(actual, expected)

const print = (value: unknown): string => shorten(format(value), 400)

const check = (holds: boolean, actual: unknown, words: string, expected: unknown): void => {
  if (!holds) throw new Mismatch(`${print(actual)} ${words} ${print(expected)}`, actual, expected)
}

const includes = (list: unknown, wanted: unknown): boolean =>
  typeof list === "string" ? list.includes(String(wanted)) : Array.isArray(list) && list.includes(wanted)

/** What a value must be. Each throws {@link Mismatch} when it is not. */
const of = (actual: unknown) => ({
  toBe: (expected: unknown) => check(Object.is(actual, expected), actual, "is not", expected),
  toEqual: (expected: unknown) => check(isEqual(actual, expected), actual, "does not equal", expected),
  toMatchObject: (expected: unknown) => check(matches(actual, expected), actual, "does not match", expected),
  toMatch: (pattern: RegExp) => check(pattern.test(String(actual)), actual, "does not match", pattern.source),
  toContain: (wanted: unknown) => check(includes(actual, wanted), actual, "does not contain", wanted),
  toContainEqual: (wanted: unknown) =>
    check(Array.isArray(actual) && actual.some((one) => isEqual(one, wanted)), actual, "does not contain", wanted),
  toHaveLength: (length: number) =>
    check(isObject(actual) && Reflect.get(actual, "length") === length, actual, "does not have the length", length),
  toBeUndefined: () => check(actual === undefined, actual, "is not", undefined),
  toBeGreaterThan: (limit: number) => check(Number(actual) > limit, actual, "is not greater than", limit),
  toBeLessThan: (limit: number) => check(Number(actual) < limit, actual, "is not less than", limit),
  not: {
    toBe: (other: unknown) => check(!Object.is(actual, other), actual, "is", other),
    toContain: (other: unknown) => check(!includes(actual, other), actual, "contains", other),
    toHaveProperty: (name: string) => check(isObject(actual) && !(name in actual), actual, "has the property", name)
  }
})

export const expect = Object.assign(of, {
  stringMatching: (pattern: RegExp) => new Some((value) => typeof value === "string" && pattern.test(value)),
  aNumber: new Some((value) => typeof value === "number")
})
