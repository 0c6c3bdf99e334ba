/**
 * Describes errors for people: in an error's message, in a chunk's history, in a dead letter. The description has the
 * error's name, its message and its own fields, the innermost cause first, because that says what to fix. Only a defect
 * has its stack as well.
 */
import * as Cause from "effect/Cause"
import { formatJson } from "effect/Formatter"
import * as Predicate from "effect/Predicate"
import { isSqlError, isSqlErrorReason } from "effect/sql/SqlError"
import { escapeProse } from "./escape.ts"
import { shorten } from "./quote.ts"

/** The longest text kept of one failure. */
export const longestReason = 8192

const longestFields = 500
/** The most errors of a chain that are described. */
const deepest = 10

const told = new Set(["name", "message", "stack", "cause", "errors", "_tag"])

const isSimple = (value: unknown): boolean =>
  typeof value !== "object" || value === null
    ? value !== undefined && typeof value !== "function" && typeof value !== "symbol"
    : Array.isArray(value) || [Object.prototype, null].includes(Object.getPrototypeOf(value))

/** The fields of an error that its message does not contain. */
const fieldsOf = (error: object, message: string): string => {
  const fields = Object.entries(error).filter(([name, value]) =>
    !told.has(name) && !name.startsWith("~") && isSimple(value) &&
    !(typeof value === "string" && (value === "" || message.includes(value)))
  )
  return fields.length === 0 ? "" : shorten(formatJson(Object.fromEntries(fields)), longestFields)
}

const textAt = (value: object, key: string): string =>
  Predicate.hasProperty(value, key) && typeof value[key] === "string" ? value[key] : ""

/** Whether an error is what a Postgres server has sent. */
const isOfServer = (error: object): boolean => "routine" in error && "severity" in error

/** The table, column and constraint that a server's error is about, except those that its message names. */
const placeOf = (error: object, message: string): string => {
  const [table, column, constraint] = (["table", "column", "constraint"] as const).map((what) => {
    const name = textAt(error, what)
    return name === "" || message.includes(`"${name}"`) ? "" : `${what} "${name}"`
  })
  const within = [constraint, column].filter((text) => text !== "").join(", ")
  return [within, table].filter((text) => text !== "").join(" of ")
}

/**
 * A server's error as a sentence: `value too long for type character varying(40) (22001): column "ward" of table "visit"`.
 * Its other fields are about the server's source code, or places in a statement that is not shown.
 */
const serverInWords = (error: object): string => {
  const message = textAt(error, "message")
  const code = textAt(error, "code")
  const more = [placeOf(error, message), ...["detail", "hint", "where"].map((name) => textAt(error, name))]
    .filter((text) => text !== "")
    .map((text) => shorten(text.replaceAll(/\s*\n\s*/g, ", ").replace(/\.$/, ""), longestFields))
  return `${message}${code === "" ? "" : ` (${code})`}${more.length === 0 ? "" : `: ${more.join("; ")}`}`
}

/** What caused an error; of several at once, the first. */
const causeOf = (error: unknown): unknown => {
  if (!Predicate.isObject(error)) return undefined
  if (Predicate.hasProperty(error, "cause") && !Predicate.isNullish(error.cause)) return error.cause
  const [first] = Predicate.hasProperty(error, "errors") && Array.isArray(error.errors) ? error.errors : []
  return first instanceof Error ? first : undefined
}

/** An error, what caused it, and so on to the innermost. */
const chainOf = (error: unknown): ReadonlyArray<unknown> => {
  const chain = new Set([error])
  for (let next = causeOf(error); next !== undefined && chain.size < deepest && !chain.has(next);) {
    chain.add(next)
    next = causeOf(next)
  }
  return [...chain]
}

