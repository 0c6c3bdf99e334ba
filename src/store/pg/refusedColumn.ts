/**
 * Names the table and, where only one can be meant, the column of a value that a declared handler's table refuses. The
 * server names neither for a value that is too long, out of range, or not readable as the column's type.
 */
import * as Predicate from "effect/Predicate"
import type { SqlError } from "effect/sql/SqlError"
import type { Declaration, Given } from "../../Declaration.ts"
import { rowsOf } from "../declaredRows.ts"
import type { Compiled } from "./declared.ts"
import { codeOf } from "./errors.ts"

type Column = Compiled["columns"][number]

/** The texts that Postgres casts to a column's type: the value's own, and of an array those of its elements. */
const textsOf = (value: unknown): ReadonlyArray<string> => [
  typeof value === "string" ? value : JSON.stringify(value),
  ...Array.isArray(value) ? value.flatMap(textsOf) : []
]

/** Whether a value does not fit in `varchar(40)` or `numeric(10,2)`. */
const isTooLarge = ({ exact }: Column, text: string): boolean => {
  const [, most, scale] = /\((\d+)(?:,(-?\d+))?\)/.exec(exact) ?? []
  if (most === undefined) return false
  return scale === undefined
    ? [...text].length > Number(most)
    : Math.abs(Number(text)) >= 10 ** (Number(most) - Number(scale))
}

const hasValue = (code: string, message: string, column: Column, text: string): boolean =>
  message.includes(`"${text}"`) || (["22001", "22003"].includes(code) && isTooLarge(column, text))

/**
 * The column whose value is refused, or undefined if several may be meant. The server's message names the type, or quotes
 * the value; both do not depend on its language.
 */
const columnOf = (message: string, code: string, columns: ReadonlyArray<Column>, rows: ReadonlyArray<object>) => {
  const ranked = columns.map((column) => {
    const texts = rows.flatMap((row): ReadonlyArray<string> =>
      Predicate.hasProperty(row, column.name) ? textsOf(row[column.name]) : []
    )
    const isValue = texts.some((text) => hasValue(code, message, column, text))
    const isType = [column.exact, column.type].some((type) => message.includes(type))
    return { name: column.name, rank: (isValue ? 2 : 0) + (isType ? 1 : 0) }
  })
  const most = Math.max(...ranked.map(({ rank }) => rank))
  const [first, ...others] = ranked.filter(({ rank }) => rank === most)
  // equal values in columns of one type are refused alike, and the first is the one that the server met
  return most === 3 || (most > 0 && others.length === 0) ? first?.name : undefined
}

/** Adds table and column to the server's error of one answer. Of several answers it is unknown which one is at fault. */
export const nameColumn = (
  error: SqlError,
  declaration: Declaration,
  { columns }: Compiled,
  answers: ReadonlyArray<Given & { readonly parents: ReadonlyArray<string> }>
): void => {
  const code = codeOf(error) ?? ""
  const { cause } = error.reason
  const [answer, ...others] = answers
  if (answer === undefined || others.length > 0 || !/^2[23]/.test(code)) return
  if (!(cause instanceof Error) || Predicate.hasProperty(cause, "table") && cause.table !== undefined) return
  // an error with a context arose inside a trigger or a function, which has values of its own
  const isOfFunction = Predicate.hasProperty(cause, "where") && cause.where !== undefined
  const column = isOfFunction
    ? undefined
    : columnOf(cause.message, code, columns, rowsOf(declaration, answer, answer.parents))
  Object.assign(cause, { table: declaration.table, ...(column === undefined ? {} : { column }) })
}
