/**
 * What Postgres says, in the port's words.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { SqlClient } from "effect/sql/SqlClient"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import { StoreError, TransactionSpoiled } from "../../ChunkStore.ts"

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

// The client's classification, and what it leaves out: a server that stops (57P0x), is starting, or is out of
// connections or other resources (53xxx).
const isPassing = (error: SqlError): boolean =>
  error.isRetryable || /^(57P0[1235]|53)/.test(serverError(error).code ?? "")

/** Whether somewhere in an error there is a passing error of the database's. Handlers wrap errors in their own. */
export const isTransient = (error: unknown, depth = 0): boolean => {
  if (depth > 5 || !Predicate.isObject(error)) return false
  if (error instanceof StoreError) return error.transient
  if (isSqlError(error)) return isPassing(error)
  return (Predicate.hasProperty(error, "cause") && isTransient(error.cause, depth + 1)) ||
    (Predicate.hasProperty(error, "reason") && isTransient(error.reason, depth + 1))
}

/** A database error, as the port tells it. */
export const storeError = (operation: string) => (error: SqlError): StoreError => {
  const { code, text } = serverError(error)
  return new StoreError({
    operation,
    transient: isPassing(error),
    reason: text,
    cause: error,
    ...(code === undefined ? {} : { code })
  })
}

/** Names the verb in whatever the database fails with. */
export const asStoreError = (operation: string) => <A, E, R>(effect: Effect.Effect<A, E | SqlError, R>) =>
  Effect.catchIf(effect, isSqlError, (error) => Effect.fail(storeError(operation)(error))) as Effect.Effect<
    A,
    Exclude<E, SqlError> | StoreError,
    R
  >

/**
 * A transaction. When its connection is lost the rollback fails as well, and the client makes defects of both errors: it
 * is an outage all the same.
 */
export const inTransaction =
  (sql: SqlClient, operation: string) =>
  <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<
    A,
    E | SqlError | StoreError,
    R
  > =>
    Effect.catchCause(sql.withTransaction(work), (cause): Effect.Effect<never, E | SqlError | StoreError> => {
      for (const reason of cause.reasons) {
        if (reason._tag === "Die" && isSqlError(reason.defect) && isPassing(reason.defect)) {
          return Effect.fail(storeError(operation)(reason.defect))
        }
      }
      return Effect.failCause(cause)
    })

/**
 * An error of the last statements of a handlers' transaction. 25P02 and a COMMIT that turned into a rollback mean that a
 * handler swallowed a database error; 22, 23 and P0001 at COMMIT come from its deferred constraints and triggers.
 */
export const endError = (error: SqlError): StoreError | TransactionSpoiled => {
  const { code, text } = serverError(error)
  const spoiled = text.includes("rolled back an aborted transaction") || /^(22|23|25P02|P0001)/.test(code ?? "")
  return spoiled && !isPassing(error)
    ? new TransactionSpoiled({ reason: text, ...(code === undefined ? {} : { code }) })
    : storeError("persist")(error)
}
