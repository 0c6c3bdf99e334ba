/**
 * Describes errors as text for people: in an error's message, in a chunk's history, in a dead letter. The text has the
 * error's name, its message, its own fields, and its cause. Only a defect includes its stack: for expected errors the
 * place in the program helps the reader little.
 */
import * as Cause from "effect/Cause"
import { formatJson } from "effect/Formatter"
import * as Predicate from "effect/Predicate"
import { escapeProse } from "./escape.ts"
import { shorten } from "./quote.ts"

/** The longest text kept of one failure. */
export const longestReason = 8192

const longestFields = 500
// also ends an error that is its own cause
const deepest = 5

// fields that a Postgres server adds about itself, not about the statement
const ofTheServer = new Set(["severity", "severityUnlocalized", "file", "line", "routine"])
const told = new Set(["name", "message", "stack", "cause", "_tag"])

const isSimple = (value: unknown): boolean =>
  typeof value !== "object" || value === null
    ? value !== undefined && typeof value !== "function" && typeof value !== "symbol"
    : Array.isArray(value) || [Object.prototype, null].includes(Object.getPrototypeOf(value))

/** The fields of an error that its message does not contain. */
const fieldsOf = (error: object, message: string): string => {
  const hidden = "routine" in error && "severity" in error ? ofTheServer : undefined
  const fields = Object.entries(error).filter(([name, value]) =>
    !told.has(name) && !hidden?.has(name) && !name.startsWith("~") && isSimple(value) &&
    !(typeof value === "string" && (value === "" || message.includes(value)))
  )
  return fields.length === 0 ? "" : shorten(formatJson(Object.fromEntries(fields)), longestFields)
}

const textAt = (value: object, key: string): string =>
  Predicate.hasProperty(value, key) && typeof value[key] === "string" ? value[key] : ""

const describeAt = (error: unknown, depth: number): string => {
  if (typeof error === "string") return error
  if (!Predicate.isObject(error)) {
    return typeof error === "object" && error !== null ? formatJson(error) : String(error)
  }
  const message = textAt(error, "message")
  const name = textAt(error, "_tag") || textAt(error, "name").replace(/^.*\//, "")
  const fields = fieldsOf(error, message)
  if (name === "" && message === "") return fields === "" ? formatJson(error) : fields
  const cause = Predicate.hasProperty(error, "cause") ? error.cause : undefined
  const because = Predicate.isNullish(cause) || depth >= deepest ? "" : describeAt(cause, depth + 1)
  // the name "Error" adds nothing, and some errors only repeat the message of their cause
  const parts = [name === "Error" ? "" : name, message === "" || because.includes(message) ? "" : message]
  const own = [parts.filter((part) => part !== "").join(": "), fields].filter((part) => part !== "").join(" ")
  return [own, because].filter((part) => part !== "").join(": ") || "Error"
}

const wordsOf = (error: unknown): string => {
  try {
    return describeAt(error, 0)
  } catch {
    return "an error that cannot be read"
  }
}

/** An error as text: `Closed {"why":"the ward is closed"}`, `SqlError: Query failed: duplicate key …`. */
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
