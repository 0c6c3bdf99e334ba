/**
 * Texts that others wrote (a model, a caller, another user of the database), made safe to print. Ids, reasons and messages
 * may hold anything. A terminal obeys escape sequences, a line end begins a line that looks like one of ours, and a
 * bidi control or an invisible character makes one text look like another.
 *
 * Such a character is written as `\uXXXX`, one for each UTF-16 unit. Letters, marks, signs and emoji of all scripts stay.
 */

/** Control, format, unassigned and private-use characters, lone surrogates, line ends, and what no font shows. */
const unsafe = /[\p{C}\p{Zl}\p{Zp}\p{DI}]|(?<=\p{M}{8})\p{M}/gu

const scripts = ["Arab", "Deva", "Beng", "Guru", "Gujr", "Orya", "Taml", "Telu", "Knda", "Mlym", "Sinh"]
const joining = `[${scripts.map((script) => `\\p{sc=${script}}`).join("")}]`

/**
 * Invisible characters that an emoji or a script needs: joiners within an emoji, a sign's choice of its emoji form, joiners
 * between letters of Arabic and of the scripts of India.
 */
const joiner = new RegExp(
  String.raw`(?<=[\p{ExtPict}\p{EMod}\ufe0f])\u200d(?=\p{ExtPict})|(?<=[\p{ExtPict}0-9#*])\ufe0f|` +
    String.raw`(?<=${joining})[\u200c\u200d](?=${joining})`,
  "uy"
)

// most texts are plain, and this is asked for every chunk that a log line names
const isPlain = (text: string): boolean => /^[\x20-\x7e]*$/.test(text)

const units = (text: string): string =>
  Array.from(
    { length: text.length },
    (_, at) => `\\u${text.charCodeAt(at).toString(16).padStart(4, "0")}`
  ).join("")

/** Within a text that is JSON already, or one that is only looked at. */
export const escapeUnsafe = (text: string): string => isPlain(text) ? text : text.replaceAll(unsafe, units)

/**
 * A text in which nothing is invisible or steers a terminal, on one line. No two texts become the same: a backslash that
 * could be read as the beginning of an escape is escaped as well. {@link unescape} is the way back.
 */
export const escape = (text: string): string => escapeUnsafe(text.replaceAll(/\\(?=u[0-9a-f]{4})/gi, "\\u005c"))

/** A text as a person typed or copied it: `\uXXXX` is the character. */
export const unescape = (text: string): string =>
  text.replaceAll(/\\u([0-9a-f]{4})/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))

/** Prose for one line of a screen: as {@link escape}, but what is harmless in a sentence stays, as in an emoji of several. */
export const escapeProse = (text: string): string =>
  isPlain(text)
    ? text
    : text.replaceAll(unsafe, (found, at: number) => {
      joiner.lastIndex = at
      return joiner.test(text) ? found : units(found)
    })

// what a shell reads within double quotes, and what ends them
const ofShells = /["$`!]|\\(?!u[0-9a-f]{4})/gi

/**
 * A text in quotation marks. Copied with them into a shell it is one argument, and the argument is the escaped text: the
 * shell finds nothing in it to expand, and a flag cannot be made of it.
 */
export const quoted = (text: string): string => `"${escape(text).replaceAll(ofShells, units).replace(/^-/, "\\u002d")}"`

const isWord = (text: string): boolean => /^[\p{L}\p{N}_.:@/+][\p{L}\p{M}\p{N}_.:@/+-]*$/u.test(text)

/** A name as one word: as it is where a shell and a reader take it so, else {@link quoted}. */
export const word = (text: string): string => isWord(text) && escape(text) === text ? text : quoted(text)
