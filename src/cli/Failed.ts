/**
 * The error a command fails with, and the sentence that explains any other error.
 */
import * as CliError from "effect/cli/CliError"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { isSqlError } from "effect/sql/SqlError"
import { ChunkStoreError } from "../ChunkStore.ts"
import { escapeProse } from "../internal/escape.ts"
import { fileProblem } from "../internal/fileProblem.ts"
import * as rights from "../store/Rights.ts"

/** A command failed. The command prints only the message: one line, escaped, because it may quote text from outside. */
export class Failed extends Schema.TaggedError<Failed>()("Failed", { reason: Schema.String }) {
  override get message() {
    return escapeProse(this.reason.trim().replaceAll(/\s*\n\s*/g, " "))
  }
  override get [CliError.userMessage]() {
    return this.message
  }
}

/** What a failed command prints with `--json`. */
export const Failure = Schema.Struct({ error: Schema.String })

const innermost = (error: unknown, depth = 0): string => {
  // without the note about retries: only a drain retries, a command ends
  if (error instanceof ChunkStoreError) {
    return error.code === undefined || error.reason.includes(error.code)
      ? error.reason
      : `${error.reason} (${error.code})`
  }
  if (depth < 6 && Predicate.isObject(error)) {
    if (Predicate.hasProperty(error, "reason") && Predicate.isObject(error.reason)) {
      return innermost(error.reason, depth + 1)
    }
    if (Predicate.hasProperty(error, "cause") && error.cause instanceof Error) return innermost(error.cause, depth + 1)
  }
  return error instanceof Error ? error.message : String(error)
}

/** Whether an error has a sentence of its own, which says what its cause means. */
const hasSentence = (error: unknown): boolean =>
  Predicate.hasProperty(error, "reason") && typeof error.reason === "string"

/** What the operating system said about a file, unless the error has a sentence of its own. */
const fileProblemIn = (error: unknown, depth = 0): string | undefined => {
  if (hasSentence(error)) return undefined
  const problem = fileProblem(error)
  if (problem !== undefined || depth >= 6 || !Predicate.hasProperty(error, "cause")) return problem
  return fileProblemIn(error.cause, depth + 1)
}

/** The role this process connects as, and the schema, once they are known. */
let connectedAs: { readonly role: string; readonly schema: string } | undefined

/** Remembers the role that the command connects as: an error can then name the role that lacks a right. */
export const rememberRole = (as: { readonly role: string; readonly schema: string }): Effect.Effect<void> =>
  Effect.sync(() => {
    connectedAs = as
  })

/** The server's code of an error. Unlike the message, it does not depend on the server's language. */
const codeIn = (error: unknown, depth = 0): string | undefined => {
  if (!Predicate.isObject(error) || depth > 6) return undefined
  if (
    Predicate.hasProperty(error, "code") && typeof error.code === "string" && /^(?=.*\d)[0-9A-Z]{5}$/.test(error.code)
  ) {
    return error.code
  }
  return (Predicate.hasProperty(error, "reason") ? codeIn(error.reason, depth + 1) : undefined) ??
    (Predicate.hasProperty(error, "cause") ? codeIn(error.cause, depth + 1) : undefined)
}

const notThere = "Sluice's tables are not there yet: run `sluice migrate`"
const older = "Sluice's tables are of an older version than this program: run `sluice migrate`"
const pooled = "a pooler in transaction mode is in between: set SLUICE_LISTEN=false, then statements are not prepared"

/** What the server's codes mean for Sluice's own statements. */
const meanings: ReadonlyMap<string, string> = new Map([
  ["42P01", notThere],
  ["3F000", notThere],
  // a column, a function
  ["42703", older],
  ["42883", older],
  ["26000", pooled],
  ["42P05", pooled],
  [
    "25006",
    "the database is read-only, as a standby is: let the address lead to the primary; `sluice doctor` says more"
  ]
])

/** The server's context of an error that arose inside a function or a trigger; undefined for others. */
const whereIn = (error: unknown, depth = 0): string | undefined => {
  if (!Predicate.isObject(error) || depth > 6) return undefined
  if (Predicate.hasProperty(error, "where") && typeof error.where === "string") return error.where
  return (Predicate.hasProperty(error, "reason") ? whereIn(error.reason, depth + 1) : undefined) ??
    (Predicate.hasProperty(error, "cause") ? whereIn(error.cause, depth + 1) : undefined)
}

/**
 * Whether an error is about the application's objects, so that a meaning for Sluice's own does not apply: it arose inside a
 * function or trigger, or a table or schema is missing that is not Sluice's. The server quotes a name as the statement wrote
 * it, and Sluice writes its tables with their schema.
 */
const isOfApplication = (code: string, inner: string, error: unknown): boolean => {
  if (whereIn(error) !== undefined) return true
  const schema = connectedAs?.schema
  const name = /"([^"]+)"/.exec(inner)?.[1]
  return ["42P01", "3F000"].includes(code) && schema !== undefined && name !== undefined &&
    name !== schema && !name.startsWith(`${schema}.`)
}

const isUnreachable = /\b(Connection timed out|ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT)\b/
/** The advice when no server answers. */
export const whenUnreachable = "is the address right, and the server up?"

/** Turns an error into one sentence that says what to do. */
export const explain = (error: unknown): Failed => {
  if (error instanceof Failed) return error
  const inner = innermost(error)
  const message = error instanceof ChunkStoreError || !(error instanceof Error) ? inner : error.message
  const code = codeIn(error)
  const meaning = code === undefined ? undefined : meanings.get(code)
  if (code !== undefined && meaning !== undefined && !isOfApplication(code, inner, error)) {
    return new Failed({ reason: meaning })
  }
  if (isUnreachable.test(inner) && (error instanceof ChunkStoreError || isSqlError(error))) {
    return new Failed({ reason: `no Postgres server answers (${inner}): ${whenUnreachable}` })
  }
  if (isSqlError(error) && code === "42501" && connectedAs !== undefined) {
    const why = rights.explain(inner, { ...connectedAs, purpose: "operator" })
    if (why !== undefined) return new Failed({ reason: `${inner}: ${why}` })
  }
  const ofFile = fileProblemIn(error)
  if (ofFile !== undefined) return new Failed({ reason: ofFile })
  return new Failed({ reason: hasSentence(error) || message.includes(inner) ? message : `${message}: ${inner}` })
}

/** Turns every error of a command into {@link Failed}. */
export const told = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, Failed, R> =>
  Effect.mapError(effect, explain)
