/**
 * Tool calls from a model, each recorded as an output.
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { CallRecorder } from "../CallRecorder.ts"
import { partsOf } from "../internal/elements.ts"
import type * as Output from "../Output.ts"
import type { RecordedOutput, ServiceCall } from "../ServiceCall.ts"
import { asking } from "./asking.ts"
import { type AskOptions, specWithInput } from "./options.ts"
import type { Answerable, Answered } from "./recorded.ts"
import { outputOf, toolkitOf } from "./tools.ts"

/** How tool calls are asked for. */
export interface ToolCallOptions extends AskOptions {
  /** Whether the model must call a tool. Default: `"required"`. An answer without a tool call does not fit either way. */
  readonly toolChoice?: "auto" | "required" | undefined
  /**
   * How often to ask again, at most, when a tool call does not fit: a whole number. Each request is paid for. Default: 0.
   */
  readonly repair?: number | undefined
}

/** A tool call that fits: its output, the tool call's id as `part`, and the value. */
export type Called<O extends Output.Any> = O extends Output.Any
  ? { readonly output: O; readonly part: string; readonly value: Output.Value<O> }
  : never

/** The tool calls of an answer as outputs. Fails when it has none that fits, or, if it `mustFit`, one that does not. */
const toolCalls = Effect.fnUntraced(function*(
  outputs: ReadonlyArray<Answerable>,
  toolChoice: "auto" | "required",
  prompt: Prompt.Prompt,
  mustFit: boolean
) {
  const response = yield* LanguageModel.generateText({
    prompt,
    toolkit: toolkitOf(outputs),
    toolChoice,
    disableToolCallResolution: true,
    // so that one bad tool call does not fail the others
    toolCallValidation: "deferred"
  })
  // a tool call that the provider has run itself is not part of the answer
  const calls = response.toolCalls.filter(({ providerExecuted }) => !providerExecuted)
  const parts = partsOf(calls.map(({ id }) => id), (id) => typeof id === "string" ? id : undefined)
  const recorded: Array<RecordedOutput> = []
  const problems: Array<string> = []
  let fitting = 0
  for (const [index, { name, params }] of calls.entries()) {
    const output = outputs.find(({ shortName }) => shortName === name)
    const made = output === undefined
      ? { recorded: undefined, problem: "there is no such tool" }
      : yield* outputOf(output, params, parts[index]!)
    if (made.recorded !== undefined) recorded.push(made.recorded)
    if (made.problem === undefined) fitting++
    else problems.push(`${name}: ${made.problem}`)
  }
  if (fitting > 0 && (problems.length === 0 || !mustFit)) return recorded
  return yield* AiError.make({
    module: "Answer",
    method: "generateToolCalls",
    reason: new AiError.StructuredOutputError({
      description: problems.length === 0 ? "it calls no tool" : problems.join("\n"),
      responseText: response.text
    })
  })
})

/** The tool calls of a recorded call that decode. */
const calledOf = Effect.fnUntraced(function*(outputs: ReadonlyArray<Answerable>, call: ServiceCall) {
  const decoded = yield* Effect.forEach(call.outputs, ({ data, part = "", schema, version }) => {
    const output = outputs.find(({ identity }) => identity === schema)
    return output === undefined
      ? Effect.succeedNone
      : Effect.option(Effect.map(output.decode(data, version), (value) => ({ output, part, value })))
  })
  return decoded.flatMap(Option.toArray)
})

/**
 * Asks the model of the context to call tools, one for each of the outputs, and records each call of a tool as a chunk of
 * the call: the output with the tool's name, and the tool call's id as its part. The second tool call with the id `a` has
 * the part `a#2`. If an id is not a text of 1 to 116 characters, the part is `#` and the tool call's index: `#0` for the
 * first. The tools are not run: the outputs' handlers do the work. A call that has succeeded is answered from its record.
 *
 * A tool call that does not fit does not affect the others. While `repair` is left, the whole prompt is asked again. After
 * that, those that fit are the value, and each that does not fit is recorded unchanged and becomes a dead letter. When none
 * fits, the call is recorded as `invalid`, and this fails with the reason. (A provider that refuses a bad tool call itself
 * refuses its whole answer.)
 * Throws when two outputs have the same short name.
 *
 * ```ts
 * const { value } = yield* Answer.generateToolCalls([PatientReply, Feedback], {
 *   call: { callId, namespace: "chatlab", service: "services.chatlab.standardized_patient.generate-reply" },
 *   prompt: "Answer the student, and judge the question."
 * })
 * const texts = value.map(({ output, part, value }) => `${output.shortName} ${part}: ${value.text}`)
 * ```
 */
export const generateToolCalls = Effect.fn("Answer.generateToolCalls")(
  function*<const Outputs extends ReadonlyArray<Answerable>>(outputs: Outputs, options: ToolCallOptions) {
    const recorder = yield* CallRecorder
    const { call, ran } = yield* recorder.run(
      yield* specWithInput(options),
      (run) =>
        asking(
          run,
          options,
          (prompt, isLast) => toolCalls(outputs, options.toolChoice ?? "required", prompt, !isLast)
        )
    )
    // each value was decoded by the output it stands with
    const value = (yield* calledOf(outputs, call)) as ReadonlyArray<unknown> as ReadonlyArray<Called<Outputs[number]>>
    return { value, call, ran } satisfies Answered<unknown>
  }
)
