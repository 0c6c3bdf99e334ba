/**
 * Asks a model, and asks again with the reason when the answer does not fit, as often as the repair policy allows.
 */
import * as AiError from "effect/ai/AiError"
import * as Prompt from "effect/ai/Prompt"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Run } from "../CallAttempt.ts"
import { HandlerRejected } from "../Handler.ts"
import { listen, type Listener } from "./answers.ts"

/** Why an answer does not fit, and its text if the error has it. */
interface Unfit {
  readonly reason: string
  readonly text: string
}

/** Undefined for errors that are not about an answer, such as a rate limit or a broken connection. */
const unfitOf = (error: unknown): Unfit | undefined => {
  if (error instanceof HandlerRejected) return { reason: error.reason, text: "" }
  if (!AiError.isAiError(error)) return undefined
  const { reason } = error
  switch (reason._tag) {
    case "StructuredOutputError":
      return { reason: reason.description, text: reason.responseText }
    case "ToolParameterValidationError":
      return { reason: `${reason.toolName}: ${reason.description}`, text: "" }
    case "ToolNotFoundError":
      return { reason: reason.message, text: "" }
    default:
      return undefined
  }
}

/**
 * The messages to a model whose answer does not fit: the answer as the model's turn, and why it does not fit. {@link asking}
 * appends them to the prompt. Append them yourself to ask again after a handler has rejected an answer.
 */
export const correction = (reason: string, answer = ""): Prompt.Prompt =>
  Prompt.make([
    ...(answer === "" ? [] : [{ role: "assistant" as const, content: answer }]),
    {
      role: "user" as const,
      content: `That answer cannot be used: ${reason}\nAnswer again, completely, in the form that was asked for.`
    }
  ])

/** The first prompt, and how often to ask again. */
export interface Repair {
  readonly prompt: Prompt.RawInput
  readonly repair?: number | undefined
}

/**
 * Asks until an answer fits. Each answer is an attempt of the run; one that does not fit is refused with its reason. Fails
 * with the error of the last request when no repair is left, and at once with errors that are not about an answer.
 */
export const asking = Effect.fnUntraced(function*<A, E, R>(
  run: Run,
  options: Repair,
  ask: (prompt: Prompt.Prompt, isLast: boolean) => Effect.Effect<A, E, R>
) {
  const listener = yield* listen(run)
  let prompt = Prompt.make(options.prompt)
  for (let left = options.repair ?? 0;; left--) {
    const result = yield* Effect.result(listener.whileAsking(ask(prompt, left <= 0)))
    if (Result.isSuccess(result)) return result.success
    const unfit = yield* tellUnfit(run, result.failure, listener)
    if (unfit === undefined || left <= 0) return yield* Effect.fail(result.failure)
    prompt = Prompt.concat(prompt, correction(unfit.reason, unfit.text))
  }
})

/** Refuses the last answer, if the error is about it. Returns the reason and the answer's text. */
export const tellUnfit = Effect.fnUntraced(function*(run: Run, error: unknown, listener: Listener) {
  const unfit = unfitOf(error)
  if (unfit === undefined) return undefined
  const answer = listener.last()
  // refused by the provider's own layer: only the error and the span of the request still tell of the answer
  if (answer === undefined) {
    yield* run.answered({ ...(unfit.text === "" ? {} : { text: unfit.text }), facts: listener.asked() })
  }
  yield* run.refused(unfit.reason)
  return { reason: unfit.reason, text: answer?.text ?? unfit.text } satisfies Unfit
})
