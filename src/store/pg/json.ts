/**
 * Answers that leave the database as JSON of the port's own form, so that the port's schemas read them on every store
 * alike.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Tables } from "./tables.ts"

/** A time column as ISO text. */
export const iso = (column: string): string => `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`

/** Reads the column `row` of each row. What Sluice itself put together decodes; if not, that is a bug. */
export const readRows = <A, I>(schema: Schema.Codec<A, I>) => {
  const decode = Schema.decodeUnknownEffect(Schema.Array(schema))
  return <E, R>(rows: Effect.Effect<ReadonlyArray<{ readonly row: unknown }>, E, R>) =>
    Effect.flatMap(rows, (found) => Effect.orDie(decode(found.map(({ row }) => row))))
}

// longer than any age there is, and still a time that Postgres can tell
const longest = Duration.days(365 * 1000)

/** The time so long ago, by the database's clock. */
export const ago = ({ sql }: Pick<Tables, "sql">, age: Duration.Duration) =>
  sql`now() - ${Duration.toMillis(Duration.min(age, longest))} * interval '1 millisecond'`

/** Postgres text holds no NUL. */
export const storableText = (text: string): string => text.replaceAll("\0", "\\0").toWellFormed()
