/** Quotes text from outside in messages, shortened to a readable length. */
import { format } from "effect/Formatter"
import { escape, quoted } from "./escape.ts"

/** The most characters of a text that a message quotes. */
const longest = 120

// may cut a surrogate pair in half
const ends = (text: string, most: number): string =>
  `${text.slice(0, Math.ceil(most / 2))} … ${text.slice(-Math.floor(most / 4))}`.toWellFormed()

/** Shortens a long text: leaves out its middle and appends its length. */
export const shorten = (text: string, most = longest): string =>
  text.length <= most ? text : `${ends(text, most)} (${text.length} characters)`

/**
 * A value from outside, as a message quotes it: a string in quotation marks, without characters that control a
 * terminal; shortened when it is long.
 */
export const quote = (value: unknown): string =>
  typeof value !== "string"
    ? escape(shorten(format(value)))
    : value.length <= longest
    ? quoted(value)
    : `${quoted(ends(value, longest))} (${value.length} characters)`
