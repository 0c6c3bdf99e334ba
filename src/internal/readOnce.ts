/**
 * Reads each field of a caller's call and of its outputs once, so that the check and the recording see the same. The call
 * may be an instance of a class with accessors, a proxy, or an object that the caller changes meanwhile. What is inside a
 * field's JSON is kept by `callJson.ts`.
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

/**
 * Fields that are only about an answer, and must not cost it. One that throws becomes {@link noJson}, which is dropped
 * later.
 */
const saidOfIt: ReadonlySet<string> = new Set(["facts", "details"])
const noJson = 0n

const outputFields = ["schema", "version", "part", "data"]

/** The longest list of outputs that is read: longer ones are refused by their length. */
const mostOutputs = 1_000_000

/** Reads those of the named fields that an object has, its own and inherited ones. */
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

// an output with a toJSON is left as it is: the check refuses it
const outputOf = (output: unknown): unknown =>
  Predicate.isObject(output) && !hasOwnWay(output) ? { ...output, ...take(output, outputFields) } : output

/** The problem of a call that throws when it is read. */
export const unreadable = (error: unknown): Problem => ({
  path: "call",
  reason: `cannot be read: ${error instanceof Error ? error.message : "it throws"}`
})

/**
 * A copy of a call and its outputs with plain fields. Throws what the call throws when it is read, except for facts and
 * details. What is no object is returned as it is, for the check to refuse.
 */
export const readOnce = <C extends CallSpec>(call: C): C => {
  if (!Predicate.isObject(call)) return call
  const read = take(call, callFields)
  const outputs: unknown = read["outputs"]
  if (Array.isArray(outputs) && outputs.length <= mostOutputs) {
    // by index: an iterator of the list's own may have no end
    read["outputs"] = Array.from({ length: outputs.length }, (_, index) => outputOf(outputs[index]))
  }
  // the fields are the call's own, and nothing reads others
  return read as unknown as C
}
