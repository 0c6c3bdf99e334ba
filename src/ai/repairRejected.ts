/**
 * Asks a model again for answers that handlers rejected.
 */
import * as LanguageModel from "effect/ai/LanguageModel"
import * as Prompt from "effect/ai/Prompt"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type { Run } from "../CallAttempt.ts"
import { type DeadLetter, type DeadLetterFilter, DeadLetters } from "../DeadLetters.ts"
import { gistOf } from "../internal/describe.ts"
import { escape, escapeProse } from "../internal/escape.ts"
import { storableOutput } from "../internal/storableJson.ts"
import type * as Output from "../Output.ts"
import { redactedText, Redaction } from "../Redaction.ts"
import * as RejectedAnswers from "../RejectedAnswers.ts"
import type { ServiceCall } from "../ServiceCall.ts"
import { asking, correction } from "./asking.ts"
import type { Cost } from "./options.ts"
import type { Answerable } from "./recorded.ts"

/** Which rejected answers are asked for again, and how. */
export interface RepairOptions<E = never, R = never> {
  /** How often to ask again, at most, for each rejected answer. Each request is paid for. */
  readonly most: number
  /**
   * The prompt that was asked. The rejected answer and the reason are appended. Default: the prompt that was recorded by
   * `input: "prompt"`; without one nothing is asked, and the repair fails.
   */
  readonly prompt?: ((call: ServiceCall) => Effect.Effect<Prompt.RawInput, E, R>) | undefined
  /**
   * Whether another answer can help, by the handler's message. Default: always. Handlers also reject for reasons that no
   * answer changes: the simulation is closed, the context is missing.
   */
  readonly when?: ((letter: DeadLetter) => boolean) | undefined
  /** What an answer costs, from its facts. */
  readonly cost?: Cost | undefined
  /** Only those of this namespace. */
  readonly namespace?: string | undefined
}

/** The results of asking again for rejected answers. */
export interface Repaired {
  /** How many chunks were redriven with a new answer. */
  readonly repaired: number
  /** How many repairs failed. The log has their errors. */
  readonly failed: number
}

/** The most letters that are listed at once. */
const page = 500

/** All that match, the oldest first. */
const lettersOf = Effect.fnUntraced(function*(filter: DeadLetterFilter) {
  const letters = yield* DeadLetters
  const found: Array<DeadLetter> = []
  while (true) {
    const list = yield* letters.list(filter, { limit: page, offset: found.length })
    found.push(...list)
    if (list.length < page) return found.reverse()
  }
})

const recordedPrompt = ({ input }: ServiceCall) => Schema.decodeUnknownEffect(Prompt.Prompt)(input)

/**
 * Asks the model of the context again for each answer of this output that a handler has rejected (`HandlerRejected`), with
 * the handler's reason. The new answer replaces the rejected one, as a further attempt of the same call, and its chunk is
 * redriven at its old place in the order: see `RejectedAnswers.repair` for what that promises. Nothing runs this by itself:
 * run it as often as you like, in one process or in several.
 *
 * A redelivered request gets the new answer. `CallRecorder.record` of the rejected one is a `CallConflict` from then on. A
 * letter whose answer was asked for `most` times stays, for a person to decide.
 *
 * ```ts
 * const repairs = Answer.repairRejected(PatientReply, { most: 2 }).pipe(Effect.repeat(Schedule.spaced("1 minute")))
 * ```
 */
export const repairRejected = Effect.fn("Answer.repairRejected")(function*<O extends Answerable, E = never, R = never>(
  output: O,
  options: RepairOptions<E, R>
) {
  const { cost, most, namespace, prompt = recordedPrompt, when = () => true } = options
  const ask = Effect.fnUntraced(function*({ call, output: given, reason }: RejectedAnswers.Rejected, run: Run) {
    const asked = Prompt.concat(Prompt.make(yield* prompt(call)), correction(reason, JSON.stringify(given.data)))
    const value = yield* asking(
      run,
      { prompt: asked, cost },
      (prompt) =>
        LanguageModel.generateObject({ prompt, schema: output.schema, objectName: output.shortName }).pipe(
          // the schema's type, which is that of the output's values
          Effect.map((response) => response.value as Output.Value<O>)
        )
    )
    return storableOutput(yield* output.encode(value))
  })
  let repaired = 0
  let failed = 0
  for (const letter of yield* lettersOf({ reason: "rejected", schemaIdentity: output.identity, namespace })) {
    if (!when(letter)) continue
    const { key } = letter
    const exit = yield* Effect.exit(RejectedAnswers.repair(key, { most }, ask))
    if (Exit.isSuccess(exit)) {
      if (exit.value) repaired++
      continue
    }
    failed++
    // not the whole error, which may contain the answer's text
    const { message, tag } = gistOf(exit.cause) ?? { tag: "Interrupt", message: "" }
    yield* Effect.logWarning("a rejected answer could not be repaired").pipe(Effect.annotateLogs({
      "sluice.call_id": escape(key.callId),
      "sluice.error": escape(tag),
      "sluice.message": escapeProse(redactedText(yield* Redaction, message))
    }))
  }
  return { repaired, failed } satisfies Repaired
})
