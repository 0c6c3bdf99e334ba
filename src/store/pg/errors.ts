/**
 * Converts Postgres errors to the port's errors.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import { ChunkStoreError, TransactionSpoiled } from "../../ChunkStore.ts"
import { Verb } from "../verbs.ts"

/** The server's message and SQLSTATE are in the cause; `SqlError`'s own message is general. */
const serverError = (error: SqlError): { readonly code: string | undefined; readonly text: string } => {
  const cause: unknown = error.reason.cause
  const code = Predicate.hasProperty(cause, "code") && typeof cause.code === "string" ? cause.code : undefined
  const text = Predicate.hasProperty(cause, "message") && typeof cause.message === "string"
    ? cause.message
    : error.reason.message ?? error.message
  return { code, text }
}

/** The SQLSTATE of an error, if it has one. */
export const codeOf = (error: SqlError): string | undefined => serverError(error).code

/** The column that an error is about, if it is about one. */
export const columnOf = ({ reason: { cause } }: SqlError): string | undefined =>
  Predicate.hasProperty(cause, "column") && typeof cause.column === "string" ? cause.column : undefined

/** The server's function that raised an error. Unlike the message it does not depend on the language. */
const routineOf = ({ reason: { cause } }: SqlError): string | undefined =>
  Predicate.hasProperty(cause, "routine") && typeof cause.routine === "string" ? cause.routine : undefined

/**
 * Whether the server is read-only: a standby, or a primary that was made read-only for a failover. On a standby `begin …
 * read write` fails in the check of that setting.
 */
export const isReadOnly = (error: SqlError): boolean => {
  const code = codeOf(error)
  return code === "25006" || (code === "0A000" && routineOf(error) === "call_bool_check_hook")
}

/**
 * Whether the session has lost a prepared statement or has an outdated one: the table has changed (0A000), or a pooler has
 * given the session to another client meanwhile (26000, 42P05, 08P01). The client prepares it again.
 */
const isStalePlan = (error: SqlError): boolean => {
  const code = codeOf(error)
  return code === "26000" || code === "42P05" || code === "08P01" ||
    (code === "0A000" && routineOf(error) === "RevalidateCachedQuery")
}

// The client's classification and the cases it omits: a server that stops (57P0x), is starting, is out of connections or
// other resources (53xxx), or has ended a session that was idle in its transaction (25P03) or too long in it (25P04).
const isPassing = (error: SqlError): boolean =>
  error.isRetryable || isReadOnly(error) || isStalePlan(error) ||
  /^(57P0[1235]|53|25P0[34])/.test(serverError(error).code ?? "")

/** Whether another transaction held a lock for too long. */
export const isLockTimeout = (error: SqlError): boolean => codeOf(error) === "55P03"

/** Whether a statement exceeded a time limit: its own, or the one for waiting at a lock. */
const isTimeLimit = (code: string | undefined): boolean => code === "57014" || code === "55P03"

/** The first database error inside an error. Handlers wrap errors in their own. */
const withinError = (error: unknown, depth = 0): SqlError | ChunkStoreError | undefined => {
  if (depth > 5 || !Predicate.isObject(error)) return undefined
  if (error instanceof ChunkStoreError || isSqlError(error)) return error
  return (Predicate.hasProperty(error, "cause") ? withinError(error.cause, depth + 1) : undefined) ??
    (Predicate.hasProperty(error, "reason") ? withinError(error.reason, depth + 1) : undefined)
}

/** Whether an error contains a transient database error. */
export const isTransient = (error: unknown): boolean => {
  const found = withinError(error)
  return found instanceof ChunkStoreError ? found.transient : found !== undefined && isPassing(found)
}

/** The same for a handler's error: a time limit that its statements exceeded is the handler's own failure. */
export const isTransientOfHandler = (error: unknown): boolean => {
  const found = withinError(error)
  if (found === undefined || isTimeLimit(found instanceof ChunkStoreError ? found.code : codeOf(found))) return false
  return isTransient(found)
}

/** The server's own message. */
export const wordsOf = (error: SqlError): string => serverError(error).text

/** A database error of a verb, in the port's form. */
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

/** The error of a verb in a caller's transaction that is read only. */
export const readOnlyTransaction = (operation: string, error: SqlError): ChunkStoreError => {
  const { cause, code = "25006", reason } = storeError(operation)(error)
  const advice = "the transaction around it is read only: begin that read write, or do this outside of it"
  return new ChunkStoreError({ operation, transient: false, code, cause, reason: `${reason}: ${advice}` })
}

/** Fails with an error that names the verb in progress. */
const failBy = <E>(of: (verb: string) => (error: SqlError) => E) => (error: SqlError): Effect.Effect<never, E> =>
  Effect.flatMap(Verb, (verb) => Effect.fail(of(verb)(error)))

/** Fails with a database error in the port's form. */
export const failStore = failBy(storeError)

/** Adds the verb's name to database errors. */
export const asStoreError = <A, E, R>(effect: Effect.Effect<A, E | SqlError, R>) =>
  Effect.catchIf(effect, isSqlError, failStore) as Effect.Effect<A, Exclude<E, SqlError> | ChunkStoreError, R>

/**
 * The errors of a transaction. When its connection is lost the rollback fails too, and the client turns both errors into
 * defects. It is still an outage.
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
 * Whether an error points to the database or Sluice's tables and not to one transaction: missing rights, a missing table, a
 * failing disk. A handler can also cause it, for example by changing the role: the drain finds out.
 */
const isSystemic = (code: string): boolean => /^(28|3F|42|58)/.test(code)

const spoiled = (error: SqlError, transient: boolean): TransactionSpoiled => {
  const { code, text } = serverError(error)
  return new TransactionSpoiled({ reason: text, transient, ...(code === undefined ? {} : { code }) })
}

const isAborted = (error: SqlError): boolean => serverError(error).text.includes("rolled back an aborted transaction")

/**
 * Whether an error at a transaction's end may be transient. A conflict or a time limit there may also be caused by the
 * handlers: a trigger that always raises it, or a limit of a millisecond.
 */
const mayPass = (code: string | undefined): boolean =>
  code !== undefined && (code.startsWith("40") || isTimeLimit(code))

/**
 * An error of the store's own statements at the end of a handlers' transaction. 25P02 means that a handler swallowed a
 * database error. Other errors come from settings that the handlers changed, or from triggers on Sluice's tables.
 */
export const failSettle = failBy((verb) => (error): ChunkStoreError | TransactionSpoiled => {
  const code = codeOf(error)
  if (mayPass(code)) return spoiled(error, true)
  if (isPassing(error) || code === undefined || isSystemic(code)) return storeError(verb)(error)
  return spoiled(error, false)
})

/**
 * An error of a handlers' COMMIT. Either it became a rollback because a handler swallowed an error, or a deferred constraint
 * or trigger of the application failed, with any SQLSTATE: nothing else runs there.
 */
export const failCommit = failBy((verb) => (error): ChunkStoreError | TransactionSpoiled => {
  const code = codeOf(error)
  if (mayPass(code)) return spoiled(error, !isTimeLimit(code))
  if (isPassing(error) || (code === undefined && !isAborted(error))) return storeError(verb)(error)
  return spoiled(error, false)
})

/** A batch of a declared handler took longer than a run of the handler may take. */
export const tooLong = (timeout: Duration.Duration) =>
  new ChunkStoreError({
    operation: "persistInside",
    transient: false,
    // the server's code for a statement that it cancels
    code: "57014",
    reason: `a batch took longer than ${Duration.format(timeout)}, which is how long the handler may take`
  })
