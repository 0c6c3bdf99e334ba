/**
 * Splits SQL text into tokens, precisely enough to find its statements and function calls.
 */

/** A token: a word in lower case, a quoted identifier without its quotes, or a symbol. */
export interface Token {
  readonly kind: "word" | "quoted" | "symbol" | "literal"
  readonly text: string
}

/** The tokens of each statement in a text, or `undefined` when the text is ambiguous without the session's settings. */
export type Statements = ReadonlyArray<ReadonlyArray<Token>> | undefined

// Postgres' own classes: these are its spaces and line ends, and every character beyond ASCII is part of a name
const space = /[ \t\n\r\f\v]+/y
const lineComment = /--[^\n\r]*/y
const word = /[A-Za-z_\u0080-\u{10ffff}][\w$\u0080-\u{10ffff}]*/uy
const number = /\d[\w.]*/y
const parameter = /\$\d+/y
const quotedIdentifier = /"(?:[^"]|"")*"/y
const plainString = /'(?:[^']|'')*'/y
const escapeString = /[eE]'(?:[^'\\]|\\[^]|'')*'/y
const dollarTag = /\$(?:[A-Za-z_\u0080-\u{10ffff}][\w\u0080-\u{10ffff}]*)?\$/uy

/** The end of the comment that begins at `from`: such comments nest. */
const endOfComment = (sql: string, from: number): number => {
  let depth = 0
  for (let at = from; at < sql.length; at++) {
    if (sql.startsWith("/*", at)) {
      depth++
      at++
    } else if (sql.startsWith("*/", at)) {
      depth--
      at++
      if (depth === 0) return at + 1
    }
  }
  return sql.length
}

/**
 * Tokenizes SQL text. Returns `undefined` for ambiguous text: an unfinished quote, or a plain string with a backslash before
 * a quote, whose end depends on `standard_conforming_strings`.
 */
export const tokenize = (sql: string): Statements => {
  const statements: Array<ReadonlyArray<Token>> = []
  let tokens: Array<Token> = []
  let at = 0
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at
    const found = pattern.exec(sql)?.[0]
    if (found !== undefined) at += found.length
    return found
  }
  const literal = () => tokens.push({ kind: "literal", text: "" })
  while (at < sql.length) {
    if (match(space) !== undefined || match(lineComment) !== undefined) continue
    if (sql.startsWith("/*", at)) {
      at = endOfComment(sql, at)
      continue
    }
    if (match(escapeString) !== undefined) {
      literal()
      continue
    }
    const string = match(plainString)
    if (string !== undefined) {
      if (string.includes("\\'")) return undefined
      literal()
      continue
    }
    const quoted = match(quotedIdentifier)
    if (quoted !== undefined) {
      tokens.push({ kind: "quoted", text: quoted.slice(1, -1).replaceAll("\"\"", "\"") })
      continue
    }
    if (match(parameter) !== undefined) {
      literal()
      continue
    }
    const tag = match(dollarTag)
    if (tag !== undefined) {
      const end = sql.indexOf(tag, at)
      if (end < 0) return undefined
      at = end + tag.length
      literal()
      continue
    }
    const name = match(word)
    if (name !== undefined) {
      tokens.push({ kind: "word", text: name.toLowerCase() })
      continue
    }
    if (match(number) !== undefined) {
      literal()
      continue
    }
    const symbol = sql[at]!
    if (symbol === "'" || symbol === "\"") return undefined
    at++
    if (symbol === ";") {
      if (tokens.length > 0) statements.push(tokens)
      tokens = []
      continue
    }
    tokens.push({ kind: "symbol", text: symbol })
  }
  if (tokens.length > 0) statements.push(tokens)
  return statements
}
