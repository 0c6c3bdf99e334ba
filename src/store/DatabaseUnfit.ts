/**
 * The error for a database on which Sluice must not start.
 */
import * as Schema from "effect/Schema"

/**
 * The database cannot guarantee what Sluice promises, or its tables are not Sluice's own. Raised at start, before anything
 * is written. `reason` says what was found and what to do.
 */
export class DatabaseUnfit extends Schema.TaggedError<DatabaseUnfit>()("DatabaseUnfit", {
  /**
   * - `version`: older than Postgres 15.
   * - `encoding`: not UTF8.
   * - `search-path`: other schemas come before `pg_catalog`.
   * - `pooler`: a pooler in transaction mode with a client that prepares statements, or a pooler in statement mode.
   * - `read-only`: tables must be changed, but the server is read-only.
   * - `strangers`: tables that Sluice did not create, or foreign objects that act on its tables.
   * - `incomplete`: tables, columns, primary keys or sequences are missing that applied migrations have made.
   * - `sequence`: a sequence is behind the numbers it has given out.
   * - `rights`: this role may not check whether the tables are current.
   */
  problem: Schema.Literals([
    "version",
    "encoding",
    "search-path",
    "pooler",
    "read-only",
    "strangers",
    "incomplete",
    "sequence",
    "rights"
  ]),
  reason: Schema.String
}) {
  override get message() {
    return this.reason
  }
}
