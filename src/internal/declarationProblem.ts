/**
 * Finds what is wrong with a declaration in itself, whatever its tables are. The compiler refuses some of it.
 */
import type { Declaration, Source } from "../Declaration.ts"
import { textProblem } from "./jsonProblem.ts"
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

/** What is wrong with a declaration, if anything. */
export const declarationProblem = (
  { columns, each, id, inner, key, object, overwrite, table }: Declaration
): string | undefined => {
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
  return within === undefined ? undefined : `column ${quote(within.name)} is of an inner element, and there is no inner`
}
