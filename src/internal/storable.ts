/**
 * Whether a call can be stored, asked before anything is written.
 */
import * as DateTime from "effect/DateTime"
import * as Predicate from "effect/Predicate"
import * as Identity from "../Identity.ts"
import { type CallSpec, maxCallIdLength, maxPriority, type ServiceCall } from "../ServiceCall.ts"
import { hasOwnWay, jsonProblem, ownWay, type Problem, textProblem, type Weight } from "./flaw.ts"
import { quote } from "./quote.ts"
import { textOf } from "./recorded.ts"

const optionalText = (path: string, text: string | undefined, longest: number): Problem | undefined => {
  if (text === undefined) return undefined
  const reason = text === "" ? "is empty" : text.length > longest ? `is longer than ${longest}` : textProblem(text)
  return reason === undefined ? undefined : { path, reason }
}

const identityProblem = (path: string, text: string, domain: Identity.Domain): Problem | undefined => {
  const parsed = Identity.parseResult(text)
  if (parsed instanceof Identity.IdentityInvalid) return { path, reason: parsed.message }
  return parsed.domain === domain
    ? undefined
    : { path, reason: `${quote(text)} is of domain ${parsed.domain}, not ${domain}` }
}

const callIdProblem = (callId: string): Problem | undefined => {
  const length = [...callId].length
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

// what both JavaScript's and Postgres' dates can say, in four digits
const earliest = Date.parse("0001-01-01T00:00:00Z")
const latest = Date.parse("9999-12-31T23:59:59.999Z")

const timeProblem = (path: string, value: unknown): Problem | undefined => {
  if (value === undefined) return undefined
  if (!DateTime.isDateTime(value)) return { path, reason: "is not a DateTime" }
  const at = value.epochMilliseconds
  return at >= earliest && at <= latest ? undefined : { path, reason: "is not between the years 1 and 9999" }
}

/** A caller without types may give anything: then the answer is a refusal as well, not a crash. */
const shapeProblem = (call: unknown): Problem | undefined => {
  if (!Predicate.isObject(call)) return { path: "call", reason: "is not an object" }
  const at = (path: string): unknown => Predicate.hasProperty(call, path) ? call[path] : undefined
  for (const path of texts) {
    if (typeof at(path) !== "string") return { path, reason: "is not a text" }
  }
  for (const path of optionalTexts) {
    if (at(path) !== undefined && typeof at(path) !== "string") return { path, reason: "is not a text" }
  }
  for (const path of ["context", "details"]) {
    if (at(path) !== undefined && !Predicate.isObject(at(path))) return { path, reason: "is not an object" }
  }
  for (const path of times) {
    const problem = timeProblem(path, at(path))
    if (problem !== undefined) return problem
  }
  // what it is does not matter here; one that throws does
  at("trace")
  return undefined
}

const outputsShapeProblem = (outputs: unknown): Problem | undefined => {
  if (!Array.isArray(outputs)) return { path: "outputs", reason: "is not an array" }
  for (const [index, output] of outputs.entries()) {
    const path = `outputs[${index}]`
    if (!Predicate.hasProperty(output, "schema")) return { path, reason: "is not an output: it names no schema" }
    if (typeof output.schema !== "string") return { path: `${path}.schema`, reason: "is not a text" }
    const part = Predicate.hasProperty(output, "part") ? output.part : undefined
    if (part !== undefined && typeof part !== "string") return { path: `${path}.part`, reason: "is not a text" }
  }
  return undefined
}

const priorityProblem = (priority: number | undefined): Problem | undefined =>
  priority === undefined || (Number.isInteger(priority) && priority >= 0 && priority <= maxPriority)
    ? undefined
    : { path: "priority", reason: `is ${quote(priority)}, not a whole number from 0 to ${maxPriority}` }

const namespaceProblem = (namespace: string): Problem | undefined => {
  const reason = Identity.partProblem(namespace)
  return reason === undefined ? undefined : { path: "namespace", reason }
}

/** Both ends of a path, when it is long: a cycle's would be a page. */
const short = (path: string): string => path.length <= 200 ? path : `${path.slice(0, 120)} … ${path.slice(-60)}`

/** A value that throws when it is looked at (a getter, a revoked proxy) cannot be stored either. */
const looking = (look: () => Problem | undefined): Problem | undefined => {
  try {
    const problem = look()
    return problem === undefined ? undefined : { ...problem, path: short(problem.path) }
  } catch (error) {
    return { path: "call", reason: `cannot be read: ${error instanceof Error ? error.message : "it throws"}` }
  }
}

/** The id of what is to be refused; a caller without types may have given something without one. */
export const callIdOf = (call: unknown): string => {
  try {
    return Predicate.hasProperty(call, "callId") && typeof call.callId === "string" ? call.callId : ""
  } catch {
    return ""
  }
}

/** What keeps a call from being begun. */
export const specProblem = (call: CallSpec): Problem | undefined => looking(() => fieldsProblem(call, { bytes: 0 }))

/** What keeps a finished call from being recorded. */
export const callProblem = (call: ServiceCall, maxResultBytes: number): Problem | undefined =>
  looking(() => {
    const weight = { bytes: 0 }
    return fieldsProblem(call, weight) ?? outputsShapeProblem(call.outputs) ?? outputsProblem(call.outputs, weight) ??
      // nearly all are far from it, and need not be measured
      (weight.bytes <= maxResultBytes ? undefined : sizeProblem(call, maxResultBytes))
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

/** An output is recorded as it was given, with whatever else the caller wrote into it. */
const restProblem = (output: object, path: string, weight: Weight): Problem | undefined => {
  if (hasOwnWay(output)) return { path, reason: ownWay }
  for (const key of Object.keys(output)) {
    if (outputFields.has(key)) continue
    // only a caller without types gives more
    const value: unknown = Reflect.get(output, key)
    if (value === undefined) continue
    const problem = jsonProblem({ [key]: value }, path, weight)
    if (problem !== undefined) return problem
  }
  return undefined
}

const outputsProblem = (outputs: ServiceCall["outputs"], weight: Weight): Problem | undefined => {
  if (outputs.length === 0) return { path: "outputs", reason: "is empty: a call without outputs persists nothing" }
  const seen = new Set<string>()
  for (const [index, output] of outputs.entries()) {
    const path = `outputs[${index}]`
    const part = output.part ?? ""
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

/** Every chunk of a call is handed out with the call's context and input: what they hold together has an end. */
const sizeProblem = (call: ServiceCall, maxResultBytes: number): Problem | undefined => {
  const parts = { outputs: call.outputs, context: call.context, input: call.input }
  const sizes = Object.entries(parts).map(([path, value]) => ({ path, bytes: Buffer.byteLength(textOf(value)) }))
  const bytes = sizes.reduce((sum, one) => sum + one.bytes, 0)
  if (bytes <= maxResultBytes) return undefined
  const largest = sizes.reduce((a, b) => b.bytes > a.bytes ? b : a)
  const together = largest.bytes > maxResultBytes ? "" : ` and the call ${bytes} altogether`
  return {
    path: largest.path,
    reason: `holds ${largest.bytes} bytes of JSON${together}, more than ${maxResultBytes} (SLUICE_MAX_RESULT_BYTES)`
  }
}
