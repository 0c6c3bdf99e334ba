/**
 * The tables' names in the configured Postgres schema, as fragments for statements.
 */
import * as Duration from "effect/Duration"
import type * as SqlClient from "effect/sql/SqlClient"
import { type Client, make as makeClient } from "./client.ts"

/** What every statement is made from. */
export interface Tables {
  readonly sql: SqlClient.SqlClient
  /** How the statements reach the database. */
  readonly client: Client
  /** The quoted name of the Postgres schema, for statements that are put together as text. */
  readonly schema: string
  readonly call: ReturnType<SqlClient.SqlClient["literal"]>
  readonly queue: ReturnType<SqlClient.SqlClient["literal"]>
  readonly ledger: ReturnType<SqlClient.SqlClient["literal"]>
  readonly dead: ReturnType<SqlClient.SqlClient["literal"]>
  readonly failure: ReturnType<SqlClient.SqlClient["literal"]>
  readonly worker: ReturnType<SqlClient.SqlClient["literal"]>
  readonly pause: ReturnType<SqlClient.SqlClient["literal"]>
  readonly subscription: ReturnType<SqlClient.SqlClient["literal"]>
  readonly log: ReturnType<SqlClient.SqlClient["literal"]>
  readonly skip: ReturnType<SqlClient.SqlClient["literal"]>
}

/** A schema's name as people are shown it in SQL: in quotes if it is not the usual one, for it may be a word of SQL. */
export const shown = (schema: string): string => schema === "sluice" ? schema : `"${schema}"`

/**
 * `schema` is checked to be a plain lower-case identifier where settings are read, so it can stand in SQL as it is; in
 * quotes, because it may be a word of SQL as well.
 */
export const tables = (
  sql: SqlClient.SqlClient,
  schema: string,
  /** How long a statement may take. */
  statementTimeout: Duration.Duration = Duration.seconds(30)
): Tables => ({
  sql,
  client: makeClient(sql, statementTimeout),
  schema: `"${schema}"`,
  call: sql.literal(`"${schema}".service_call`),
  queue: sql.literal(`"${schema}".chunk_queue`),
  ledger: sql.literal(`"${schema}".persisted_chunk`),
  dead: sql.literal(`"${schema}".dead_letter`),
  failure: sql.literal(`"${schema}".chunk_failure`),
  worker: sql.literal(`"${schema}".worker`),
  pause: sql.literal(`"${schema}".pause`),
  subscription: sql.literal(`"${schema}".subscription`),
  log: sql.literal(`"${schema}".subscription_log`),
  skip: sql.literal(`"${schema}".subscription_skip`)
})
