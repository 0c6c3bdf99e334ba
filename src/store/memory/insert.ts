/**
 * Carries out the declaration of a handler in memory. The table is one of the `MemoryDatabase`, by the declaration's name. Its
 * rows are records of JSON values under the columns' names. A row's key there is its id or, for a declaration with a key, the
 * JSON of the key's values. The table has no types, defaults and constraints: a value that is missing leaves its column out.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { Declaration, FieldSource, Given, Insert, Source } from "../../Declaration.ts"
import * as MemoryDatabase from "../MemoryDatabase.ts"

type Row = Record<string, Schema.Json>
type Value = Schema.Json | undefined

interface Element {
  readonly value: Value
  readonly place: number
}

const at = (value: Value, path: ReadonlyArray<string>): Value =>
  path.reduce<Value>(
    (inner, key) =>
      typeof inner === "object" && inner !== null && !Array.isArray(inner) && Object.hasOwn(inner, key)
        ? (inner as { readonly [key: string]: Schema.Json })[key]
        : undefined,
    value
  )

const fieldOf = ({ of, path }: FieldSource, { data }: Given, element: Element | undefined): Value =>
  at(of === "output" ? data : element?.value, path)

const valueOf = (source: Source, given: Given, element: Element | undefined): Value => {
  switch (source._tag) {
    case "Field":
      return fieldOf(source, given, element)
    case "Call": {
      const { call } = given
      return source.field === "finishedAt" ? DateTime.formatIso(call.finishedAt) : call[source.field] ?? null
    }
    case "Context":
      return given.context[source.key]
    case "Place":
      return element?.place
    case "Constant":
      return source.value
  }
}

const elementsOf = (declaration: Declaration, given: Given): ReadonlyArray<Element | undefined> => {
  if (declaration.each === undefined) return [undefined]
  const array = fieldOf(declaration.each, given, undefined)
  return Array.isArray(array) ? array.map((value: Schema.Json, index) => ({ value, place: index + 1 })) : []
}

const rowOf = (declaration: Declaration, given: Given, element: Element | undefined): Row => {
  const row: Row = {}
  for (const { name, source } of declaration.columns) {
    const value = valueOf(source, given, element)
    if (value !== undefined) row[name] = value
  }
  return row
}

/** The row's key in its table. As in SQL, a key that is partly null equals no other. */
const keyOf = ({ key }: Declaration, row: Row, id: string): string => {
  const values = key.map((column) => row[column] ?? null)
  return key.length === 0 || values.includes(null) ? id : JSON.stringify(values)
}

/** The row that exists, with what is overwritten. */
const overwritten = (before: Row, { overwrite }: Declaration, row: Row): Row => {
  const kept = Object.entries(before).filter(([column]) => !overwrite.includes(column))
  const changed = Object.entries(row).filter(([column]) => overwrite.includes(column))
  return Object.fromEntries([...kept, ...changed])
}

/** Writes a row, or overwrites the one that has its key. Returns its id. */
const write = Effect.fnUntraced(function*(
  db: MemoryDatabase.MemoryDatabase["Service"],
  declaration: Declaration,
  row: Row
) {
  const { id, table } = declaration
  const rows = MemoryDatabase.table<Row>(table)
  const own = row[id] ?? (yield* db.next(table))
  const key = keyOf(declaration, row, String(own))
  return yield* db.use((access) => {
    const before = access.get(rows, key)
    if (before !== undefined && declaration.key.length === 0) {
      throw new Error(`table ${table} has a row ${key} already`)
    }
    const after = before === undefined ? { [id]: own, ...row } : overwritten(before, declaration, row)
    access.set(rows, key, after)
    return String(after[id])
  })
})

/** How the store carries out declarations. */
export const make = (db: MemoryDatabase.MemoryDatabase["Service"]): Insert => (declaration, answers) =>
  Effect.forEach(answers, (given) =>
    Effect.forEach(
      elementsOf(declaration, given),
      (element) => write(db, declaration, rowOf(declaration, given, element))
    ))
