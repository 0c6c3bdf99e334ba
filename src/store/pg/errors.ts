/**
 * What Postgres says, in the port's words.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import { ChunkStoreError, TransactionSpoiled } from "../../ChunkStore.ts"
import { Verb } from "../verbs.ts"

/** The server's own words and SQLSTATE are in the cause; `SqlError`'s message is general. */
const serverError = (error: SqlError): { readonly code: string | undefined; readonly text: string } => {
  const cause: unknown = error.reason.cause
  const code = Predicate.hasProperty(cause, "code") && typeof cause.code === "string" ? cause.code : undefined
  const text = Predicate.hasProperty(cause, "message") && typeof cause.message === "string"
    ? cause.message
    : error.reason.message ?? error.message
  return { code, text }
}

/** The SQLSTATE of an error, where there is one. */
export const codeOf = (error: SqlError): string | undefined => serverError(error).code

/** The function of the server that raised an error. Unlike the message it is in no language. */
const routineOf = ({ reason: { cause } }: SqlError): string | undefined =>
  Predicate.hasProperty(cause, "routine") && typeof cause.routine === "string" ? cause.routine : undefined

/**
 * A server that only reads: a standby, or a primary that was made read-only for a failover. On a standby `begin … read
 * write` fails in the check of that setting.
 */
export const isReadOnly = (error: SqlError): boolean => {
  const code = codeOf(error)
  return code === "25006" || (code === "0A000" && routineOf(error) === "call_bool_check_hook")
}

/**
 * A statement that the session no longer knows, or knows in an older form: the table has changed (0A000), or a pooler has
 * given the session to another client meanwhile (26000, 42P05, 08P01). The client prepares it anew.
 */
const isStalePlan = (error: SqlError): boolean => {
  const code = codeOf(error)
  return code === "26000" || code === "42P05" || code === "08P01" ||
    (code === "0A000" && routineOf(error) === "RevalidateCachedQuery")
}

// The client's classification, and what it leaves out: a server that stops (57P0x), is starting, is out of connections or
// other resources (53xxx), or has ended a session for being idle in its transaction (25P03) or too long in it (25P04).
const isPassing = (error: SqlError): boolean =>
  error.isRetryable || isReadOnly(error) || isStalePlan(error) ||
  /^(57P0[1235]|53|25P0[34])/.test(serverError(error).code ?? "")

/** Whether somebody else held a lock for too long. */
export const isLockTimeout = (error: SqlError): boolean => codeOf(error) === "55P03"

/** A statement that ran into a time limit: its own or one for waiting at a lock. */
const isTimeLimit = (code: string | undefined): boolean => code === "57014" || code === "55P03"

/** The first error of the database's that is somewhere in an error. Handlers wrap errors in their own. */
const withinError = (error: unknown, depth = 0): SqlError | ChunkStoreError | undefined => {
  if (depth > 5 || !Predicate.isObject(error)) return undefined
  if (error instanceof ChunkStoreError || isSqlError(error)) return error
  return (Predicate.hasProperty(error, "cause") ? withinError(error.cause, depth + 1) : undefined) ??
    (Predicate.hasProperty(error, "reason") ? withinError(error.reason, depth + 1) : undefined)
}

/** Whether somewhere in an error there is a passing error of the database's. */
export const isTransient = (error: unknown): boolean => {
  const found = withinError(error)
  return found instanceof ChunkStoreError ? found.transient : found !== undefined && isPassing(found)
}

/** The same for what a handler failed with: a time limit that its statements ran into is its own failure. */
export const isTransientOfHandler = (error: unknown): boolean => {
  const found = withinError(error)
  if (found === undefined || isTimeLimit(found instanceof ChunkStoreError ? found.code : codeOf(found))) return false
  return isTransient(found)
}

/** What the server said, in its own words. */
export const wordsOf = (error: SqlError): string => serverError(error).text

/** A database error, as the port tells it of a verb. */
export const storeError = (operation: string) => (error: SqlError): ChunkStoreError => {
  const { code, text } = serverError(error)
  return new ChunkStoreError({
    operation,
    transient: isPassing(error),
    reason: text,
    cause: error,
    ...(code === undefined ? {} : { code })
  })
}

/** Fails with an error that names the verb that is under way. */
const failBy = <E>(of: (verb: string) => (error: SqlError) => E) => (error: SqlError): Effect.Effect<never, E> =>
  Effect.flatMap(Verb, (verb) => Effect.fail(of(verb)(error)))

/** Fails as the port tells of a database error. */
export const failStore = failBy(storeError)

/** Names the verb in whatever the database fails with. */
export const asStoreError = <A, E, R>(effect: Effect.Effect<A, E | SqlError, R>) =>
  Effect.catchIf(effect, isSqlError, failStore) as Effect.Effect<A, Exclude<E, SqlError> | ChunkStoreError, R>

/**
 * The errors of a transaction. When its connection is lost the rollback fails as well, and the client makes defects of
 * both errors: it is an outage all the same.
 */
export const transactionError = <A, E, R>(
  transaction: Effect.Effect<A, E, R>
): Effect.Effect<A, E | ChunkStoreError, R> =>
  Effect.catchCause(transaction, (cause): Effect.Effect<never, E | ChunkStoreError> => {
    for (const reason of cause.reasons) {
      if (reason._tag === "Die" && isSqlError(reason.defect) && isPassing(reason.defect)) {
        return failStore(reason.defect)
      }
    }
    return Effect.failCause(cause)
  })

/**
 * What looks wrong with the database or with Sluice's tables, and with no transaction in particular: no rights, no such
 * table, a disk that fails. A handler can bring it about as well, for one by its role: the drain finds out.
 */
const isSystemic = (code: string): boolean => /^(28|3F|42|58)/.test(code)

const spoiled = (error: SqlError, transient: boolean): TransactionSpoiled => {
  const { code, text } = serverError(error)
  return new TransactionSpoiled({ reason: text, transient, ...(code === undefined ? {} : { code }) })
}

const isAborted = (error: SqlError): boolean => serverError(error).text.includes("rolled back an aborted transaction")

/**
 * A conflict or a time limit at a transaction's end may pass, and may be what its handlers left there: a trigger that
 * always says so, a limit of a millisecond.
 */
const mayPass = (code: string | undefined): boolean =>
  code !== undefined && (code.startsWith("40") || isTimeLimit(code))

/**
 * An error of the store's own statements at the end of a handlers' transaction. 25P02 means that a handler swallowed a
 * database error; others come from what the handlers set, or from triggers on Sluice's tables.
 */
export const failSettle = failBy((verb) => (error): ChunkStoreError | TransactionSpoiled => {
  const code = codeOf(error)
  if (mayPass(code)) return spoiled(error, true)
  if (isPassing(error) || code === undefined || isSystemic(code)) return storeError(verb)(error)
  return spoiled(error, false)
})

/**
 * An error of a handlers' COMMIT: one that turned into a rollback because a handler swallowed an error, or whatever the
 * application's deferred constraints and triggers say, by any SQLSTATE: only those do anything there.
 */
export const failCommit = failBy((verb) => (error): ChunkStoreError | TransactionSpoiled => {
  const code = codeOf(error)
  if (mayPass(code)) return spoiled(error, !isTimeLimit(code))
  if (isPassing(error) || (code === undefined && !isAborted(error))) return storeError(verb)(error)
  return spoiled(error, false)
})
