/**
 * Records whatever an effect that asks a model comes to.
 */
import * as Effect from "effect/Effect"
import { CallRecorder } from "../CallRecorder.ts"
import type { RecordedOutput, ServiceCall } from "../ServiceCall.ts"
import { listen } from "./answers.ts"
import { tellUnfit } from "./asking.ts"
import { type RecordOptions, specOf } from "./options.ts"

/** What became of an effect that was recorded. */
export type Recorded<A> =
  | { readonly ran: true; readonly call: ServiceCall; readonly response: A }
  /** The call had succeeded before: the effect was not run. */
  | { readonly ran: false; readonly call: ServiceCall }

/**
 * Runs an effect that asks a model, in whatever way, as a recorded call: a `Chat`'s turn, several questions, an object that
 * becomes several outputs. Each answer is an attempt of the call with its own facts. `outputs` makes the call's outputs of
 * what the effect came to.
 *
 * A call that has succeeded is not run again: read its outputs with {@link valueOf}. A turn of a `Chat` that is not run is
 * not in the chat's history either.
 *
 * ```ts
 * const schema = Schema.Struct({ reply: PatientReply.schema, mood: Mood.schema })
 * const { call } = yield* chat.generateObject({ prompt, schema }).pipe(
 *   Answer.record({
 *     call: { callId, namespace, service, correlationId: conversationId },
 *     outputs: ({ value }) => Effect.all([PatientReply.encode(value.reply), Mood.encode(value.mood)])
 *   })
 * )
 * const reply = yield* Answer.valueOf(PatientReply, call)
 * ```
 */
export const record = <A, E2, R2>(
  options: RecordOptions & {
    readonly outputs: (response: A) => Effect.Effect<ReadonlyArray<RecordedOutput>, E2, R2>
  }
) =>
<E, R>(ask: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const recorder = yield* CallRecorder
    let response: { readonly came: A } | undefined
    const { call, ran } = yield* recorder.run(
      yield* specOf(options),
      Effect.fnUntraced(function*(run) {
        const listener = yield* listen(run)
        const came = yield* Effect.tapError(
          listener.whileAsking(ask),
          (error) => tellUnfit(run, error, listener)
        )
        response = { came }
        return yield* options.outputs(came)
      })
    )
    const recorded: Recorded<A> = ran && response !== undefined
      ? { ran: true, call, response: response.came }
      : { ran: false, call }
    return recorded
  }).pipe(Effect.withSpan("Answer.record"))
