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
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { Declaration, FieldSource, Given, Insert, Source } from "../../Declaration.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as MemoryDatabase from "../MemoryDatabase.ts"

type Row = Record<string, Schema.Json>
type Value = Schema.Json | undefined

interface Element {
  readonly value: Value
  readonly place: number
}

/** What a row is made of. */
interface Made {
  readonly given: Given
  readonly item: Element | undefined
  readonly inner: Element | undefined
  /** The ids of the parent's rows, in the order of their elements. */
  readonly parents: ReadonlyArray<Schema.Json>
}

const at = (value: Value, path: ReadonlyArray<string>): Value =>
  path.reduce<Value>(
    (inner, key) =>
      typeof inner === "object" && inner !== null && !Array.isArray(inner) && Object.hasOwn(inner, key)
        ? (inner as { readonly [key: string]: Schema.Json })[key]
        : undefined,
    value
  )

const fieldOf = ({ of, path }: FieldSource, { given, inner, item }: Made): Value =>
  at({ output: given.data, item: item?.value, inner: inner?.value }[of], path)

const valueOf = (source: Source, made: Made): Value => {
  switch (source._tag) {
    case "Field":
      return fieldOf(source, made)
    case "Call": {
      const { call } = made.given
      return source.field === "finishedAt" ? DateTime.formatIso(call.finishedAt) : call[source.field] ?? null
    }
    case "Context":
      return made.given.context[source.key]
    case "Place":
      return made.item?.place
    case "InnerPlace":
      return made.inner?.place
    case "Parent":
      return made.parents[source.of === "output" ? 0 : (made.item?.place ?? 0) - 1]
    case "Constant":
      return source.value
  }
}

const elementsOf = (array: FieldSource, made: Made): ReadonlyArray<Element> => {
  const value = fieldOf(array, made)
  return Array.isArray(value) ? value.map((value: Schema.Json, index) => ({ value, place: index + 1 })) : []
}

/** What each row of an answer is made of. */
const madeOf = ({ each, inner }: Declaration, whole: Made): ReadonlyArray<Made> => {
  const items = each === undefined ? [whole] : elementsOf(each, whole).map((item) => ({ ...whole, item }))
  return inner === undefined
    ? items
    : items.flatMap((made) => elementsOf(inner, made).map((inner) => ({ ...made, inner })))
}

const rowOf = (declaration: Declaration, made: Made): Row => {
  const row: Row = {}
  for (const { name, source } of declaration.columns) {
    const value = valueOf(source, made)
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

/** Writes a row, or overwrites the one that has its key. Returns its id as the row has it. */
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
    return after[id] ?? null
  })
})

/** How the store carries out declarations. */
export const make = (db: MemoryDatabase.MemoryDatabase["Service"]): Insert => {
  const rows = (declaration: Declaration, given: Given, parents: ReadonlyArray<Schema.Json>) =>
    Effect.forEach(
      madeOf(declaration, { given, item: undefined, inner: undefined, parents }),
      (made) => write(db, declaration, rowOf(declaration, made))
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
