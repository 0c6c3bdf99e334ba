/**
 * Builds JSON of the port's form in the database, which the port's schemas decode the same way on every store.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/**
 * A time column as ISO text. A row edited manually can contain a time without one, like `infinity`: it becomes the latest
 * time.
 */
export const iso = (column: string): string =>
  `case when ${column} is not null then pg_catalog.to_char(
    least(greatest(${column}, '0001-01-01Z'), '9999-12-31T23:59:59.999Z') at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
  ) end`

/** A time as text that converts back to the same time, to the microsecond, whatever the session's date style. */
export const exactTime = (time: string): string => `(pg_catalog.to_json(${time}) #>> '{}'::pg_catalog.text[])`

/** The objects of a ledger line. A row edited manually can contain other values, which are left out. */
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

/** The value of a column that should contain an object; a row edited manually can contain any JSON. */
export const jsonObject = (value: unknown): { readonly [key: string]: Schema.Json } =>
  // a jsonb column contains JSON
  Predicate.isObject(value) ? value as { readonly [key: string]: Schema.Json } : {}

/**
 * Decodes JSON that the database built. A payload edited manually can contain numbers that JavaScript lacks (`1e400`); they
 * become null.
 */
export const decoder = <A, I>(schema: Schema.Codec<A, I>) => {
  const decode = Schema.decodeUnknownEffect(schema)
  return (json: unknown) => Effect.catch(decode(json), () => decode(JSON.parse(JSON.stringify(json))))
}

/** Decodes the column `row` of each row. Sluice built this JSON: if it does not decode, that is a bug. */
export const readRows = <A, I>(schema: Schema.Codec<A, I>) => {
  const decode = decoder(Schema.Array(schema))
  return <E, R>(rows: Effect.Effect<ReadonlyArray<{ readonly row: unknown }>, E, R>) =>
    Effect.flatMap(rows, (found) => Effect.orDie(decode(found.map(({ row }) => row))))
}
