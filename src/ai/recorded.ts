/**
 * Reads answers back from a recorded call. Every answer comes from there, so it is the same whether the model was asked now
 * or the call had succeeded before.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { quote } from "../internal/quote.ts"
import type * as Output from "../Output.ts"
import type { ServiceCall } from "../ServiceCall.ts"

/**
 * A call has succeeded before, and does not have this output: it was pruned, or the call was recorded by another program.
 */
export class AnswerForgotten extends Schema.TaggedError<AnswerForgotten>()("AnswerForgotten", {
  callId: Schema.String,
  schemaIdentity: Schema.String
}) {
  override get message() {
    return `call ${
      quote(this.callId)
    } has succeeded before, and its record has no ${this.schemaIdentity}: it was pruned, ` +
      `or is another call's. Give a new call an id of its own`
  }
}

/** An answer, and the call it is recorded as. */
export interface Answered<A> {
  /** The value, as it is decoded from the record. */
  readonly value: A
  /** The recorded call. */
  readonly call: ServiceCall
  /** False when the call had succeeded before, and no model was asked. */
  readonly ran: boolean
}

/** An output that a model can be asked for: its JSON is an object, as providers demand. */
// providers' codecs are typed with records of `any`
export type Answerable = Output.Any & { readonly schema: Schema.Codec<unknown, { readonly [key: string]: any }> }

/**
 * The value of a call's output, decoded through the output's upcasts. Fails with {@link AnswerForgotten} when the call has
 * no such output, and as `Output.decode` does.
 */
export const valueOf = Effect.fnUntraced(function*<O extends Output.Any>(
  output: O,
  call: ServiceCall,
  part = ""
) {
  const recorded = call.outputs.find((one) => one.schema === output.identity && (one.part ?? "") === part)
  if (recorded === undefined) {
    return yield* new AnswerForgotten({ callId: call.callId, schemaIdentity: output.identity })
  }
  return (yield* output.decode(recorded.data, recorded.version)) as Output.Value<O>
})
