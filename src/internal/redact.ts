/**
 * Messages for the log without what was recorded. An error may quote an answer, a patient's words or a statement's
 * parameters: whole, cut off or within a sentence.
 */
/** The most characters of a message that are looked at. */
const longest = 300
/** From so many characters on a recorded text is looked for whole. */
const shortest = 4
/**
 * So many characters in a row that are also recorded are a quotation, though they are only a part: `JSON.parse` quotes ten.
 */
const part = 10
/** The most characters of recorded texts that are searched: a message is not worth seconds. */
const mostRecorded = 1024 * 1024

const oneLine = (text: string): string => text.replaceAll(/\s+/gu, " ").trim()

/** The texts and the longer numbers in JSON values. A list and no recursion: rows edited manually may be nested deeply. */
const textsIn = (values: ReadonlyArray<unknown>): ReadonlySet<string> => {
  const found = new Set<string>()
  const rest = [...values]
  while (rest.length > 0) {
    const value = rest.pop()
    if (typeof value === "string" || typeof value === "number") {
      const text = oneLine(String(value))
      if (text.length >= shortest) found.add(text)
    } else if (typeof value === "object" && value !== null) {
      for (const one of Object.values(value)) rest.push(one)
    }
  }
  return found
}

const isWordAt = (text: string, at: number): boolean => /[\p{L}\p{N}_]/u.test(text[at] ?? "")

/** Whether a passage of a text is a word or several, and no piece of one. */
const isWhole = (text: string, from: number, to: number): boolean =>
  !(isWordAt(text, from) && isWordAt(text, from - 1)) && !(isWordAt(text, to - 1) && isWordAt(text, to))

/** In SQLSTATE class 22 the server's message quotes the value that is wrong; elsewhere it quotes names. */
const quotesValues = (sqlstate: string | undefined): boolean => sqlstate?.startsWith("22") === true

/**
 * A message without what it quotes of recorded values, on one line, at most 300 characters long. What is left out is `…`.
 */
export const redact = (message: string, recorded: ReadonlyArray<unknown>, sqlstate?: string): string => {
  const texts = textsIn(recorded)
  const line = oneLine(message).slice(0, longest).toWellFormed()
  const text = quotesValues(sqlstate) ? line.replaceAll(/"[^"]*"?/g, "\"…\"") : line
  const size = [...texts].reduce((sum, one) => sum + one.length, 0)
  if (size > mostRecorded) return "not logged: the call is too large to look for what it quotes"
  const hidden = Array.from({ length: text.length }, () => false)
  for (const one of texts) {
    for (let at = text.indexOf(one); at >= 0; at = text.indexOf(one, at + 1)) {
      if (isWhole(text, at, at + one.length)) hidden.fill(true, at, at + one.length)
    }
  }
  const long = [...texts].filter((one) => one.length >= part)
  for (let at = 0; at + part <= text.length; at++) {
    const piece = text.slice(at, at + part)
    if (piece.trim() === piece && long.some((one) => one.includes(piece))) hidden.fill(true, at, at + part)
  }
  return hidden.map((isHidden, at) => !isHidden ? text[at] : hidden[at - 1] === true ? "" : "…").join("")
}
