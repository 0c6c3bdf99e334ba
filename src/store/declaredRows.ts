/**
 * The rows that a declaration makes of an answer, as values of its JSON: without the types, defaults and constraints of a
 * table.
 */
import * as DateTime from "effect/DateTime"
import type * as Schema from "effect/Schema"
import type { Declaration, FieldSource, Given, Source } from "../Declaration.ts"

/** The values of a row by their columns. A value that is missing leaves its column out. */
export type RowValues = Record<string, Schema.Json>

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

const rowOf = (declaration: Declaration, made: Made): RowValues => {
  const row: RowValues = {}
  for (const { name, source } of declaration.columns) {
    const value = valueOf(source, made)
    if (value !== undefined) row[name] = value
  }
  return row
}

/** The rows of an answer, in their order. `parents` are the ids of its parent's rows, in the order of their elements. */
export const rowsOf = (
  declaration: Declaration,
  given: Given,
  parents: ReadonlyArray<Schema.Json>
): ReadonlyArray<RowValues> =>
  madeOf(declaration, { given, item: undefined, inner: undefined, parents }).map((made) => rowOf(declaration, made))
