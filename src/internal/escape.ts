/**
 * Makes text from outside (a model, a caller, another user of the database) safe to print. Ids, reasons and messages
 * may contain anything: a terminal obeys escape sequences, a line end starts a line that looks like one of Sluice's,
 * and a bidi control or an invisible character makes one text look like another.
 *
 * Each such character is written as `\uXXXX`, one per UTF-16 unit. Letters, marks, signs and emoji of all scripts stay.
 */

/**
 * Control, format, unassigned and private-use characters, lone surrogates, line ends, and characters that fonts do not
 * show.
 */
const unsafe = /[\p{C}\p{Zl}\p{Zp}\p{DI}\u2800]|(?<=\p{M}{8})\p{M}/gu
/** Blanks of another width: a sentence may have them, but in a name one looks like the other. */
const otherBlanks = /(?! )\p{Zs}/gu

const scripts = ["Arab", "Deva", "Beng", "Guru", "Gujr", "Orya", "Taml", "Telu", "Knda", "Mlym", "Sinh"]
const joining = `[${scripts.map((script) => `\\p{sc=${script}}`).join("")}]`

/**
 * Invisible characters that an emoji or a script needs: joiners within an emoji, the variation selector of a sign's
 * emoji form, joiners between letters of Arabic and of the scripts of India.
 */
const joiner = new RegExp(
  String.raw`(?<=[\p{ExtPict}\p{EMod}\ufe0f])\u200d(?=\p{ExtPict})|(?<=[\p{ExtPict}0-9#*])\ufe0f|` +
    String.raw`(?<=${joining})[\u200c\u200d](?=${joining})`,
  "uy"
)

// most texts are plain, and this runs for every chunk that a log line names
const isPlain = (text: string): boolean => /^[\x20-\x7e]*$/.test(text)

const units = (text: string): string =>
  Array.from(
    { length: text.length },
    (_, at) => `\\u${text.charCodeAt(at).toString(16).padStart(4, "0")}`
  ).join("")

/** Escapes unsafe characters only, for text that is already JSON or is only displayed. */
export const escapeUnsafe = (text: string): string => isPlain(text) ? text : text.replaceAll(unsafe, units)

/**
 * Escapes a text: the result is on one line and has no invisible or terminal control characters. Two texts never become
 * the same: a backslash that could start an escape is escaped too. {@link unescape} reverses it.
 */
export const escape = (text: string): string => {
  const once = text.replaceAll(/\\(?=u[0-9a-f]{4})/gi, "\\u005c")
  return isPlain(once) ? once : escapeUnsafe(once).replaceAll(otherBlanks, units)
}

/** Decodes text that a person typed or copied: `\uXXXX` becomes the character. */
export const unescape = (text: string): string =>
  text.replaceAll(/\\u([0-9a-f]{4})/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))

/**
 * Escapes prose for one line of a screen: like {@link escape}, but keeps characters that are harmless in a sentence,
 * like the joiners of an emoji.
 */
export const escapeProse = (text: string): string =>
  isPlain(text)
    ? text
    : text.replaceAll(unsafe, (found, at: number) => {
      joiner.lastIndex = at
      return joiner.test(text) ? found : units(found)
    })

// characters that a shell interprets within double quotes, or that end them
const ofShells = /["$`!]|\\(?!u[0-9a-f]{4})/gi

/**
 * Escapes and quotes a text. Copied with the quotes into a shell it is one argument, the escaped text: the shell
 * expands nothing in it, and it cannot become a flag.
 */
export const quoted = (text: string): string => `"${escape(text).replaceAll(ofShells, units).replace(/^-/, "\\u002d")}"`

const isWord = (text: string): boolean => /^[\p{L}\p{N}_.:@/+][\p{L}\p{M}\p{N}_.:@/+-]*$/u.test(text)

/** A name as one word: unchanged where a shell and a reader take it literally, else {@link quoted}. */
export const word = (text: string): string => isWord(text) && escape(text) === text ? text : quoted(text)
