/**
 * Many rows as the parameters of one statement.
 */
import type { Tables } from "./tables.ts"

/** Values as a column of rows. */
export interface Column {
  readonly name: string
  readonly type: "bigint" | "int" | "text"
  readonly values: ReadonlyArray<string | number | bigint>
}

/**
 * Rows from columns, numbered from 1 as `n`, in the order given. What is the same in all of them, as nearly everything is
 * in one handler's batch, is sent once: each array costs both ends as much as a tenth of the whole.
 */
export const rowsOf = ({ sql }: Tables, columns: ReadonlyArray<Column>) => {
  const list = sql.join(", ", false)
  const isFixed = ({ values }: Column) => values.length > 1 && values.every((value) => value === values[0])
  const varying = columns.filter((column) => !isFixed(column))
  const fixed = columns.filter(isFixed).map(({ name, type, values }) =>
    sql`${values[0]}::${sql.literal(type)} as ${sql.literal(name)}`
  )
  const arrays = varying.map(({ type, values }) => sql`${values}::${sql.literal(`${type}[]`)}`)
  const names = sql.literal([...varying.map(({ name }) => name), "n"].join(", "))
  return sql`select ${list([...fixed, names])} from unnest(${list(arrays)}) with ordinality as l(${names})`
}
