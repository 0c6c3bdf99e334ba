/**
 * The options of every function of `effect-sluice/ai`: the id of the call it records, or the key for the id, and whether the
 * prompt is recorded.
 */
import * as Prompt from "effect/ai/Prompt"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { CallFacts } from "../CallFacts.ts"
import { CallRefused } from "../CallRecorder.ts"
import { limitProblem } from "../internal/callProblem.ts"
import type { CallSpec } from "../ServiceCall.ts"

/**
 * The call to record: the fields of a `CallSpec`, with its id given as `callId`, or derived from `key`. The same request
 * must have the same id or key whenever it is delivered again: then it is answered from the record.
 */
export type CallOptions =
  & Omit<CallSpec, "callId" | "input">
  & (
    | { readonly callId: string; readonly key?: never }
    /** A text that is not empty and names the request among those to the same service: see {@link callIdOf}. */
    | { readonly key: string; readonly callId?: never }
  )

/** Which call an answer is recorded as. */
export interface RecordOptions {
  /** The call, with its id or its key. */
  readonly call: CallOptions
  /**
   * What an answer costs, from its facts: providers report tokens, but no price. It is called for each answer, also for one
   * that does not fit; `micros` are rounded. If it throws, the cost is unknown.
   *
   * ```ts
   * // 0.25 and 2 dollars for a million tokens
   * const cost: Answer.Cost = ({ inputTokens = 0, outputTokens = 0 }) => (
   *   { micros: inputTokens / 4 + 2 * outputTokens, currency: "USD" }
   * )
   * ```
   */
  readonly cost?: Cost | undefined
}

/** What an answer costs, from its facts; undefined if that is unknown. */
export type Cost = (facts: CallFacts) => CallFacts["cost"] | undefined

/** What is asked, and which call the answer is recorded as. */
export interface AskOptions extends RecordOptions {
  /** What is asked, as for `LanguageModel`: a text, messages, or a `Prompt`. */
  readonly prompt: Prompt.RawInput
  /**
   * What is recorded of the prompt as the call's `input`. Default: nothing. `"prompt"`: all of it. A function: what it
   * returns, which is the place to redact. The input is content: the same call id with another input is a
   * `CallConflict`. Handlers receive it, too.
   */
  readonly input?: "prompt" | ((prompt: Prompt.PromptEncoded) => Schema.Json) | undefined
}

/**
 * The call id that is derived from a key: 64 hexadecimal digits, the SHA-256 of namespace, service and key. To look such a
 * call up, for example with `sluice show`.
 */
export const callIdOf = (
  { key, namespace, service }: { readonly namespace: string; readonly service: string; readonly key: string }
): Effect.Effect<string> =>
  Effect.map(
    Effect.promise(() =>
      crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify([namespace, service, key])))
    ),
    (digest) => Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("")
  )

const encodePrompt = Schema.encodeEffect(Prompt.Prompt)

/** The call without its input. */
export const specOf = Effect.fnUntraced(function*({ call: { callId, key, ...call } }: RecordOptions) {
  if (callId !== undefined) return { ...call, callId } satisfies CallSpec
  // otherwise all requests without a key would be one call, and get the first one's answer
  if (typeof key !== "string" || key === "") {
    return yield* new CallRefused({ callId: "", path: "key", reason: "must be a text that is not empty" })
  }
  return { ...call, callId: yield* callIdOf({ ...call, key }) } satisfies CallSpec
})

/** The call with what is to be recorded of the prompt. Fails if `repair` is not a whole number of 0 or more. */
export const specWithInput = Effect.fnUntraced(
  function*(options: AskOptions & { readonly repair?: number | undefined }) {
    const spec = yield* specOf(options)
    const problem = limitProblem("repair", options.repair ?? 0)
    if (problem !== undefined) return yield* new CallRefused({ callId: spec.callId, ...problem })
    if (options.input === undefined) return spec
    // a prompt that cannot be encoded is a defect of the program; no model was asked yet
    const prompt = yield* Effect.orDie(encodePrompt(Prompt.make(options.prompt)))
    // an encoded prompt is JSON; its type has optional fields
    const input = (options.input === "prompt" ? prompt : options.input(prompt)) as Schema.Json
    return { ...spec, input } satisfies CallSpec
  }
)
