/**
 * Makes a call's facts and details storable. They must not cost an answer: what is unusable in them is corrected or
 * dropped, and the caller gets the text to log.
 */
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"
import type { CallSpec } from "../ServiceCall.ts"
import { jsonProblem, type Problem } from "./jsonProblem.ts"
import { readOnce, unreadable } from "./readOnce.ts"
import { soundFacts } from "./soundFacts.ts"
import { storableJson } from "./storableJson.ts"

type Details = { readonly [key: string]: Schema.Json }

/** Details as `JSON.stringify` writes them; undefined if it cannot. What is no object becomes the field `value` of one. */
const asJson = (details: unknown): Details | undefined => {
  try {
    const json: unknown = storableJson(JSON.parse(JSON.stringify(details)))
    const object = Predicate.isObject(json) && !Array.isArray(json) ? json : { value: json }
    return jsonProblem(object, "details") === undefined ? object as Details : undefined
  } catch {
    return undefined
  }
}

/** A call as it can be recorded, or why it cannot. */
export interface SoundCall<C extends CallSpec> {
  readonly call: C
  readonly problem: Problem | undefined
  /** What was mended or dropped, in words. */
  readonly mended: ReadonlyArray<string>
}

/** The call with another value of an optional field, or without it. */
const having = <C extends CallSpec, K extends "facts" | "details">(call: C, field: K, value: C[K] | undefined): C => {
  const { [field]: _, ...rest } = call
  // the fields are those of the call
  return (value === undefined ? rest : { ...rest, [field]: value }) as C
}

const look = <C extends CallSpec>(given: C, check: (call: C) => Problem | undefined): SoundCall<C> => {
  // no call at all: the check says so
  if (!Predicate.isObject(given)) return { call: given, problem: check(given), mended: [] }
  const { dropped, facts } = given.facts === undefined ? nothing : soundFacts(given.facts)
  const call = given.facts === undefined
    ? given
    : having(given, "facts", Object.keys(facts).length === 0 ? undefined : facts)
  const mended = dropped.length === 0 ? [] : [`without facts that cannot be stored: ${dropped.join(", ")}`]
  const problem = check(call)
  if (problem === undefined || call.details === undefined) return { call, problem, mended }
  // examined only now: nearly all details are JSON, as the check has found
  const json = asJson(call.details)
  const other = having(call, "details", json)
  if (json !== undefined && check(other) === undefined) {
    return { call: other, problem: undefined, mended: [...mended, "with details as JSON.stringify writes them"] }
  }
  const without = having(call, "details", undefined)
  return {
    call: without,
    problem: check(without),
    mended: [...mended, "without details, which are too large or no JSON"]
  }
}

const nothing = soundFacts(undefined)

/** The call, read once, with facts and details that can be stored. `check` says why a call cannot be recorded. */
export const soundCall = <C extends CallSpec>(given: C, check: (call: C) => Problem | undefined): SoundCall<C> => {
  try {
    return look(readOnce(given), check)
  } catch (error) {
    return { call: given, problem: unreadable(error), mended: [] }
  }
}
