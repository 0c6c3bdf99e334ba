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
const dollarTag = /\$(?:[A-Za-z_\u0080-\u{10ffff}][\w\u0080-\u{10ffff}]*)?\$/uy

/**
 * The end of the quoted text that begins at `from`, or undefined if it is unfinished. Not an expression: one with a repeated
 * group takes a stack as long as the text, which may have many megabytes.
 */
const endOfQuoted = (sql: string, from: number, hasEscapes: boolean): number | undefined => {
  const quote = sql[from]
  for (let at = from + 1; at < sql.length; at++) {
    if (hasEscapes && sql[at] === "\\") at++
    else if (sql[at] === quote && sql[++at] !== quote) return at
  }
  return undefined
}

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
    const isEscape = sql[at + 1] === "'" && (sql[at] === "e" || sql[at] === "E")
    if (isEscape || sql[at] === "'" || sql[at] === "\"") {
      const end = endOfQuoted(sql, isEscape ? at + 1 : at, isEscape)
      if (end === undefined) return undefined
      const quoted = sql.slice(at, end)
      if (sql[at] === "'" && quoted.includes("\\'")) return undefined
      if (sql[at] === "\"") tokens.push({ kind: "quoted", text: quoted.slice(1, -1).replaceAll("\"\"", "\"") })
      else literal()
      at = end
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
    const symbol = sql[at++]!
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
