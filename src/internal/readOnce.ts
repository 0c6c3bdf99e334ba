/**
 * Reads a caller's call once, so that what is checked is what is recorded. It may be an instance of a class with accessors, a
 * proxy, or an object that the caller changes while it is recorded.
 */
import * as Predicate from "effect/Predicate"
import type { CallSpec, ServiceCall } from "../ServiceCall.ts"
import { hasOwnWay, type Problem } from "./jsonProblem.ts"

const callFields = [
  "callId",
  "namespace",
  "service",
  "correlationId",
  "context",
  "input",
  "facts",
  "details",
  "trace",
  "orderingKey",
  "priority",
  "notBefore",
  "startedAt",
  "finishedAt",
  "outputs"
] satisfies ReadonlyArray<keyof ServiceCall>

/** What is said of an answer must not cost it: what throws is replaced by this, and dropped. */
const saidOfIt: ReadonlySet<string> = new Set(["facts", "details"])
const noJson = 0n

const outputFields = ["schema", "version", "part", "data"]

/** The fields of an object that it has, also those that it inherits. */
const take = (from: object, names: ReadonlyArray<string>): Record<string, unknown> => {
  const taken: Record<string, unknown> = {}
  for (const name of names) {
    try {
      if (Predicate.hasProperty(from, name)) taken[name] = from[name]
    } catch (error) {
      if (!saidOfIt.has(name)) throw error
      taken[name] = noJson
    }
  }
  return taken
}

// what has a toJSON is refused
const outputOf = (output: unknown): unknown =>
  Predicate.isObject(output) && !hasOwnWay(output) ? { ...output, ...take(output, outputFields) } : output

/** The problem of a call that throws when it is read. */
export const unreadable = (error: unknown): Problem => ({
  path: "call",
  reason: `cannot be read: ${error instanceof Error ? error.message : "it throws"}`
})

/**
 * A call with its own fields and those of its outputs. Throws what the call throws when it is read. What callers without types
 * may pass instead of a call is left as it is, to be refused.
 */
export const readOnce = <C extends CallSpec>(call: C): C => {
  if (!Predicate.isObject(call)) return call
  const read = take(call, callFields)
  if (Array.isArray(read["outputs"])) read["outputs"] = Array.from(read["outputs"], outputOf)
  // the fields are the call's own, and nothing reads others
  return read as unknown as C
}
