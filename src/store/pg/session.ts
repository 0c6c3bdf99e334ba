/**
 * Single sessions of a server, for code that depends on which session it runs in. They prepare no statements, so they also
 * work through a pooler in transaction mode.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"

/** A session: runs one statement after another. */
export interface Session {
  readonly run: <Row extends object = object>(
    text: string,
    params?: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<Row>, SqlError>
}

/** The client of `@effect/sql-pg`, which contains its configuration; undefined for other clients. */
export const clientOf = (sql: SqlClient): PgClient.PgClient | undefined =>
  // the type id guarantees the type
  PgClient.TypeId in sql ? sql as PgClient.PgClient : undefined

/** Whether the client has only one connection, like that to the embedded database. */
export const isSingle = ({ config }: PgClient.PgClient): boolean =>
  "maxConnections" in config && config.maxConnections === 1

/** A session on a separate connection, outside any pool, until the scope closes. */
export const open = (
  config: PgConnection.Config,
  applicationName: string
): Effect.Effect<Session, SqlError, Scope> =>
  Effect.map(PgConnection.make({ ...config, applicationName, prepare: false, multiplex: false }), (connection) => ({
    run: <Row extends object>(text: string, params?: ReadonlyArray<unknown>) =>
      Effect.map(
        connection.query(text, params, false),
        // a row has the columns that its statement selects
        (result) => result.rows as ReadonlyArray<Row>
      )
  }))

/** A session of the client's pool, until the scope closes. */
export const reserve = (sql: SqlClient): Effect.Effect<Session, SqlError, Scope> =>
  Effect.map(sql.reserve, (connection) => ({
    run: (text, params = []) => connection.executeUnprepared(text, params, undefined)
  }))
