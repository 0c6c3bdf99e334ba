/**
 * Parses JSON, and finds the whole numbers that JavaScript cannot hold: `JSON.parse` rounds beyond 2^53 without an error.
 */
import type * as Schema from "effect/Schema"

/** A number that was rounded: where it is, and as it is written. */
export interface Rounded {
  /** Like `outputs[0].data.id`. */
  readonly path: string
  readonly written: string
}

/** What a text holds, and the numbers in it that were rounded. */
export interface Parsed {
  readonly json: Schema.Json
  readonly rounded: ReadonlyArray<Rounded>
}

const isWhole = /^-?\d{16,}$/

const isRounded = (value: unknown, source: string | undefined): source is string =>
  source !== undefined && isWhole.test(source) && typeof value === "number" && Number.isFinite(value) &&
  BigInt(source) !== BigInt(value)

/** The values of an object or an array, with their paths. */
const within = (path: string, holder: object): ReadonlyArray<readonly [key: string, path: string, value: unknown]> =>
  Object.entries(holder).map(([key, value]) => [
    key,
    Array.isArray(holder) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`,
    value
  ])

/** The paths of the rounded numbers, which are given by holder and key. Without recursion: the text may be deeply nested. */
const placesOf = (
  json: unknown,
  rounded: ReadonlyMap<object, ReadonlyMap<string, string>>
): ReadonlyArray<Rounded> => {
  const found: Array<Rounded> = []
  const left: Array<readonly [path: string, value: unknown]> = [["", json]]
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const [path, value] = next
    if (typeof value !== "object" || value === null) continue
    for (const [key, place, inner] of within(path, value).toReversed()) {
      const written = rounded.get(value)?.get(key)
      if (written === undefined) left.push([place, inner])
      else found.push({ path: place, written })
    }
  }
  return found
}

const roundedIn = (text: string): ReadonlyArray<Rounded> => {
  const rounded = new Map<object, Map<string, string>>()
  // TypeScript does not know the third parameter yet, and a runtime may not have it
  const reviver = function(this: object, key: string, value: unknown, context?: { readonly source?: string }) {
    if (isRounded(value, context?.source)) {
      rounded.set(this, (rounded.get(this) ?? new Map<string, string>()).set(key, context?.source ?? ""))
    }
    return value
  }
  const json: unknown = JSON.parse(text, reviver)
  return rounded.size === 0 ? [] : placesOf(json, rounded)
}

/** Parses a text. Throws what `JSON.parse` throws. */
export const parse = (text: string): Parsed => {
  // what JSON.parse returns is JSON
  const json: Schema.Json = JSON.parse(text)
  if (!/\d{16}/.test(text)) return { json, rounded: [] }
  try {
    return { json, rounded: roundedIn(text) }
  } catch {
    // nested too deep for a reviver: too deep to be recorded as well
    return { json, rounded: [] }
  }
}

/** Why a call with this number is not recorded. */
export const describe = ({ path, written }: Rounded): string =>
  `${path === "" ? "it" : path} is ${written}, which JavaScript rounds to ${
    BigInt(Number(written))
  }: write it as a string`
