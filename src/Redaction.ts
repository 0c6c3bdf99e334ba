/**
 * What people and logs are shown of recorded JSON: a function of the application's that hides what they must not see. It
 * changes nothing of what is recorded, handled or given to handlers.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"

/**
 * Hides what must not be seen. It is given each JSON value by itself: the data of an output, a context, an answer's text, an
 * error's message. What it throws at is not shown at all.
 */
export type Redact = (json: Schema.Json) => Schema.Json

/** The function in force; without one, all is shown. The drain's log lines and the command ask it. */
export const Redaction = Context.Reference<Redact>("effect-sluice/Redaction", { defaultValue: () => (json) => json })

/**
 * Puts a function in force.
 *
 * ```ts
 * Drain.layer.pipe(Layer.provide(Redaction.layer((json) => typeof json === "string" ? "…" : json)))
 * ```
 */
export const layer = (redact: Redact): Layer.Layer<never> => Layer.succeed(Redaction, redact)

/** Replaces a value for which the function throws. */
const hidden = "(hidden: the redact function failed)"

/** What may be seen of a JSON value. */
export const redacted = (redact: Redact, json: Schema.Json): Schema.Json => {
  try {
    return redact(json)
  } catch {
    return hidden
  }
}

/** What may be seen of a text. */
export const redactedText = (redact: Redact, text: string): string => {
  const shown = redacted(redact, text)
  return typeof shown === "string" ? shown : JSON.stringify(shown)
}
