/**
 * Finds the reason why a value cannot be stored as JSON. Postgres cannot hold `\u0000` or a lone surrogate in text, and
 * JSON cannot hold `undefined`, functions, bigints, cycles or numbers that are not finite.
 */
import { quote } from "./quote.ts"

/** The path of the invalid value in a call, and the reason. */
export interface Problem {
  readonly path: string
  readonly reason: string
}

/** The deepest nesting allowed: far beyond any answer, and within the limits of every JSON parser. */
export const maxDepth = 512

/** The reason why a text cannot be stored, or undefined. */
export const textProblem = (text: string): string | undefined =>
  text.includes("\u0000")
    ? "holds \\u0000, which Postgres cannot store"
    : text.isWellFormed()
    ? undefined
    : "holds a lone surrogate, which is not text"

/** A step of a path, in JavaScript notation. */
export const printStep = (key: string | number): string =>
  typeof key === "number" ? `[${key}]` : /^\w+$/.test(key) ? `.${key}` : `[${quote(key)}]`

const isPlain = (value: object): value is Readonly<Record<string, unknown>> => {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** The reason for refusing a value that has a `toJSON`. */
export const ownWay = "has a toJSON, which may say anything"
/** Whether a value has its own `toJSON`. */
export const hasOwnWay = (value: object): boolean => "toJSON" in value && typeof value.toJSON === "function"

/** The reason why a value cannot be stored as JSON, and its path, innermost step first. */
interface Flaw {
  readonly steps: Array<string | number>
  readonly reason: string
  /** Whether the key is wrong, not its value; or whether it is the whole field that is too large. */
  readonly of?: "key" | "field"
}

/** An upper bound of the bytes of JSON checked so far. */
export interface Weight {
  bytes: number
  /**
   * The check of a field ends above this bound. What is shared within a value is JSON as often as it is met, so a small value may be
   * more JSON than can be walked through.
   */
  readonly most?: number
}

/** The bound is at most so many times the bytes of JSON: the number 1 is one byte. */
export const maxWeight = 26

const flaw = (reason: string): Flaw => ({ steps: [], reason })

// Runs for every value of every recorded call, so the path is only built when there is a flaw.
const flawOf = (value: unknown, weight: Weight, depth: number): Flaw | undefined => {
  if (typeof value === "string") {
    // an escaped character has at most six bytes
    weight.bytes += 3 + 6 * value.length
    const reason = textProblem(value)
    return reason === undefined ? undefined : flaw(reason)
  }
  weight.bytes += maxWeight
  if (value === null || typeof value === "boolean") return undefined
  if (typeof value === "number") return Number.isFinite(value) ? undefined : flaw(`is ${value}, which is not JSON`)
  if (typeof value !== "object") return flaw(`is of type ${typeof value}, which is not JSON`)
  // also ends a cycle
  if (depth >= maxDepth) return flaw(`is nested more than ${maxDepth} deep, or holds itself`)
  if (weight.most !== undefined && weight.bytes > weight.most) {
    const most = Math.floor(weight.most / maxWeight)
    return { steps: [], reason: `holds more than ${most} bytes of JSON (SLUICE_MAX_RESULT_BYTES)`, of: "field" }
  }
  if (Array.isArray(value)) {
    if (hasOwnWay(value)) return flaw(ownWay)
    // by index: a hole is then read as undefined, which is refused
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
    if (reason !== undefined) return { steps: [], reason, of: "key" }
    weight.bytes += 4 + 6 * key.length
    const found = flawOf(value[key], weight, depth + 1)
    if (found === undefined) continue
    found.steps.push(key)
    return found
  }
  return undefined
}

/** The first reason why a value cannot be stored as JSON, or undefined. Adds an upper bound of its size to `weight`. */
export const jsonProblem = (value: unknown, path: string, weight: Weight = { bytes: 0 }): Problem | undefined => {
  const own = { ...weight, bytes: 0 }
  const found = flawOf(value, own, 0)
  weight.bytes += own.bytes
  if (found === undefined) return undefined
  if (found.of === "field") return { path: path.replace(/[.[].*/s, ""), reason: found.reason }
  const way = path + found.steps.reverse().map(printStep).join("")
  return { path: found.of === "key" ? `a key of ${way}` : way, reason: found.reason }
}
