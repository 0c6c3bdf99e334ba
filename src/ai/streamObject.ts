/**
 * One object from a model, streamed while it is written and recorded when it is finished.
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Run } from "../CallAttempt.ts"
import {
  type CallConflict,
  type CallErased,
  CallRecorder,
  type CallRefused,
  type CallRunning,
  type RunInTransaction
} from "../CallRecorder.ts"
import type { ChunkStoreError } from "../ChunkStore.ts"
import type * as Output from "../Output.ts"
import { listen } from "./answers.ts"
import { tellUnfit } from "./asking.ts"
import { type AskOptions, specWithInput } from "./options.ts"
import { type Answerable, type Answered, type AnswerForgotten, valueOf } from "./recorded.ts"
import { outputOf, toolkitOf } from "./tools.ts"

/** What a streamed answer gives: pieces of its JSON as they are written, and at the end the answer, which is recorded. */
export type Streamed<A> =
  | { readonly _tag: "Delta"; readonly json: string }
  | ({ readonly _tag: "Recorded" } & Answered<A>)

/** What a streamed answer fails with. */
export type StreamError =
  | AiError.AiError
  | Schema.SchemaError
  | Output.UnknownVersion
  | AnswerForgotten
  | CallRefused
  | CallConflict
  | CallErased
  | CallRunning
  | RunInTransaction
  | ChunkStoreError

const unfit = (description: string, responseText = "") =>
  AiError.make({
    module: "Answer",
    method: "streamObject",
    reason: new AiError.StructuredOutputError({ description, responseText })
  })

/** Asks for the output's one tool, emits each piece of its parameters, and returns them as an output. */
const streamed = Effect.fnUntraced(function*(
  run: Run,
  output: Answerable,
  { cost, prompt }: AskOptions,
  tell: (json: string) => void
) {
  const listener = yield* listen(run, cost)
  const clock = yield* Clock.Clock
  const begun = clock.currentTimeMillisUnsafe()
  let firstAfter: number | undefined
  /** The id of the tool call that is the answer: a model may make several, also of tools that it was not given. */
  let id: string | undefined
  let called: { readonly params: unknown } | undefined
  const reading = LanguageModel.streamText({
    prompt,
    toolkit: toolkitOf([output]),
    toolChoice: { tool: output.shortName },
    disableToolCallResolution: true,
    toolCallValidation: "deferred"
  }).pipe(Stream.runForEach((part) =>
    Effect.sync(() => {
      if (part.type === "tool-params-start" && part.name === output.shortName) id ??= part.id
      else if (part.type === "tool-params-delta" && part.id === id) {
        firstAfter ??= clock.currentTimeMillisUnsafe() - begun
        tell(part.delta)
      } else if (part.type === "tool-call" && part.name === output.shortName) called ??= part
    })
  ))
  return yield* Effect.gen(function*() {
    yield* listener.whileAsking(
      reading,
      () => firstAfter === undefined ? {} : { timeToFirstTokenMillis: Math.max(0, Math.round(firstAfter)) }
    )
    if (called === undefined) return yield* unfit("it does not call the tool")
    const { problem, recorded } = yield* outputOf(output, called.params, "")
    if (problem !== undefined || recorded === undefined) return yield* unfit(problem ?? "")
    return [recorded]
  }).pipe(Effect.tapError((error) => tellUnfit(run, error, listener)))
})

/**
 * Like {@link generateObject}, but emits the answer's JSON piece by piece while the model writes it. The last element is the
 * answer; when it arrives, the call is recorded. A call that has succeeded emits only that element. Asks with a tool,
 * because models stream objects in no other way. The time to the first token is one of its facts.
 *
 * When the reader stops, the model is stopped: the pieces so far are kept as a failed attempt, and the call can be run
 * again. To finish and record the answer without a reader, run the stream in a fiber that outlives the reader.
 *
 * ```ts
 * Answer.streamObject(PatientReply, {
 *   call: { callId, namespace: "chatlab", service: "services.chatlab.standardized_patient.generate-reply" },
 *   prompt: "Where does it hurt?"
 * }).pipe(
 *   Stream.map((piece) => piece._tag === "Delta" ? piece.json : "")
 * )
 * ```
 */
export const streamObject = <O extends Answerable>(
  output: O,
  options: AskOptions
): Stream.Stream<Streamed<Output.Value<O>>, StreamError, LanguageModel.LanguageModel | CallRecorder> =>
  Stream.unwrap(Effect.gen(function*() {
    const recorder = yield* CallRecorder
    const spec = yield* specWithInput(options)
    const pieces = yield* Queue.unbounded<Streamed<Output.Value<O>>, StreamError | Cause.Done>()
    const tell = (json: string) => void Queue.offerUnsafe(pieces, { _tag: "Delta", json })
    const recording = yield* Effect.gen(function*() {
      const { call, ran } = yield* recorder.run(spec, (run) => streamed(run, output, options, tell))
      const value = yield* valueOf(output, call)
      yield* Queue.offer(pieces, { _tag: "Recorded", value, call, ran })
    }).pipe(
      Effect.onExit((exit) => Exit.isSuccess(exit) ? Queue.end(pieces) : Queue.failCause(pieces, exit.cause)),
      Effect.forkScoped
    )
    // what had come is recorded before the reader goes on
    yield* Effect.addFinalizer(() => Fiber.interrupt(recording))
    return Stream.fromQueue(pieces)
  })).pipe(Stream.withSpan("Answer.streamObject"))
