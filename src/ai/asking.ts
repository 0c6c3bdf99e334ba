/**
 * Asks a model, and asks again with the reason when the answer does not fit, as often as the repair policy allows.
 */
import * as Prompt from "effect/ai/Prompt"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Run } from "../CallAttempt.ts"
import { listen, type Listener } from "./answers.ts"
import type { Cost } from "./options.ts"
import { type Unfit, unfitOf } from "./unfit.ts"

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
  readonly cost?: Cost | undefined
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
  const listener = yield* listen(run, options.cost)
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
  yield* run.refused(unfit.reason)
  return { reason: unfit.reason, text: listener.last()?.text ?? unfit.text } satisfies Unfit
})
