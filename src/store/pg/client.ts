/**
 * Sends Sluice's own statements to the database: each with a time limit, at the isolation level they are written for, and
 * not to a read-only server.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as SqlClient from "effect/sql/SqlClient"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { ChunkStoreError } from "../../ChunkStore.ts"
import { Verb } from "../verbs.ts"
import { aside, type Begin, inTransaction, type Place, within } from "./connection.ts"
import { asStoreError, codeOf, isReadOnly, readOnlyTransaction, transactionError } from "./errors.ts"
import { unwatched } from "./watch.ts"

/** Sluice's way to a database. */
export interface Client {
  /** Names the verb in database errors, and limits how long one or more statements may take. */
  readonly statement: <A, E, R>(
    effect: Effect.Effect<A, E | SqlError, R>
  ) => Effect.Effect<A, Exclude<E, SqlError> | ChunkStoreError, R>
  /** The same for an effect that limits its time by itself. */
  readonly limited: <A, E, R>(
    effect: Effect.Effect<A, E | SqlError, R>
  ) => Effect.Effect<A, Exclude<E, SqlError> | ChunkStoreError, R>
  /** Whether a transaction of the caller's is under way, and not one that `statement` has begun. */
  readonly isCallers: Effect.Effect<boolean>
  /**
   * Runs an effect in a transaction of Sluice's own, or in a savepoint of the surrounding one. Errors of begin and commit
   * are not mapped.
   */
  readonly transaction: <A, E, R>(
    work: (place: Place) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | SqlError | ChunkStoreError, R>
}

/**
 * Whether the client has one connection to a server on this machine, like the embedded database. It then waits for the
 * connection without a limit: its holder is in the same process, and no network can lose an answer.
 */
export const isEmbedded = (sql: SqlClient.SqlClient): boolean =>
  "config" in sql && typeof sql.config === "object" && sql.config !== null && "maxConnections" in sql.config &&
  sql.config.maxConnections === 1 && "path" in sql.config && typeof sql.config.path === "string"

/** Whether `statement` has begun the transaction that surrounds a fiber. */
const IsOwn = Context.Reference<boolean>("effect-sluice/store/pg/IsOwn", { defaultValue: () => false })

/** How many connections are examined when one leads to a read-only server. */
const mostLookedAt = 32

/** How long a caller whose transaction is read only waits to be told whether the server is. */
const longestLook = Duration.seconds(1)

/** How long a statement of Sluice's own may take on a client. */
export const limitOf = (sql: SqlClient.SqlClient, statementTimeout: Duration.Duration): Duration.Duration =>
  isEmbedded(sql) ? Duration.infinity : statementTimeout

/**
 * Fails if a caller's transaction is read only and the server is not: then it stays so, however often it is tried. Asks by
 * another connection, because the caller's transaction has failed and answers no more. If none is to be had, the server
 * counts as not read-only.
 */
const failReadOnly = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, error: SqlError) {
  const asked = sql<{ reads: boolean }>`select pg_catalog.pg_is_in_recovery() or
    pg_catalog.current_setting('default_transaction_read_only') operator(pg_catalog.=) 'on' as reads`
  const isServer = yield* asked.pipe(
    aside(sql),
    Effect.timeout(longestLook),
    Effect.map(([row]) => row?.reads === true),
    Effect.orElseSucceed(() => false)
  )
  if (!isServer) return yield* readOnlyTransaction(yield* Verb, error)
})

/** The client of a store. */
export const make = (sql: SqlClient.SqlClient, statementTimeout: Duration.Duration): Client => {
  const limit = limitOf(sql, statementTimeout)
  // Statements run without an explicit transaction while the defaults of database and role allow it (read committed, read
  // write). The first statement that fails because of these defaults reveals them.
  let begin: Begin = "begin isolation level read committed"
  let isExplicit = false

  const transaction: Client["transaction"] = (work) =>
    Effect.suspend(() => transactionError(inTransaction(sql, { begin, limit }, work)))

  /** Examines the pool's connections, and closes those that lead to a read-only server. */
  const leaveReader = Effect.gen(function*() {
    for (let looked = 0; looked < mostLookedAt; looked++) {
      const isReader = yield* inTransaction(
        sql,
        { begin: "begin isolation level read committed", limit },
        ({ lease }) =>
          Effect.map(
            sql<{ reads: boolean }>`select pg_catalog.pg_is_in_recovery() or
              pg_catalog.current_setting('transaction_read_only') operator(pg_catalog.=) 'on' as reads`,
            ([row]) => {
              const reads = row?.reads === true
              if (reads && lease !== undefined) lease.isUseless = true
              return reads
            }
          )
      )
      if (!isReader) return
    }
  }).pipe(Effect.ignoreCause)

  /**
   * Whether the error disappears when the statement is sent again in an explicit transaction. Called for statements sent
   * without one: several concurrent ones may fail for this reason, and each is sent again.
   */
  const becomesExplicit = (error: SqlError): boolean => {
    const code = codeOf(error)
    if (code === "25006") begin = "begin isolation level read committed read write"
    else if (code !== "40001") return false
    isExplicit = true
    return true
  }

  /** Sends statements as `direct` does, or in an explicit transaction if the defaults require one. */
  const send = <A, E, R>(
    effect: Effect.Effect<A, E | SqlError, R>,
    direct: Effect.Effect<A, E | SqlError, R>
  ): Effect.Effect<A, Exclude<E, SqlError> | ChunkStoreError, R> => {
    const explicit = Effect.suspend(() =>
      inTransaction(sql, { begin, limit }, () => Effect.provideService(effect, IsOwn, true))
    )
    return unwatched(Effect.flatMap(Effect.serviceOption(sql.transactionService), (surrounding) => {
      if (Option.isSome(surrounding)) {
        return Effect.tapError(
          effect,
          (error) => isSqlError(error) && isReadOnly(error) ? failReadOnly(sql, error) : Effect.void
        )
      }
      const sent = isExplicit ? explicit : Effect.catchIf(
        direct,
        (error): error is (E | SqlError) & SqlError => isSqlError(error) && becomesExplicit(error),
        () => explicit
      )
      return Effect.tapError(sent, (error) => isSqlError(error) && isReadOnly(error) ? leaveReader : Effect.void)
    })).pipe(asStoreError)
  }
  const statement: Client["statement"] = (effect) =>
    send(effect, Effect.flatMap(Verb, (verb) => within(limit, verb)(effect)))
  const limited: Client["limited"] = (effect) => send(effect, Effect.interruptible(effect))
  const isCallers = Effect.flatMap(
    IsOwn,
    (isOwn) => isOwn ? Effect.succeed(false) : Effect.map(Effect.serviceOption(sql.transactionService), Option.isSome)
  )
  return { isCallers, limited, statement, transaction }
}
