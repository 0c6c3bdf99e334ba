/**
 * Tells errors that are about an answer from those of the provider.
 */
import * as AiError from "effect/ai/AiError"
import * as Predicate from "effect/Predicate"
import type { HandlerRejected } from "../Handler.ts"

/** Why an answer does not fit, and its text if the error has it. */
export interface Unfit {
  readonly reason: string
  readonly text: string
}

/** By its tag: a bundled program may have the class twice. */
const isRejection = (error: unknown): error is HandlerRejected => Predicate.isTagged(error, "HandlerRejected")

/** Undefined for errors that are not about an answer, such as a rate limit or a broken connection. */
export const unfitOf = (error: unknown): Unfit | undefined => {
  if (isRejection(error)) return { reason: error.reason, text: "" }
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
