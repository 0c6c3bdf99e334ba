/**
 * JSON of others as Postgres can store it.
 */
import type * as Schema from "effect/Schema"
import type { RecordedOutput } from "../ServiceCall.ts"
import { jsonProblem, maxDepth } from "./jsonProblem.ts"
import { storableText } from "./storableText.ts"

/**
 * The JSON with everything replaced that cannot be stored but can come out of `JSON.parse`: NUL by `\0`, lone
 * surrogates by U+FFFD, a number beyond all doubles by its text, and what is nested deeper than `deepest` by a text that
 * says so.
 */
export const storableJson = (value: Schema.Json, deepest = Infinity, depth = 0): Schema.Json => {
  if (typeof value === "string") return storableText(value)
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value)
  if (typeof value !== "object" || value === null) return value
  if (depth >= deepest) return `nested more than ${deepest} deep`
  if (Array.isArray(value)) return value.map((one: Schema.Json) => storableJson(one, deepest, depth + 1))
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [storableText(key), storableJson(one, deepest, depth + 1)])
  )
}

/** The output with data that can be stored: a paid answer is not refused for a character that Postgres cannot store. */
export const storableOutput = (output: RecordedOutput): RecordedOutput =>
  jsonProblem(output.data, "") === undefined ? output : { ...output, data: storableJson(output.data, maxDepth) }
