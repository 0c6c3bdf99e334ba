/**
 * What went wrong, in words for people: in an error's message, in a chunk's history, in a dead letter. An error is told by
 * its name, its message and its own fields, and by what caused it; where it was made in the program says little to whoever
 * reads that, so only a defect, which nobody foresaw, brings its stack.
 */
import * as Cause from "effect/Cause"
import { formatJson } from "effect/Formatter"
import * as Predicate from "effect/Predicate"
import { escapeProse } from "./escape.ts"
import { shorten } from "./quote.ts"

/** The longest text kept of one failure. */
export const longestReason = 8192

const longestFields = 500
// an error that is its own cause ends here as well
const deepest = 5

// what a Postgres server says of itself, not of what was asked
const ofTheServer = new Set(["severity", "severityUnlocalized", "file", "line", "routine"])
const told = new Set(["name", "message", "stack", "cause", "_tag"])

const isSimple = (value: unknown): boolean =>
  typeof value !== "object" || value === null
    ? value !== undefined && typeof value !== "function" && typeof value !== "symbol"
    : Array.isArray(value) || [Object.prototype, null].includes(Object.getPrototypeOf(value))

/** The fields of an error that its message does not say. */
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
  // "Error" says nothing, and some errors only repeat what caused them
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

/** An error as a person reads it: `Closed {"why":"the ward is closed"}`, `SqlError: Query failed: duplicate key …`. */
export const describe = (error: unknown): string => shorten(wordsOf(error), longestReason)

const stackLine = /^\s{4,}at /

const stackOf = (reason: Cause.Die): ReadonlyArray<string> =>
  Cause.prettyErrors(Cause.fromReasons([reason])).flatMap((error) =>
    (error.stack ?? "").split("\n").filter((line) => stackLine.test(line))
  )

/** A cause for a chunk's history: each error in words, a defect with its stack. */
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
 * A cause for the log: as {@link describeCause}, each line escaped and indented. An error quotes what others wrote, and what
 * the program's logger does with it is not known.
 */
export const causeForLog = (cause: Cause.Cause<unknown>): string =>
  describeCause(cause).split("\n").map((line) => `\n    ${escapeProse(line.trim())}`).join("")

/** What {@link describeCause} has written, without the stack of a defect. */
export const withoutStack = (text: string): string =>
  text.split("\n").filter((line) => !stackLine.test(line)).join("\n")
