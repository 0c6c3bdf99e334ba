/**
 * Records the result of any effect that asks a model.
 */
import * as Effect from "effect/Effect"
import { CallRecorder } from "../CallRecorder.ts"
import type { RecordedOutput, ServiceCall } from "../ServiceCall.ts"
import { listen } from "./answers.ts"
import { tellUnfit } from "./asking.ts"
import { type RecordOptions, specOf } from "./options.ts"

/** The result of a recorded effect. */
export type Recorded<A> =
  | { readonly ran: true; readonly call: ServiceCall; readonly response: A }
  /** The call had succeeded before: the effect was not run. */
  | { readonly ran: false; readonly call: ServiceCall }

/**
 * Runs any effect that asks a model as a recorded call: a turn of a `Chat`, several questions, an object that becomes
 * several outputs. Each answer is an attempt of the call with its own facts. `outputs` makes the call's outputs from the
 * effect's result.
 *
 * A call that has succeeded is not run again: read its outputs with {@link valueOf}. A turn of a `Chat` that is not run is
 * not in the chat's history either.
 *
 * ```ts
 * const service = "services.chatlab.standardized_patient.generate-reply"
 * const chat = yield* Chat.fromPrompt([{ role: "system", content: "You are a patient with a sore knee." }])
 * const turn = chat.generateObject({
 *   prompt: "Where does it hurt?",
 *   schema: Schema.Struct({ reply: PatientReply.schema, feedback: Feedback.schema })
 * })
 * const { call } = yield* Answer.record(turn, {
 *   call: { callId, namespace: "chatlab", service },
 *   outputs: ({ value }) => Effect.all([PatientReply.encode(value.reply), Feedback.encode(value.feedback)])
 * })
 * const reply = yield* Answer.valueOf(PatientReply, call)
 * ```
 */
export const record = Effect.fn("Answer.record")(function*<A, E, R, E2, R2>(
  ask: Effect.Effect<A, E, R>,
  options: RecordOptions & {
    readonly outputs: (response: A) => Effect.Effect<ReadonlyArray<RecordedOutput>, E2, R2>
  }
) {
  const recorder = yield* CallRecorder
  let response: { readonly came: A } | undefined
  const { call, ran } = yield* recorder.run(
    yield* specOf(options),
    Effect.fnUntraced(function*(run) {
      const listener = yield* listen(run, options.cost)
      const came = yield* Effect.tapError(listener.whileAsking(ask), (error) => tellUnfit(run, error, listener))
      response = { came }
      return yield* options.outputs(came)
    })
  )
  const recorded: Recorded<A> = ran && response !== undefined
    ? { ran: true, call, response: response.came }
    : { ran: false, call }
  return recorded
})
