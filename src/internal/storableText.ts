/** A text that Postgres can store: it cannot contain NUL, nor half of a surrogate pair. */
export const storableText = (text: string): string => text.replaceAll("\0", "\\0").toWellFormed()
