/**
 * Single sessions of a server, for code that depends on which session it runs in. They prepare no statements, so they also
 * work through a pooler in transaction mode.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { within } from "./connection.ts"

/** Runs a statement. */
type Run = <Row extends object = object>(
  text: string,
  params?: ReadonlyArray<unknown>
) => Effect.Effect<ReadonlyArray<Row>, SqlError>

/** A session: runs one statement after another. */
export interface Session {
  /** Fails when the server does not answer in time, and closes the connection. */
  readonly run: Run
  /** Without that time limit, for statements of migrations: on large tables they take long. */
  readonly runLong: Run
}

const sessionOf = (runLong: Run, limit: Duration.Duration): Session => ({
  run: (text, params) => within(limit, text.trimStart().split(/\s/, 1)[0] ?? text)(runLong(text, params)),
  runLong
})

/** The client of `@effect/sql-pg`, which contains its configuration; undefined for other clients. */
export const clientOf = (sql: SqlClient): PgClient.PgClient | undefined =>
  // the type id guarantees the type
  PgClient.TypeId in sql ? sql as PgClient.PgClient : undefined

/** Whether the client has only one connection, like that to the embedded database. */
export const isSingle = ({ config }: PgClient.PgClient): boolean =>
  "maxConnections" in config && config.maxConnections === 1

/**
 * A session on a separate connection, outside any pool, until the scope closes. Keepalive detects a connection that is lost
 * during a long statement.
 */
export const open = (
  { keepAlive = "30 seconds", ...config }: PgConnection.Config,
  { limit, name }: {
    readonly name: string
    /** How long it may take to connect, and a statement. */
    readonly limit: Duration.Duration
  }
): Effect.Effect<Session, SqlError, Scope> =>
  Effect.map(
    within(limit, "connect")(
      PgConnection.make({ ...config, keepAlive, applicationName: name, prepare: false, multiplex: false })
    ),
    (connection) =>
      sessionOf(
        <Row extends object>(text: string, params?: ReadonlyArray<unknown>) =>
          Effect.map(
            connection.query(text, params, false),
            // a row has the columns that its statement selects
            (result) => result.rows as ReadonlyArray<Row>
          ),
        limit
      )
  )

/** A session of the client's pool, until the scope closes. `limit`: how long it may take to connect, and a statement. */
export const reserve = (sql: SqlClient, limit: Duration.Duration): Effect.Effect<Session, SqlError, Scope> =>
  Effect.map(
    within(limit, "connect")(sql.reserve),
    (connection) => sessionOf((text, params = []) => connection.executeUnprepared(text, params, undefined), limit)
  )
