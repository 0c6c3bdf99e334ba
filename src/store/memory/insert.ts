/**
 * Carries out the declaration of a handler in memory. The table is one of the `MemoryDatabase`, by the declaration's name.
 * Its rows are records of JSON values under the columns' names. A row's key there is its id or, for a declaration with a
 * key, the JSON of the key's values.
 *
 * The rows are those of Postgres, as far as a table without types, defaults and constraints can have them: a value is as the
 * answer's JSON has it, not of its column's type; one that is missing leaves its column out; an id that is not given is the
 * next number of its table, whatever the table on Postgres makes; and no row is refused but a second one with an id that is
 * given.
 */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { Declaration, Given, Insert } from "../../Declaration.ts"
import * as DomainObject from "../../DomainObject.ts"
import { rowsOf, type RowValues } from "../declaredRows.ts"
import * as MemoryDatabase from "../MemoryDatabase.ts"

/** The row's key in its table. As in SQL, a key that is partly null equals no other. */
const keyOf = ({ key }: Declaration, row: RowValues, id: string): string => {
  const values = key.map((column) => row[column] ?? null)
  return key.length === 0 || values.includes(null) ? id : JSON.stringify(values)
}

/** The row that exists, with what is overwritten. */
const overwritten = (before: RowValues, { overwrite }: Declaration, row: RowValues): RowValues => {
  const kept = Object.entries(before).filter(([column]) => !overwrite.includes(column))
  const changed = Object.entries(row).filter(([column]) => overwrite.includes(column))
  return Object.fromEntries([...kept, ...changed])
}

/** Writes a row, or overwrites the one that has its key. Returns its id as the row has it. */
const write = Effect.fnUntraced(function*(
  db: MemoryDatabase.MemoryDatabase["Service"],
  declaration: Declaration,
  row: RowValues
) {
  const { id, table } = declaration
  const rows = MemoryDatabase.table<RowValues>(table)
  const own = row[id] ?? (yield* db.next(table))
  const key = keyOf(declaration, row, String(own))
  return yield* db.use((access) => {
    const before = access.get(rows, key)
    if (before !== undefined && declaration.key.length === 0) {
      throw new Error(`table ${table} has a row ${key} already`)
    }
    const after = before === undefined ? { [id]: own, ...row } : overwritten(before, declaration, row)
    access.set(rows, key, after)
    return after[id] ?? null
  })
})

/** How the store carries out declarations. */
export const make = (db: MemoryDatabase.MemoryDatabase["Service"]): Insert => {
  const rows = (declaration: Declaration, given: Given, parents: ReadonlyArray<Schema.Json>) =>
    Effect.forEach(
      rowsOf(declaration, given, parents),
      (row) => write(db, declaration, row)
    )
  return Effect.fnUntraced(function*(declaration, answers) {
    const named = ({ object }: Declaration) => (id: Schema.Json) => DomainObject.make(object, String(id))
    // table after table, as on Postgres
    const parents = yield* Effect.forEach(answers, (given) => rows(declaration, given, []))
    const objects = parents.map((ids) => ids.map(named(declaration)))
    for (const child of declaration.children) {
      const ids = yield* Effect.forEach(answers, (given, index) => rows(child, given, parents[index] ?? []))
      ids.forEach((ids, index) => objects[index]?.push(...ids.map(named(child))))
    }
    return objects
  })
}
