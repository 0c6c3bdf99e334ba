/**
 * Checks whether a call can be stored, before anything is written. The same function checks a call's fields before its
 * service runs and when it is recorded: a problem known beforehand is never reported after the answer was paid for.
 */
import * as DateTime from "effect/DateTime"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Identity from "../Identity.ts"
import { type CallSpec, maxCallIdLength, maxPriority, type ServiceCall } from "../ServiceCall.ts"
import { textOf } from "./callJson.ts"
import { hasOwnWay, jsonProblem, maxWeight, ownWay, type Problem, textProblem, type Weight } from "./jsonProblem.ts"
import { quote } from "./quote.ts"
import { unreadable } from "./readOnce.ts"

const optionalText = (path: string, text: string | undefined, longest: number): Problem | undefined => {
  if (text === undefined) return undefined
  const reason = text === "" ? "is empty" : text.length > longest ? `is longer than ${longest}` : textProblem(text)
  return reason === undefined ? undefined : { path, reason }
}

const identityProblem = (path: string, text: string, domain: Identity.Domain): Problem | undefined => {
  const parsed = Identity.parse(text)
  if (Result.isFailure(parsed)) return { path, reason: parsed.failure.message }
  return parsed.success.domain === domain
    ? undefined
    : { path, reason: `${quote(text)} is of domain ${parsed.success.domain}, not ${domain}` }
}

const callIdProblem = (callId: string): Problem | undefined => {
  // a character has one or two UTF-16 units, so only in between they are counted
  const isBetween = callId.length > maxCallIdLength && callId.length <= 2 * maxCallIdLength
  const length = isBetween ? [...callId].length : callId.length
  const reason = length === 0
    ? "is empty"
    : length > maxCallIdLength
    ? `has ${length} characters, more than ${maxCallIdLength}`
    : textProblem(callId)
  return reason === undefined ? undefined : { path: "callId", reason }
}

const texts = ["callId", "namespace", "service"] as const
const optionalTexts = ["correlationId", "orderingKey"] as const
const times = ["notBefore", "startedAt", "finishedAt"] as const

// the range that both JavaScript and Postgres can represent, with four-digit years
const earliest = Date.parse("0001-01-01T00:00:00Z")
const latest = Date.parse("9999-12-31T23:59:59.999Z")

const timeProblem = (path: string, value: unknown): Problem | undefined => {
  if (value === undefined) return undefined
  if (!DateTime.isDateTime(value)) return { path, reason: "is not a DateTime" }
  const at = value.epochMilliseconds
  return at >= earliest && at <= latest ? undefined : { path, reason: "is not between the years 1 and 9999" }
}

/** Checks the types: a caller without types may pass anything, and gets a refusal instead of a crash. */
const shapeProblem = (call: unknown): Problem | undefined => {
  if (!Predicate.isObject(call)) return { path: "call", reason: "is not an object" }
  const at = (path: string): unknown => Predicate.hasProperty(call, path) ? call[path] : undefined
  for (const path of texts) {
    if (typeof at(path) !== "string") return { path, reason: "is not a string" }
  }
  for (const path of optionalTexts) {
    if (at(path) !== undefined && typeof at(path) !== "string") return { path, reason: "is not a string" }
  }
  for (const path of ["context", "details"]) {
    if (at(path) !== undefined && !Predicate.isObject(at(path))) return { path, reason: "is not an object" }
  }
  for (const path of times) {
    const problem = timeProblem(path, at(path))
    if (problem !== undefined) return problem
  }
  // only checks that reading it does not throw: an invalid trace is dropped, not refused
  at("trace")
  return undefined
}