const nameOf = (error: object): string => {
  const name = textAt(error, "_tag") || textAt(error, "name").replace(/^.*\//, "")
  // "Error" says nothing
  return name === "Error" ? "" : name
}

/** One error, without what caused it and without the message that `inner` has already. */
const oneInWords = (error: unknown, inner: string): string => {
  if (typeof error === "string") return error
  if (!Predicate.isObject(error)) {
    return typeof error === "object" && error !== null ? formatJson(error) : String(error)
  }
  if (isOfServer(error)) return serverInWords(error)
  const message = textAt(error, "message")
  const fields = fieldsOf(error, message)
  if (textAt(error, "_tag") === "" && textAt(error, "name") === "" && message === "") {
    return fields === "" ? formatJson(error) : fields
  }
  const parts = [nameOf(error), inner.includes(message) ? "" : message]
  return [parts.filter((part) => part !== "").join(": "), fields].filter((part) => part !== "").join(" ")
}

/** The innermost error first: it says what is wrong. Behind it, in parentheses, the errors that wrap it. */
const chainInWords = (error: unknown): string => {
  let inner = ""
  const around: Array<string> = []
  for (const one of chainOf(error).toReversed()) {
    // the SQL client puts two of its own around the server's error, which say nothing more
    if (inner !== "" && (isSqlError(one) || isSqlErrorReason(one))) continue
    const words = oneInWords(one, [inner, ...around].join(" "))
    if (words === "" || words === inner) continue
    if (inner === "") inner = words
    else around.push(words)
  }
  const [first = "", ...rest] = inner === "" ? ["Error"] : [inner, ...around]
  return rest.length === 0 ? first : `${first} (in ${rest.join(", in ")})`
}

const unreadable = "an error that cannot be read"

const wordsOf = (error: unknown): string => {
  try {
    return chainInWords(error)
  } catch {
    return unreadable
  }
}

/**
 * An error as a person reads it: `Closed {"why":"the ward is closed"}`, `duplicate key … (23505) (in NotSaved:
 * the reply could not be saved)`.
 */
export const describe = (error: unknown): string => shorten(wordsOf(error), longestReason)

const stackLine = /^\s{4,}at /

const stackOf = (reason: Cause.Die): ReadonlyArray<string> =>
  Cause.prettyErrors(Cause.fromReasons([reason])).flatMap((error) =>
    (error.stack ?? "").split("\n").filter((line) => stackLine.test(line))
  )

/** A cause for a chunk's history: each error as text, a defect with its stack. */
export const describeCause = (cause: Cause.Cause<unknown>): string => {
  const lines = cause.reasons.flatMap((reason) => {
    switch (reason._tag) {
      case "Fail":
        return [wordsOf(reason.error)]
      case "Die":
        return [wordsOf(reason.defect), ...stackOf(reason)]
      case "Interrupt":
        return []
    }
  })
  return shorten(lines.length === 0 ? "it was interrupted" : lines.join("\n"), longestReason)
}

/**
 * A cause for the log: like {@link describeCause}, each line escaped and indented. An error may quote text from
 * outside, and the program's logger may print it as it is.
 */
export const causeForLog = (cause: Cause.Cause<unknown>): string =>
  describeCause(cause).split("\n").map((line) => `\n    ${escapeProse(line.trim())}`).join("")

/** The text of {@link describeCause} without the stack of a defect. */
export const withoutStack = (text: string): string =>
  text.split("\n").filter((line) => !stackLine.test(line)).join("\n")

/** The least that tells an error from others: for the log. */
export interface Gist {
  /** The tag or name of the outermost error that has one of its own, else `Error`. */
  readonly tag: string
  /** The SQLSTATE, where there is one. */
  readonly sqlstate: string | undefined
  /** The innermost message, without fields of the server's that quote rows and parameters. */
  readonly message: string
  /** The table and column that the server's error is about, where it says so. */
  readonly table?: string
  readonly column?: string
}

const sqlstateOf = (error: unknown): string | undefined => {
  const code = Predicate.isObject(error) ? textAt(error, "code") : ""
  // all SQLSTATEs that are in use have a digit; Node's own codes have none
  return /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : undefined
}

const messageOf = (error: unknown): string => {
  if (!Predicate.isObject(error)) return oneInWords(error, "")
  const message = textAt(error, "message")
  return message === "" ? fieldsOf(error, "") : message
}

const gistOfError = (error: unknown): Gist => {
  const chain = chainOf(error)
  const ofServer = chain.find((one) => Predicate.isObject(one) && isOfServer(one)) ?? {}
  const [table, column] = [textAt(ofServer, "table"), textAt(ofServer, "column")]
  return {
    ...table === "" ? {} : { table },
    ...column === "" ? {} : { column },
    tag: chain.flatMap((one) => Predicate.isObject(one) ? [nameOf(one)] : []).find((name) => name !== "") ?? "Error",
    sqlstate: chain.map(sqlstateOf).find((code) => code !== undefined),
    message: chain.map(messageOf).findLast((text) => text !== "") ?? ""
  }
}

/** The gist of the first error of a cause. It may quote what was recorded. */
export const gistOf = (cause: Cause.Cause<unknown>): Gist | undefined => {
  const first = cause.reasons.find((reason) => reason._tag !== "Interrupt")
  if (first === undefined) return undefined
  try {
    return gistOfError(first._tag === "Fail" ? first.error : first.defect)
  } catch {
    return { tag: "Error", sqlstate: undefined, message: unreadable }
  }
}
