/**
 * Which fields the JSON of a schema's values can have, as its encoded side says. An answer is recorded as this JSON, so a
 * name that is not among them is misspelt. Whatever is not understood can have any field.
 */
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

/** What may stand at a place of the JSON: one of these, nothing if there are none, and anything if it is undefined. */
export type Possible = ReadonlyArray<SchemaAST.AST> | undefined

/** More are not looked at: a schema may make a new one each time that it is asked, without an end. */
const mostTypes = 1000

const resolved = ({ thunk }: SchemaAST.Suspend): SchemaAST.AST | undefined => {
  try {
    return thunk()
  } catch {
    // it names a constant that its module defines later
    return undefined
  }
}

/** The types without unions and suspensions. */
const flat = (types: ReadonlyArray<SchemaAST.AST>): Possible => {
  const found: Array<SchemaAST.AST> = []
  // a loop over a set goes on with what is added meanwhile; what contains itself is added once
  const seen = new Set(types)
  for (const ast of seen) {
    if (seen.size > mostTypes) return undefined
    switch (ast._tag) {
      case "Union":
        for (const member of ast.types) seen.add(member)
        break
      case "Suspend": {
        const next = resolved(ast)
        if (next === undefined) return undefined
        seen.add(next)
        break
      }
      case "Objects":
        // a struct without fields keeps all that it is given
        if (ast.propertySignatures.length === 0 && ast.indexSignatures.length === 0) return undefined
        found.push(ast)
        break
      case "Arrays":
      case "Null":
      case "String":
      case "Number":
      case "Boolean":
      case "Literal":
      case "TemplateLiteral":
      case "Enum":
        found.push(ast)
        break
      default:
        return undefined
    }
  }
  // types of which none has a value
  return found.length === 0 && types.length > 0 ? undefined : found
}

/** What the JSON of a schema's values may be. */
export const possibleOf = (schema: Schema.Top): Possible => flat([SchemaAST.toEncoded(Schema.toCodecJson(schema).ast)])

/** What may stand in a field. Nothing if there certainly is none of this name. */
export const fieldOf = (possible: Possible, name: string): Possible =>
  possible && flat(
    possible.filter(SchemaAST.isObjects).flatMap(({ indexSignatures, propertySignatures }) => [
      ...propertySignatures.filter((property) => property.name === name).map(({ type }) => type),
      // which names these are for is not asked
      ...indexSignatures.map(({ type }) => type)
    ])
  )

/** The names of the fields that a schema lists. */
export const namesOf = (possible: Possible): ReadonlyArray<string> =>
  (possible ?? []).filter(SchemaAST.isObjects).flatMap(({ propertySignatures }) =>
    propertySignatures.map(({ name }) => String(name))
  )

/** Whether an array may stand here. */
export const canBeArray = (possible: Possible): boolean => possible === undefined || possible.some(SchemaAST.isArrays)

/** What may be an element of an array that stands here. */
export const elementOf = (possible: Possible): Possible => {
  const types = (possible ?? []).filter(SchemaAST.isArrays).flatMap(({ elements, rest }) => [...elements, ...rest])
  return types.length === 0 ? undefined : flat(types)
}