const outputsShapeProblem = (outputs: unknown, maxOutputs: number): Problem | undefined => {
  if (!Array.isArray(outputs)) return { path: "outputs", reason: "is not an array" }
  if (outputs.length > maxOutputs) {
    return { path: "outputs", reason: `holds ${outputs.length} outputs, more than ${maxOutputs} (SLUICE_MAX_OUTPUTS)` }
  }
  for (const [index, output] of outputs.entries()) {
    const path = `outputs[${index}]`
    if (!Predicate.hasProperty(output, "schema")) return { path, reason: "is not an output: it names no schema" }
    if (typeof output.schema !== "string") return { path: `${path}.schema`, reason: "is not a string" }
    const part = Predicate.hasProperty(output, "part") ? output.part : undefined
    if (part !== undefined && typeof part !== "string") return { path: `${path}.part`, reason: "is not a string" }
  }
  return undefined
}

const priorityProblem = (priority: number | undefined): Problem | undefined =>
  priority === undefined || (Number.isInteger(priority) && priority >= 0 && priority <= maxPriority)
    ? undefined
    : { path: "priority", reason: `is ${quote(priority)}, not a whole number from 0 to ${maxPriority}` }

/** Why a value cannot be a limit, if so: `NaN` or a text, for example, would limit nothing. */
export const limitProblem = (path: string, value: unknown): Problem | undefined =>
  Number.isInteger(value) && Number(value) >= 0
    ? undefined
    : { path, reason: `is ${quote(value)}, not a whole number of 0 or more` }

const namespaceProblem = (namespace: string): Problem | undefined => {
  const reason = Identity.partProblem(namespace)
  return reason === undefined ? undefined : { path: "namespace", reason }
}

/** Shortens a long path to its two ends: a cycle's would fill a page. */
const short = (path: string): string => path.length <= 200 ? path : `${path.slice(0, 120)} … ${path.slice(-60)}`

/** Turns an exception while reading the call (a getter, a revoked proxy) into a problem. */
const looking = (look: () => Problem | undefined): Problem | undefined => {
  try {
    const problem = look()
    return problem === undefined ? undefined : { ...problem, path: short(problem.path) }
  } catch (error) {
    return unreadable(error)
  }
}

/** The id of a call to be refused; empty when the caller passed none. */
export const callIdOf = (call: unknown): string => {
  try {
    return Predicate.hasProperty(call, "callId") && typeof call.callId === "string" ? call.callId : ""
  } catch {
    return ""
  }
}

/** The settings that limit the size of a call. */
export interface Limits {
  readonly maxResultBytes: number
  readonly maxOutputs: number
}

/** The part of `maxResultBytes` reserved for the answer before a service has run: 1 MiB, or a quarter of a small limit. */
export const roomForAnswer = (maxResultBytes: number): number => Math.min(1024 * 1024, Math.ceil(maxResultBytes / 4))

/** The bound of a field's weight above which the call is too large for sure: the check ends there. */
const heaviest = ({ maxResultBytes }: Limits): number => maxResultBytes * maxWeight

/** The reason why a call cannot be begun: every problem that would refuse its recording, whatever its service answers. */
export const specProblem = (call: CallSpec, limits: Limits): Problem | undefined =>
  looking(() => {
    const weight = { bytes: 0, most: heaviest(limits) }
    const room = roomForAnswer(limits.maxResultBytes)
    return fieldsProblem(call, weight) ?? sizeProblem(call, undefined, weight, limits.maxResultBytes, room)
  })

// via JSON text, because a proxy can be read but not cloned
const copyOf = <A>(json: A): A => JSON.parse(textOf(json))

/** A copy of a call as it was checked: a service may change its input while it runs. */
export const asAsked = (call: CallSpec): CallSpec => {
  const { context, details, input } = call
  return {
    ...call,
    ...(context === undefined ? {} : { context: copyOf(context) }),
    ...(input === undefined ? {} : { input: copyOf(input) }),
    ...(details === undefined ? {} : { details: copyOf(details) })
  }
}

/** The reason why a finished call cannot be recorded. */
export const callProblem = (call: ServiceCall, limits: Limits): Problem | undefined =>
  looking(() => {
    const weight = { bytes: 0, most: heaviest(limits) }
    return fieldsProblem(call, weight) ??
      outputsShapeProblem(call.outputs, limits.maxOutputs) ??
      outputsProblem(call.outputs, weight) ??
      sizeProblem(call, call.outputs, weight, limits.maxResultBytes, 0)
  })

