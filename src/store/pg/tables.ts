/**
 * The tables' names in the configured Postgres schema, as fragments for statements.
 */
import * as Duration from "effect/Duration"
import type * as SqlClient from "effect/sql/SqlClient"
import { type Client, make as makeClient } from "./client.ts"

/** The client and table names that statements are built from. */
export interface Tables {
  readonly sql: SqlClient.SqlClient
  /** How the statements reach the database. */
  readonly client: Client
  /** The quoted name of the Postgres schema, for statements that are built as text. */
  readonly schema: string
  readonly call: ReturnType<SqlClient.SqlClient["literal"]>
  readonly attempt: ReturnType<SqlClient.SqlClient["literal"]>
  readonly usageEntry: ReturnType<SqlClient.SqlClient["literal"]>
  readonly usageTotal: ReturnType<SqlClient.SqlClient["literal"]>
  readonly queue: ReturnType<SqlClient.SqlClient["literal"]>
  readonly ledger: ReturnType<SqlClient.SqlClient["literal"]>
  readonly ledgerPlace: ReturnType<SqlClient.SqlClient["literal"]>
  readonly ledgerTotal: ReturnType<SqlClient.SqlClient["literal"]>
  readonly ledgerDigest: ReturnType<SqlClient.SqlClient["literal"]>
  readonly dead: ReturnType<SqlClient.SqlClient["literal"]>
  readonly failure: ReturnType<SqlClient.SqlClient["literal"]>
  readonly worker: ReturnType<SqlClient.SqlClient["literal"]>
  readonly pause: ReturnType<SqlClient.SqlClient["literal"]>
  readonly subscription: ReturnType<SqlClient.SqlClient["literal"]>
  readonly log: ReturnType<SqlClient.SqlClient["literal"]>
  readonly skip: ReturnType<SqlClient.SqlClient["literal"]>
  readonly erasure: ReturnType<SqlClient.SqlClient["literal"]>
  readonly callSubscription: ReturnType<SqlClient.SqlClient["literal"]>
  readonly openCall: ReturnType<SqlClient.SqlClient["literal"]>
  readonly callEnd: ReturnType<SqlClient.SqlClient["literal"]>
}

/** A schema's name for display in SQL: quoted unless it is the default one, because it may be an SQL keyword. */
export const shown = (schema: string): string => schema === "sluice" ? schema : `"${schema}"`

/**
 * The names in a schema. The settings verify that `schema` is a plain lower-case identifier, so it needs no escaping. It is
 * quoted because it may be an SQL keyword.
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
  attempt: sql.literal(`"${schema}".call_attempt`),
  usageEntry: sql.literal(`"${schema}".usage_entry`),
  usageTotal: sql.literal(`"${schema}".usage_total`),
  queue: sql.literal(`"${schema}".chunk_queue`),
  ledger: sql.literal(`"${schema}".persisted_chunk`),
  ledgerPlace: sql.literal(`"${schema}".ledger_place`),
  ledgerTotal: sql.literal(`"${schema}".ledger_total`),
  ledgerDigest: sql.literal(`"${schema}".ledger_digest`),
  dead: sql.literal(`"${schema}".dead_letter`),
  failure: sql.literal(`"${schema}".chunk_failure`),
  worker: sql.literal(`"${schema}".worker`),
  pause: sql.literal(`"${schema}".pause`),
  subscription: sql.literal(`"${schema}".subscription`),
  log: sql.literal(`"${schema}".subscription_log`),
  skip: sql.literal(`"${schema}".subscription_skip`),
  erasure: sql.literal(`"${schema}".erasure`),
  callSubscription: sql.literal(`"${schema}".call_subscription`),
  openCall: sql.literal(`"${schema}".open_call`),
  callEnd: sql.literal(`"${schema}".call_end`)
})
