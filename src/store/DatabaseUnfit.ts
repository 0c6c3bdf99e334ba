/**
 * A database on which Sluice must not start.
 */
import * as Schema from "effect/Schema"

/**
 * The database cannot keep what Sluice promises, or is not what it seems: found at the start, before anything is written. The
 * reason says what was found and what to do.
 */
export class DatabaseUnfit extends Schema.TaggedError<DatabaseUnfit>()("DatabaseUnfit", {
  /**
   * `version`: older than Postgres 15. `encoding`: not UTF8. `search-path`: other schemas stand before `pg_catalog`. `pooler`: a pooler in transaction mode, and a client that prepares
   * statements. `read-only`: tables are to be changed on a server that only reads. `strangers`: tables, or what acts on them, that others made. `sequence`: one
   * that stands behind the numbers it gave out. `rights`: this role may not look whether the tables are current.
   */
  problem: Schema.Literals([
    "version",
    "encoding",
    "search-path",
    "pooler",
    "read-only",
    "strangers",
    "sequence",
    "rights"
  ]),
  reason: Schema.String
}) {
  override get message() {
    return this.reason
  }
}
