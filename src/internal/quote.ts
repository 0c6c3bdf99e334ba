/**
 * Texts of others in messages: quoted, and no longer than a person reads.
 */
import { format } from "effect/Formatter"
import { escape, quoted } from "./escape.ts"

/** The most characters of a text that a message quotes. */
const longest = 120

// may cut a surrogate pair in half
const ends = (text: string, most: number): string =>
  `${text.slice(0, Math.ceil(most / 2))} … ${text.slice(-Math.floor(most / 4))}`.toWellFormed()

/** A text whose middle is left out when it is long; then says how long it was. */
export const shorten = (text: string, most = longest): string =>
  text.length <= most ? text : `${ends(text, most)} (${text.length} characters)`

/**
 * Somebody else's value as a message quotes it: a text in quotation marks, with nothing in it that steers a terminal;
 * shortened when it is long.
 */
export const quote = (value: unknown): string =>
  typeof value !== "string"
    ? escape(shorten(format(value)))
    : value.length <= longest
    ? quoted(value)
    : `${quoted(ends(value, longest))} (${value.length} characters)`
