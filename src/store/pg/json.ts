/**
 * Answers that leave the database as JSON of the port's own form, so that the port's schemas read them on every store
 * alike.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/** A time column as ISO text. A hand can have written times that no ISO text tells, as `infinity`: the last there is. */
export const iso = (column: string): string =>
  `case when ${column} is not null then pg_catalog.to_char(
    least(greatest(${column}, '0001-01-01Z'), '9999-12-31T23:59:59.999Z') at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
  ) end`

/** A time as text that comes back as the same time, to the microsecond, whatever the session's date style. */
export const exactTime = (time: string): string => `(pg_catalog.to_json(${time}) #>> '{}'::pg_catalog.text[])`

/** The rows a line of the ledger names, as far as it names any: a hand can have written others. */
export const objects = (column: string): string =>
  `coalesce((
    select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('type', o ->> 'type'::pg_catalog.text, 'id', o ->> 'id'::pg_catalog.text))
    from pg_catalog.jsonb_array_elements(case when pg_catalog.jsonb_typeof(${column}) = 'array' then ${column} else '[]' end) o
    where pg_catalog.jsonb_typeof(o) = 'object' and o ->> 'type'::pg_catalog.text <> '' and o ->> 'id'::pg_catalog.text <> ''
  ), '[]')`

/** A row of `chunk_failure` in the port's form. */
export const failureRecord = (row: string): string => `
  pg_catalog.json_build_object(
    'at', ${iso(`${row}.at`)}, 'attempt', ${row}.attempt, 'handler', ${row}.handler, 'kind', ${row}.kind,
    'message', ${row}.message
  )`

/** A column that should hold an object, and into which a hand can have written anything. */
export const jsonObject = (value: unknown): { readonly [key: string]: Schema.Json } =>
  // what stands in a jsonb column is JSON
  Predicate.isObject(value) ? value as { readonly [key: string]: Schema.Json } : {}

/**
 * Decodes what the database put together. A hand can have written numbers into a payload that are none to JavaScript
 * (`1e400`); they are shown as null.
 */
export const decoder = <A, I>(schema: Schema.Codec<A, I>) => {
  const decode = Schema.decodeUnknownEffect(schema)
  return (json: unknown) => Effect.catch(decode(json), () => decode(JSON.parse(JSON.stringify(json))))
}

/** Reads the column `row` of each row. What Sluice itself put together decodes; if not, that is a bug. */
export const readRows = <A, I>(schema: Schema.Codec<A, I>) => {
  const decode = decoder(Schema.Array(schema))
  return <E, R>(rows: Effect.Effect<ReadonlyArray<{ readonly row: unknown }>, E, R>) =>
    Effect.flatMap(rows, (found) => Effect.orDie(decode(found.map(({ row }) => row))))
}

/** Postgres text holds no NUL. */
export const storableText = (text: string): string => text.replaceAll("\0", "\\0").toWellFormed()
