/**
 * Characters that steer a terminal, fake a line, or cannot be seen, one of each sort; written down here by hand, so that
 * no test takes them from what it tests. What Postgres cannot store (NUL, lone surrogates) is not among them.
 */
export const hostile: ReadonlyArray<readonly [name: string, text: string]> = [
  ["an escape sequence that clears the screen", "\u001b[2J"],
  ["a title of the terminal", "\u001b]0;owned\u0007"],
  ["a bell", "\u0007"],
  ["a backspace", "\b"],
  ["a carriage return", "\r"],
  ["a line end", "\n"],
  ["a tab", "\t"],
  ["a vertical tab", "\u000b"],
  ["a form feed", "\f"],
  ["DEL", "\u007f"],
  ["CSI in one character", "\u009b31m"],
  ["OSC in one character", "\u009d0;owned\u009c"],
  ["the next line of C1", "\u0085"],
  ["a line separator", "\u2028"],
  ["a paragraph separator", "\u2029"],
  ["a right-to-left override", "\u202e"],
  ["an isolate", "\u2066"],
  ["a right-to-left mark", "\u200f"],
  ["an Arabic letter mark", "\u061c"],
  ["a zero-width space", "\u200b"],
  ["a joiner between Latin letters", "\u200d"],
  ["a byte order mark", "\ufeff"],
  ["a soft hyphen", "\u00ad"],
  ["an invisible operator", "\u2063"],
  ["an interlinear annotation", "\ufff9"],
  ["a tag", "\u{e0041}"],
  ["a filler of Hangul", "\u3164"],
  ["a blank of Braille", "\u2800"],
  ["a variation selector", "\ufe00"],
  ["an unassigned character", "\u0378"],
  ["no character", "\ufdd0"],
  ["private use", "\ue000"]
]

/** The characters alone, without what is seen of them. */
const characters = new Set(hostile.flatMap(([, text]) => [...text]).filter((one) => !/[\x20-\x7e]/.test(one)))

/** Those that a text holds, as their code points; a line end only when it stands where none of ours does. */
export const hostileIn = (text: string): ReadonlyArray<string> =>
  [...text].filter((one) => one !== "\n" && characters.has(one)).map((one) => `U+${one.codePointAt(0)?.toString(16)}`)
