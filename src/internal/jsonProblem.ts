/**
 * What keeps a value from being stored as JSON. Postgres can hold neither `\u0000` nor a lone surrogate in its texts, and
 * JSON cannot hold `undefined`, functions, bigints, cycles or numbers that are not finite.
 */
import { quote } from "./quote.ts"

/** Where in a call the trouble is, and what it is. */
export interface Problem {
  readonly path: string
  readonly reason: string
}

/** How deep JSON may be nested: far beyond any answer, and within what every JSON parser takes. */
export const maxDepth = 512

/** What keeps a text from being stored. */
export const textProblem = (text: string): string | undefined =>
  text.includes("\u0000")
    ? "holds \\u0000, which Postgres cannot store"
    : text.isWellFormed()
    ? undefined
    : "holds a lone surrogate, which is not text"

/** A step of a path, as a program would write it. */
export const printStep = (key: string | number): string =>
  typeof key === "number" ? `[${key}]` : /^\w+$/.test(key) ? `.${key}` : `[${quote(key)}]`

const isPlain = (value: object): value is Readonly<Record<string, unknown>> => {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** What is wrong with a value that has a `toJSON`. */
export const ownWay = "has a toJSON, which may say anything"
/** Whether a value says itself what JSON it is. */
export const hasOwnWay = (value: object): boolean => "toJSON" in value && typeof value.toJSON === "function"

/** What keeps a value from being stored as JSON, and the way to it, innermost step first. */
interface Flaw {
  readonly steps: Array<string | number>
  readonly reason: string
  /** Whether it is the key that is wrong, and not what stands there. */
  readonly ofKey?: boolean
}

/** At most how many bytes of JSON were looked at. */
export interface Weight {
  bytes: number
}

const flaw = (reason: string): Flaw => ({ steps: [], reason })

// Runs for every value of every call that is recorded: the way to a flaw is put together on the way out, when there is one.
const flawOf = (value: unknown, weight: Weight, depth: number): Flaw | undefined => {
  if (typeof value === "string") {
    // escaped, a character is six bytes at most
    weight.bytes += 3 + 6 * value.length
    const reason = textProblem(value)
    return reason === undefined ? undefined : flaw(reason)
  }
  weight.bytes += 26
  if (value === null || typeof value === "boolean") return undefined
  if (typeof value === "number") return Number.isFinite(value) ? undefined : flaw(`is ${value}, which is not JSON`)
  if (typeof value !== "object") return flaw(`is of type ${typeof value}, which is not JSON`)
  // a cycle ends here as well
  if (depth >= maxDepth) return flaw(`is nested more than ${maxDepth} deep, or holds itself`)
  if (Array.isArray(value)) {
    if (hasOwnWay(value)) return flaw(ownWay)
    // by index, so that holes are seen
    for (let index = 0; index < value.length; index++) {
      const found = flawOf(value[index], weight, depth + 1)
      if (found === undefined) continue
      found.steps.push(index)
      return found
    }
    return undefined
  }
  if (!isPlain(value)) return flaw(`is a ${value.constructor?.name ?? "class instance"}, which is not JSON`)
  if (hasOwnWay(value)) return flaw(ownWay)
  for (const key of Object.keys(value)) {
    const reason = textProblem(key)
    if (reason !== undefined) return { steps: [], reason, ofKey: true }
    weight.bytes += 4 + 6 * key.length
    const found = flawOf(value[key], weight, depth + 1)
    if (found === undefined) continue
    found.steps.push(key)
    return found
  }
  return undefined
}

/** The first thing in a value that keeps it from being stored as JSON. Adds to `weight` what it holds at most. */
export const jsonProblem = (value: unknown, path: string, weight: Weight = { bytes: 0 }): Problem | undefined => {
  const found = flawOf(value, weight, 0)
  if (found === undefined) return undefined
  const way = path + found.steps.reverse().map(printStep).join("")
  return { path: found.ofKey === true ? `a key of ${way}` : way, reason: found.reason }
}
