/**
 * Passes all recorded JSON that the command shows, and errors that may quote it, through the application's `redact`, for
 * text and for JSON output.
 */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { CallView, FailureRecord } from "../CallView.ts"
import type { DeadLetter, DeadLetterDetail } from "../DeadLetters.ts"
import type { SubscriptionStatus } from "../EventLog.ts"
import type { InvalidCall, Scheduled, StuckChunk } from "../Inspector.ts"
import { type Redact, redacted, redactedText, Redaction } from "../Redaction.ts"

const isJsonObject = (json: Schema.Json): json is { readonly [key: string]: Schema.Json } =>
  typeof json === "object" && json !== null && !Array.isArray(json)

const textOrNull = (redact: Redact, text: string | null): string | null =>
  text === null ? null : redactedText(redact, text)

const contextOf = (redact: Redact, context: CallView["context"]): CallView["context"] => {
  const shown = redacted(redact, context)
  return isJsonObject(shown) ? shown : { redacted: shown }
}

/** The data of an output, and not its schema and version. */
const outputOf = (redact: Redact, output: Schema.Json): Schema.Json =>
  isJsonObject(output) && output.data !== undefined
    ? { ...output, data: redacted(redact, output.data) }
    : redacted(redact, output)

const failureOf = (redact: Redact, failure: FailureRecord): FailureRecord => (
  { ...failure, message: redactedText(redact, failure.message) }
)

/** What may be seen of a call. */
export const call = (view: CallView): Effect.Effect<CallView> =>
  Effect.map(Redaction, (redact) => ({
    ...view,
    error: textOrNull(redact, view.error),
    context: contextOf(redact, view.context),
    attempts: view.attempts.map((attempt) => ({
      ...attempt,
      text: textOrNull(redact, attempt.text),
      error: textOrNull(redact, attempt.error)
    })),
    outputs: view.outputs === null ? null : view.outputs.map((output) => outputOf(redact, output)),
    chunks: view.chunks.map((chunk) => ({
      ...chunk,
      failures: chunk.failures.map((failure) => failureOf(redact, failure)),
      death: chunk.death === null
        ? null
        : { ...chunk.death, message: redactedText(redact, chunk.death.message) }
    }))
  }))

/** What may be seen of calls whose answer did not fit. */
export const invalidCalls = (all: ReadonlyArray<InvalidCall>): Effect.Effect<ReadonlyArray<InvalidCall>> =>
  Effect.map(Redaction, (redact) => all.map((call) => ({ ...call, error: redactedText(redact, call.error) })))

const letterOf = (redact: Redact, letter: DeadLetter): DeadLetter => (
  { ...letter, message: redactedText(redact, letter.message) }
)

/** What may be seen of dead letters. */
export const letters = (all: ReadonlyArray<DeadLetter>): Effect.Effect<ReadonlyArray<DeadLetter>> =>
  Effect.map(Redaction, (redact) => all.map((letter) => letterOf(redact, letter)))

/** The same, with their data and failures. */
export const details = (all: ReadonlyArray<DeadLetterDetail>): Effect.Effect<ReadonlyArray<DeadLetterDetail>> =>
  Effect.map(Redaction, (redact) =>
    all.map(({ data, failures, letter }) => ({
      letter: letterOf(redact, letter),
      failures: failures.map((failure) => failureOf(redact, failure)),
      data: data === null ? null : redacted(redact, data)
    })))

/** What may be seen of stuck chunks. */
export const stuck = (all: ReadonlyArray<StuckChunk>): Effect.Effect<ReadonlyArray<StuckChunk>> =>
  Effect.map(Redaction, (redact) => all.map((chunk) => ({ ...chunk, error: textOrNull(redact, chunk.error) })))

/** What may be seen of the chunks that wait for another attempt. */
export const scheduled = (found: Scheduled): Effect.Effect<Scheduled> =>
  Effect.map(Redaction, (redact) => ({
    ...found,
    message: found.message === undefined ? undefined : redactedText(redact, found.message)
  }))

/** What may be seen of subscriptions. */
export const subscriptions = (
  all: ReadonlyArray<SubscriptionStatus>
): Effect.Effect<ReadonlyArray<SubscriptionStatus>> =>
  Effect.map(Redaction, (redact) => all.map((one) => ({ ...one, lastError: textOrNull(redact, one.lastError) })))
