/**
 * Decodes the text of an answer with the schemas of handlers.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Handler } from "../Handler.ts"
import type { RecordedOutput } from "../ServiceCall.ts"
import { describeCause } from "./describe.ts"
import { partsOf } from "./elements.ts"
import { maxDepth } from "./jsonProblem.ts"
import { quote } from "./quote.ts"
import { storableJson } from "./storableJson.ts"

/** The outputs of an answer, or why it has none. */
export type Decoded = { readonly outputs: ReadonlyArray<RecordedOutput> } | { readonly reason: string }

/** The JSON of an answer: all of it, or the content of a Markdown code fence. */
const jsonOf = (text: string): Option.Option<Schema.Json> => {
  const [, fenced] = /^\s*```[a-z]*\s*\n([^]*?)\n\s*```\s*$/.exec(text) ?? []
  try {
    return Option.some(storableJson(JSON.parse(fenced ?? text) as Schema.Json, maxDepth))
  } catch {
    return Option.none()
  }
}

const outputOf = ({ output }: Handler, data: Schema.Json, part = ""): RecordedOutput => ({
  schema: output.identity,
  version: output.version,
  data,
  ...(part === "" ? {} : { part })
})

/** Why JSON does not fit a handler's schema; undefined if it does. */
const problemOf = ({ output }: Handler, data: Schema.Json) =>
  Effect.map(
    Effect.exit(output.decode(data, output.version)),
    (exit) => Exit.isSuccess(exit) ? undefined : `${output.identity}: ${describeCause(exit.cause)}`
  )

const ambiguous = (fitting: ReadonlyArray<Handler>): string =>
  `it fits several schemas, say which: ${fitting.map(({ output }) => output.identity).join(", ")}`

/** An answer as the one output whose schema it fits. */
const asOne = Effect.fnUntraced(function*(handlers: ReadonlyArray<Handler>, data: Schema.Json) {
  const problems = yield* Effect.forEach(handlers, (handler) => problemOf(handler, data))
  const fitting = handlers.filter((_, index) => problems[index] === undefined)
  const [handler] = fitting
  const decoded: Decoded = handler === undefined
    ? { reason: `it fits none of them: ${problems.join("; ")}` }
    : fitting.length > 1
    ? { reason: ambiguous(fitting) }
    : { outputs: [outputOf(handler, data)] }
  return decoded
})

/** Tool calls, as `effect-sluice/ai` keeps them. */
const toolCallsOf = Schema.decodeUnknownOption(
  Schema.NonEmptyArray(Schema.Struct({ id: Schema.String, name: Schema.String, params: Schema.Json }))
)

/** Tool calls as outputs of the handlers that they name. As in `generateToolCalls`, it is enough that one fits. */
const asToolCalls = Effect.fnUntraced(function*(handlers: ReadonlyArray<Handler>, data: Schema.Json) {
  const calls = Option.getOrUndefined(toolCallsOf(data))
  if (calls === undefined) return undefined
  const parts = partsOf(calls.map(({ id }) => id), (id) => typeof id === "string" ? id : undefined)
  const outputs: Array<RecordedOutput> = []
  const problems: Array<string> = []
  for (const [index, { name, params }] of calls.entries()) {
    const named = handlers.filter(({ output }) => output.shortName === name)
    const [handler] = named
    if (handler === undefined || named.length > 1) {
      return { reason: `${named.length === 0 ? "no" : "more than one"} handler is named like the tool ${quote(name)}` }
    }
    const problem = yield* problemOf(handler, params)
    if (problem !== undefined) problems.push(problem)
    outputs.push(outputOf(handler, params, parts[index]))
  }
  return problems.length < outputs.length ? { outputs } : { reason: `no tool call fits: ${problems.join("; ")}` }
})

/** A list as an output for each element, of the one schema that fits any of them: as in `Output.each`, a bad one dies alone. */
const asElements = Effect.fnUntraced(function*(handlers: ReadonlyArray<Handler>, data: Schema.Json) {
  if (!Array.isArray(data)) return undefined
  const elements: ReadonlyArray<Schema.Json> = data
  const fitting = yield* Effect.filter(
    handlers,
    (handler) => Effect.map(firstFitting(handler, elements), Option.isSome)
  )
  const [handler] = fitting
  if (handler === undefined) return undefined
  const decoded: Decoded = fitting.length > 1
    ? { reason: ambiguous(fitting) }
    : { outputs: handler.output.each(elements) }
  return decoded
})

const firstFitting = (handler: Handler, elements: ReadonlyArray<Schema.Json>) =>
  Effect.findFirst(elements, (element) => Effect.map(problemOf(handler, element), (problem) => problem === undefined))

/** Decodes an answer: as one output, as the tool calls of one answer, or as a list of outputs. */
export const decodeAgain = Effect.fnUntraced(function*(handlers: ReadonlyArray<Handler>, text: string) {
  const data = jsonOf(text)
  if (Option.isNone(data)) return { reason: "its text is no JSON" } satisfies Decoded
  const one = yield* asOne(handlers, data.value)
  if ("outputs" in one) return one
  return (yield* asToolCalls(handlers, data.value)) ?? (yield* asElements(handlers, data.value)) ?? one
})
