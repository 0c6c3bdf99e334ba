/**
 * Single sessions of a server, for what has to know which session it runs in. Nothing is prepared in them, so that they work
 * through a pooler in transaction mode as well.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"

/** A session: runs one statement after the other. */
export interface Session {
  readonly run: <Row extends object = object>(
    text: string,
    params?: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<Row>, SqlError>
}

/** The client as `@effect/sql-pg` made it, which knows how to connect. Other clients have none. */
export const clientOf = (sql: SqlClient): PgClient.PgClient | undefined =>
  // that is what the type id says
  PgClient.TypeId in sql ? sql as PgClient.PgClient : undefined

/** Whether the client has one connection and no more, as that to the embedded database. */
export const isSingle = ({ config }: PgClient.PgClient): boolean =>
  "maxConnections" in config && config.maxConnections === 1

/** A session by a connection of its own, outside any pool, until the scope closes. */
export const open = (
  config: PgConnection.Config,
  applicationName: string
): Effect.Effect<Session, SqlError, Scope> =>
  Effect.map(PgConnection.make({ ...config, applicationName, prepare: false, multiplex: false }), (connection) => ({
    run: <Row extends object>(text: string, params?: ReadonlyArray<unknown>) =>
      Effect.map(
        connection.query(text, params, false),
        // a statement's columns are what it selects
        (result) => result.rows as ReadonlyArray<Row>
      )
  }))

/** A session of the client's pool, until the scope closes. */
export const reserve = (sql: SqlClient): Effect.Effect<Session, SqlError, Scope> =>
  Effect.map(sql.reserve, (connection) => ({
    run: (text, params = []) => connection.executeUnprepared(text, params, undefined)
  }))
