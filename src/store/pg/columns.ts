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

const isSingle = (columns: ReadonlyArray<Column>): boolean => columns.every(({ values }) => values.length === 1)

/** Whether all rows have the same value in a column. */
const isFixed = ({ values }: Column): boolean => values.length > 1 && values.every((value) => value === values[0])

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
  if (isSingle(columns)) return sql`select ${list(columns.map(one))}, 1::bigint as n`
  const varying = columns.filter((column) => !isFixed(column))
  const fixed = columns.filter(isFixed).map(one)
  const arrays = varying.map((column) => sql`${column.values}::${sql.literal(`${typeOf(column)}[]`)}`)
  const names = sql.literal([...varying.map(({ name }) => name), "n"].join(", "))
  return sql`select ${list([...fixed, names])} from ${unnested(t, arrays)} with ordinality as l(${names})`
}

/** The parameters of {@link rowsOf}, in the order of its text, and its shape: with the same shape, the text is the same. */
export const parametersOf = (
  columns: ReadonlyArray<Column>
): { readonly shape: string; readonly values: ReadonlyArray<unknown> } => {
  if (isSingle(columns)) return { shape: `${columns.length}`, values: columns.map(({ values }) => values[0]) }
  const fixed = columns.map(isFixed)
  return {
    shape: fixed.map((isFixed) => isFixed ? "1" : "n").join(""),
    values: [
      ...columns.flatMap(({ values }, index) => fixed[index] === true ? [values[0]] : []),
      ...columns.flatMap(({ values }, index) => fixed[index] === true ? [] : [values])
    ]
  }
}
