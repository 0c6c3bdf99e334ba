/**
 * Tells errors that are about an answer from those of the provider.
 */
import * as AiError from "effect/ai/AiError"
import { HandlerRejected } from "../Handler.ts"

/** Why an answer does not fit, and its text if the error has it. */
export interface Unfit {
  readonly reason: string
  readonly text: string
}

/** Undefined for errors that are not about an answer, such as a rate limit or a broken connection. */
export const unfitOf = (error: unknown): Unfit | undefined => {
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
