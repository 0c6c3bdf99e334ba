/**
 * Finds what is wrong with a declaration in itself or for its output, whatever its tables are. The compiler refuses some of
 * it.
 */
import type * as Schema from "effect/Schema"
import type { Declaration, FieldSource, Source } from "../Declaration.ts"
import { canBeArray, elementOf, fieldOf, namesOf, type Possible, possibleOf } from "./encodedFields.ts"
import { textProblem } from "./jsonProblem.ts"
import { nearest } from "./nearest.ts"
import { quote } from "./quote.ts"

const usesItem = (source: Source): boolean =>
  source._tag === "Place" || (source._tag === "Field" && source.of === "item")

const usesInner = (source: Source): boolean =>
  source._tag === "InnerPlace" || (source._tag === "Field" && source.of === "inner")

/** The texts of a source that stand in SQL. */
const textsOf = (source: Source): ReadonlyArray<string> => {
  switch (source._tag) {
    case "Field":
      return source.path
    case "Context":
      return [source.key]
    case "Constant":
      return [String(source.value)]
    default:
      return []
  }
}

const wholes = { output: "the answer", item: "an item", inner: "an inner element" } as const

/** What is wrong with a field: nothing, or that the value that it is named in certainly has none of this name. */
const fieldProblem = ({ of, path }: FieldSource, whole: Possible): string | undefined => {
  let at = whole
  for (const [index, name] of path.entries()) {
    const within = at
    at = fieldOf(within, name)
    if (at?.length !== 0) continue
    const meant = nearest(name, namesOf(within))
    return `${[of, ...path].join(".")}, and ${index === 0 ? wholes[of] : [of, ...path.slice(0, index)].join(".")} ` +
      `has no field ${quote(name)}` +
      (meant !== undefined ? `: is ${quote(meant)} meant?` : canBeArray(within) ? ": it is an array" : "")
  }
  return undefined
}

const valueAt = ({ path }: FieldSource, whole: Possible): Possible => path.reduce(fieldOf, whole)

const arrayProblem = (source: FieldSource, whole: Possible): string | undefined =>
  fieldProblem(source, whole) ??
    (canBeArray(valueAt(source, whole)) ? undefined : `${[source.of, ...source.path].join(".")}, which is no array`)

/**
 * Which field of a declaration no answer of this schema has. The compiler refuses it as well, but the modules that the
 * command loads are not type-checked, and the store would take such a field for one that is missing.
 */
const misspelt = ({ columns, each, inner }: Declaration, schema: Schema.Top): string | undefined => {
  const output = possibleOf(schema)
  const wrongEach = each && arrayProblem(each, output)
  if (wrongEach !== undefined) return `each names ${wrongEach}`
  const item = each && elementOf(valueAt(each, output))
  const wrongInner = inner && arrayProblem(inner, item)
  if (wrongInner !== undefined) return `inner names ${wrongInner}`
  const whole = { output, item, inner: inner && elementOf(valueAt(inner, item)) }
  for (const { name, source } of columns) {
    const wrong = source._tag === "Field" ? fieldProblem(source, whole[source.of]) : undefined
    if (wrong !== undefined) return `column ${quote(name)} takes ${wrong}`
  }
  return undefined
}

/** What is wrong with a declaration for an output of this schema, if anything. */
export const declarationProblem = (declaration: Declaration, schema: Schema.Top): string | undefined => {
  const { columns, each, id, inner, key, object, overwrite, table } = declaration
  const names = columns.map(({ name }) => name)
  const stranger = [...key, ...overwrite].find((name) => !names.includes(name))
  if ([table, object, id].some((text) => typeof text !== "string" || text === "")) {
    return "table, object and id are names, and none is empty"
  }
  // a statement with such a text is no statement, or one with another text
  const arrays = [each, inner].flatMap((array) => array === undefined ? [] : textsOf(array))
  const values = columns.flatMap(({ name, source }) => [name, ...textsOf(source)])
  for (const text of [table, object, id, ...arrays, ...values]) {
    const problem = textProblem(text)
    if (problem !== undefined) return `the text ${quote(text)} ${problem}`
  }
  if (names.length === 0) return "columns gives no column a value"
  if (stranger !== undefined) return `${quote(stranger)} is in key or overwrite, and not in columns`
  if (overwrite.some((name) => key.includes(name))) return "overwrite names a column of the key"
  if (key.length === 0 && overwrite.length > 0) return "overwrite is only for a declaration with a key"
  if (inner !== undefined && each === undefined) return "inner is of an item, and there is no each"
  const item = each === undefined ? columns.find(({ source }) => usesItem(source)) : undefined
  if (item !== undefined) return `column ${quote(item.name)} is of an item, and there is no each`
  const within = inner === undefined ? columns.find(({ source }) => usesInner(source)) : undefined
  if (within !== undefined) return `column ${quote(within.name)} is of an inner element, and there is no inner`
  return misspelt(declaration, schema)
}
