/**
 * Decodes invalid answers again, which are paid for: after a fix of the schema they are recorded like any call, without
 * asking a model.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { ChunkStore } from "./ChunkStore.ts"
import { HandlerRegistry } from "./HandlerRegistry.ts"
import { callProblem } from "./internal/callProblem.ts"
import { decodeAgain } from "./internal/decodeAgain.ts"
import { quote } from "./internal/quote.ts"
import * as Settings from "./Settings.ts"

/** An answer was not decoded. Nothing has changed. */
export class NotDecoded extends Schema.TaggedError<NotDecoded>()("NotDecoded", {
  callId: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `the answer of call ${quote(this.callId)} is not decoded: ${this.reason}`
  }
}

/**
 * Decodes the latest text of an invalid call with the schema of a handler of its namespace, and records the call with it.
 * Without `schema` exactly one of the namespace's handlers must be able to decode the text. Several tool calls of one answer
 * (`Answer.generateToolCalls`) are outputs of the handlers that they name, if one of them fits. A list of which one element
 * fits becomes an output for each element, as by `Output.each` without `part`. Nothing is paid and no usage
 * is added: the answer was counted when it arrived. Returns the recorded call.
 *
 * A call that has begun to run again is left to that run: this fails with {@link NotDecoded}, and the text is kept.
 *
 * ```ts
 * yield* InvalidAnswers.decode("call-17", { schema: PatientReply.identity })
 * ```
 */
export const decode = Effect.fn("InvalidAnswers.decode")(function*(
  callId: string,
  options: { readonly schema?: string | undefined } = {}
) {
  const store = yield* ChunkStore
  const registry = yield* HandlerRegistry
  const settings = yield* Settings.Settings
  const not = (reason: string) => new NotDecoded({ callId, reason })
  const found = Option.getOrUndefined(yield* store.find(callId))
  if (found === undefined) return yield* not("there is no such call")
  if (found.status !== "invalid") return yield* not(`the call is not invalid but ${found.status}`)
  const { call } = found
  const text = found.attempts.findLast((one) => one.text !== null)
  if (text === undefined || text.text === null) return yield* not("its text is not kept, or was pruned")
  if (text.length > text.text.length) {
    return yield* not(`only ${text.text.length} of its ${text.length} characters were kept`)
  }
  const handlers = registry.servesIn(call.namespace).flatMap(({ schemaIdentity }) => {
    const handler = registry.find(call.namespace, schemaIdentity)
    return handler === undefined || (options.schema ?? schemaIdentity) !== schemaIdentity ? [] : [handler]
  })
  if (handlers.length === 0) {
    return yield* not(`no handler serves ${options.schema ?? "any schema"} in namespace ${quote(call.namespace)}`)
  }
  const decoded = yield* decodeAgain(handlers, text.text)
  if ("reason" in decoded) return yield* not(decoded.reason)
  const recording = { ...call, outputs: decoded.outputs }
  const problem = callProblem(recording, settings)
  if (problem !== undefined) return yield* not(`it cannot be recorded: ${problem.path} ${problem.reason}`)
  const isRecorded = yield* Effect.catchIf(
    store.recordDecoded(recording),
    ({ transient }) => !transient,
    ({ reason }) => not(`the database refuses it: ${reason}`)
  )
  // the call runs again, so a model was asked again
  if (!isRecorded) return yield* not("the call was run again, recorded or erased meanwhile")
  return recording
})
