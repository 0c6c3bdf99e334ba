/**
 * One object from a model, recorded as one output.
 */
import * as LanguageModel from "effect/ai/LanguageModel"
import * as Effect from "effect/Effect"
import type { Run } from "../CallAttempt.ts"
import { CallRecorder } from "../CallRecorder.ts"
import type { HandlerRejected } from "../Handler.ts"
import { storableOutput } from "../internal/storableJson.ts"
import type * as Output from "../Output.ts"
import { asking } from "./asking.ts"
import { type AskOptions, specWithInput } from "./options.ts"
import { type Answerable, type Answered, valueOf } from "./recorded.ts"

/** How an object is asked for. */
export interface ObjectOptions<A, R = never> extends AskOptions {
  /**
   * How often to ask again, at most, when an answer does not fit, with the answer and the reason appended to the prompt: a
   * whole number. Each request is paid for and is an attempt of the call. Default: 0.
   */
  readonly repair?: number | undefined
  /**
   * Checks an answer that fits its schema, before it is recorded. To refuse it, fail with a `HandlerRejected`: it is
   * repaired with its reason, like an answer that does not fit. Make a handler's own checks here too if the request can
   * make them: after an answer that the handler rejects later, only `Answer.repairRejected` asks again.
   */
  readonly check?: ((value: A) => Effect.Effect<unknown, HandlerRejected, R>) | undefined
}

/**
 * Asks the model of the context for an object of the output's schema, and records the call with this one output. A call that
 * has succeeded is answered from its record: no model is asked. Provider, model, usage, finish reason, response id and
 * duration are recorded as facts, of each attempt.
 *
 * Fails like `LanguageModel.generateObject` and `CallRecorder.run`; the call is then recorded as `invalid` with the answer
 * that did not fit, or as `failed` if there was none. An answer that the check refused for the last time fails with its
 * `HandlerRejected`.
 *
 * ```ts
 * const { value } = yield* Answer.generateObject(PatientReply, {
 *   call: { key: "visit-7, turn 3", namespace: "chatlab", service: "services.chatlab.standardized_patient.generate-reply" },
 *   prompt: "Where does it hurt?",
 *   repair: 1
 * })
 * ```
 */
export const generateObject = Effect.fn("Answer.generateObject")(function*<O extends Answerable, R = never>(
  output: O,
  options: ObjectOptions<Output.Value<O>, R>
) {
  const recorder = yield* CallRecorder
  const { check } = options
  const ask = Effect.fnUntraced(function*(run: Run) {
    const value = yield* asking(
      run,
      options,
      (prompt) =>
        LanguageModel.generateObject({ prompt, schema: output.schema, objectName: output.shortName }).pipe(
          // the schema's type, which is that of the output's values
          Effect.map((response) => response.value as Output.Value<O>),
          Effect.tap((value) => check === undefined ? Effect.void : check(value))
        )
    )
    return [storableOutput(yield* output.encode(value))]
  })
  const { call, ran } = yield* recorder.run(yield* specWithInput(options), ask)
  return { value: yield* valueOf(output, call), call, ran } satisfies Answered<Output.Value<O>>
})
