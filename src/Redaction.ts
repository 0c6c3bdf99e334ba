/**
 * Redacts recorded JSON for people and logs, by a function of the application. What is recorded, and what handlers receive,
 * stays unchanged.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"
import { jsonProblem } from "./internal/jsonProblem.ts"

/**
 * Hides what must not be seen. It gets each JSON value separately: the data of an output, a context, an answer's text, an
 * error's message. A value for which it throws, or for which it returns no JSON, is not shown at all.
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

/** Replaces a value for which the function fails. */
const hidden = "(hidden: the redact function failed)"

/** What may be seen of a JSON value. */
export const redacted = (redact: Redact, json: Schema.Json): Schema.Json => {
  try {
    const shown: unknown = redact(json)
    // an asynchronous function returns a promise, which nothing awaits: its rejection must not end the process
    if (Predicate.isPromiseLike(shown)) void Promise.resolve(shown).catch(() => undefined)
    // a function without types may return anything
    return jsonProblem(shown, "") === undefined ? shown as Schema.Json : hidden
  } catch {
    return hidden
  }
}

/** What may be seen of a text. */
export const redactedText = (redact: Redact, text: string): string => {
  const shown = redacted(redact, text)
  return typeof shown === "string" ? shown : JSON.stringify(shown)
}
