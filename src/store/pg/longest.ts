/**
 * Limits how much JSON one row of an answer may contain. A row is one message to the client, which refuses longer ones and
 * closes the connection. So the server limits each value before it sends it.
 */
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Settings from "../../Settings.ts"
import { clientOf } from "./session.ts"

const mebibyte = 1024 * 1024

/** The longest message that a client accepts, unless it is made with another limit. */
const byDefault = 16 * mebibyte

/** The most bytes of JSON sent in one row: what the client accepts, less the overhead around a value. */
export const longestOf = (sql: SqlClient.SqlClient, { maxResultBytes }: Settings.Values): number => {
  const client = clientOf(sql)
  // the limit of another client is unknown: a program that allows larger calls has raised it
  if (client === undefined) return Math.max(maxResultBytes, byDefault - mebibyte)
  const limit = client.config.maxMessageSize ?? byDefault
  return Math.floor(limit - Math.min(mebibyte, limit / 16))
}
