/**
 * A client of a database, for tests and for the programs they start.
 */
import { PgClient } from "@effect/sql-pg"
import * as Redacted from "effect/Redacted"

/** A client of a database. */
export const client = (url: string, options: { readonly maxConnections?: number } = {}) =>
  PgClient.layer({ url: Redacted.make(url), maxConnections: options.maxConnections ?? 10 })