const fieldsProblem = (call: CallSpec, weight: Weight): Problem | undefined =>
  shapeProblem(call) ??
    callIdProblem(call.callId) ??
    namespaceProblem(call.namespace) ??
    identityProblem("service", call.service, "services") ??
    optionalText("correlationId", call.correlationId, 256) ??
    optionalText("orderingKey", call.orderingKey, 256) ??
    priorityProblem(call.priority) ??
    jsonProblem(call.context ?? {}, "context", weight) ??
    jsonProblem(call.input ?? null, "input", weight) ??
    jsonProblem(call.details ?? {}, "details", weight)

const outputFields: ReadonlySet<string> = new Set(["schema", "version", "part", "data"])

/** Checks the extra fields of an output: it is recorded with everything that the caller wrote into it. */
const restProblem = (output: object, path: string, weight: Weight): Problem | undefined => {
  if (hasOwnWay(output)) return { path, reason: ownWay }
  for (const key of Object.keys(output)) {
    if (outputFields.has(key)) continue
    // only a caller without types passes more
    const value: unknown = Reflect.get(output, key)
    if (value === undefined) continue
    const problem = jsonProblem({ [key]: value }, path, weight)
    if (problem !== undefined) return problem
  }
  return undefined
}

// field names, version and punctuation of an output's JSON
const bytesAroundData = 64

const outputsProblem = (outputs: ServiceCall["outputs"], weight: Weight): Problem | undefined => {
  if (outputs.length === 0) return { path: "outputs", reason: "is empty: a call without outputs persists nothing" }
  const seen = new Set<string>()
  for (const [index, output] of outputs.entries()) {
    const path = `outputs[${index}]`
    const part = output.part ?? ""
    weight.bytes += bytesAroundData + 6 * (output.schema.length + part.length)
    const problem = identityProblem(`${path}.schema`, output.schema, "schemas") ??
      (Number.isInteger(output.version) && output.version >= 1 && output.version <= 2147483647
        ? undefined
        : { path: `${path}.version`, reason: `is ${quote(output.version)}, not a whole number from 1` }) ??
      (part === "" ? undefined : optionalText(`${path}.part`, part, 128)) ??
      jsonProblem(output.data, `${path}.data`, weight) ??
      restProblem(output, path, weight)
    if (problem !== undefined) return problem
    const key = `${output.schema}#${part}`
    if (seen.has(key)) {
      return {
        path,
        reason: `is the second output of ${output.schema} with part ${quote(part)}: ` +
          `give each its own part`
      }
    }
    seen.add(key)
  }
  return undefined
}

/**
 * Limits the size of the whole call: every chunk is claimed with the data shared by the call's chunks, and the call is
 * one message when it is recorded. `weight` is an upper bound of the size: nearly all calls are far below the limit and
 * need not be measured.
 */
const sizeProblem = (
  { context, details, input, trace }: CallSpec,
  outputs: ServiceCall["outputs"] | undefined,
  weight: Weight,
  maxResultBytes: number,
  room: number
): Problem | undefined => {
  const most = maxResultBytes - room
  if (weight.bytes <= most) return undefined
  const sizes = Object.entries({ outputs, context, input, details, trace }).map(([path, value]) => (
    { path, bytes: Buffer.byteLength(textOf(value)) }
  ))
  const bytes = sizes.reduce((sum, one) => sum + one.bytes, 0)
  if (bytes <= most) return undefined
  const largest = sizes.reduce((a, b) => b.bytes > a.bytes ? b : a)
  const together = largest.bytes > most ? "" : ` and the call ${bytes} altogether`
  const limit = room === 0
    ? `${most} (SLUICE_MAX_RESULT_BYTES)`
    : `${most}: of SLUICE_MAX_RESULT_BYTES, ${maxResultBytes}, ${room} are kept for the answer`
  return { path: largest.path, reason: `holds ${largest.bytes} bytes of JSON${together}, more than ${limit}` }
}
