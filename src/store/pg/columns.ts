/**
 * Sends many rows as the parameters of one statement.
 */
import type { Fragment } from "effect/sql/Statement"
import type { Tables } from "./tables.ts"

/** Values as a column of rows. */
export interface Column {
  readonly name: string
  readonly type: "bigint" | "int" | "text"
  readonly values: ReadonlyArray<string | number | bigint>
}

/** Arrays as the columns of a table. A schema-qualified `unnest` accepts only one array in the server's grammar. */
export const unnested = ({ sql }: Tables, arrays: ReadonlyArray<Fragment>): Fragment =>
  sql`rows from (${sql.join(", ", false)(arrays.map((array) => sql`pg_catalog.unnest(${array})`))})`

/**
 * Rows from columns, numbered from 1 as `n`, in the given order. A column with one value, like most columns of one handler's
 * batch, is sent once: each array costs server and client a tenth of the whole. A single row needs no arrays.
 */
export const rowsOf = (t: Tables, columns: ReadonlyArray<Column>) => {
  const { sql } = t
  const typeOf = ({ type }: Column) => type === "text" ? "pg_catalog.text" : type
  const list = sql.join(", ", false)
  const one = (column: Column) =>
    sql`${column.values[0]}::${sql.literal(typeOf(column))} as ${sql.literal(column.name)}`
  if (columns.every(({ values }) => values.length === 1)) return sql`select ${list(columns.map(one))}, 1::bigint as n`
  const isFixed = ({ values }: Column) => values.length > 1 && values.every((value) => value === values[0])
  const varying = columns.filter((column) => !isFixed(column))
  const fixed = columns.filter(isFixed).map(one)
  const arrays = varying.map((column) => sql`${column.values}::${sql.literal(`${typeOf(column)}[]`)}`)
  const names = sql.literal([...varying.map(({ name }) => name), "n"].join(", "))
  return sql`select ${list([...fixed, names])} from ${unnested(t, arrays)} with ordinality as l(${names})`
}
