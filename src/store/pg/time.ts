/**
 * Times of the server's clock, for statements.
 */
import * as Duration from "effect/Duration"
import type { Tables } from "./tables.ts"

/** The time after this span. */
export const inFuture = ({ sql }: Pick<Tables, "sql">, span: Duration.Duration) =>
  sql`pg_catalog.now() + ${Duration.toMillis(span)}::pg_catalog.float8 * interval '1 millisecond'`

// longer than any real age, and still a time that Postgres can represent
const longest = Duration.days(365 * 1000)

/** The time this long ago. */
export const ago = ({ sql }: Pick<Tables, "sql">, age: Duration.Duration) =>
  sql`pg_catalog.now() - ${Duration.toMillis(Duration.min(age, longest))}::pg_catalog.float8 * interval '1 millisecond'`
