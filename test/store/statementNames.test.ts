/**
 * Each function and type in a statement of Sluice's own is named with its schema: a role's search path may hold others of
 * the same name. (Whether operators meet the exact types of Postgres' own is seen by running them: `shadows.test.ts`.)
 */
import { globSync, readFileSync } from "node:fs"
import path from "node:path"
import ts from "ts6"
import { expect, it } from "vitest"

const sources = path.resolve(import.meta.dirname, "../../src")

/** What looks like a call and is syntax: the server looks it up in no path. */
const syntax = new Set(
  ("all and any array as by cast coalesce exists extract filter from greatest in " +
    "least nullif not on operator or over position row select substring using values").split(" ")
)
/** Types that are words of the grammar. */
const grammarTypes = new Set(["int", "bigint", "boolean", "interval"])

/**
 * Not statements: programs in JavaScript, what people are advised to send, and what migrations send in a path of their own.
 */
const others = ["cli/loading.ts", "cli/examine.ts", "store/pg/migrationFiles.ts"]

/** The literal parts of strings and templates, with what stands around each. */
const partsOf = (file: string): ReadonlyArray<string> => {
  const text = readFileSync(path.join(sources, file), "utf8")
  const parts: Array<string> = []
  const visit = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node)) parts.push(node.getText())
    if (ts.isTemplateExpression(node)) {
      parts.push(node.head.getText(), ...node.templateSpans.map((span) => span.literal.getText()))
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true))
  return parts
}

const files = globSync(["store/**/*.ts", "cli/**/*.ts", "testing/**/*.ts"], { cwd: sources }).filter((file) =>
  !others.includes(file)
)

/** What a pattern finds in them, as `file: text around it`. */
const found = (pattern: RegExp, isMeant: (name: string) => boolean): ReadonlyArray<string> =>
  files.flatMap((file) =>
    partsOf(file).flatMap((part) =>
      [...part.matchAll(pattern)].filter(([, name = ""]) => isMeant(name)).map((match) =>
        `${file}: ${part.slice(Math.max(0, match.index - 20), match.index + 40).replaceAll(/\s+/g, " ")}`
      )
    )
  )

it("is read where statements are", () => {
  const qualified = files.flatMap(partsOf).flatMap((part) => part.match(/pg_catalog\.\w+/g) ?? [])
  expect(qualified.length).toBeGreaterThan(300)
})

it("no function stands without its schema", () => {
  // a table's name with its columns comes after a parenthesis, a brace, or a word of the grammar
  const call = /(?<![\w.$"'`-]|\b(?:as|ordinality) |[)}]\s+(?=\w+\((?:[a-z_]+)(?:, [a-z_]+)*\)))\b([a-z_][a-z0-9_]*)\(/g
  expect(found(call, (name) => !syntax.has(name))).toEqual([])
})

it("no type of a cast stands without its schema, unless it is a word of the grammar", () => {
  expect(found(/::([a-z_]\w*)/g, (name) => name !== "pg_catalog" && !grammarTypes.has(name))).toEqual([])
})

it("no key of JSON stands without its type", () => {
  expect(found(/->>? ('\w*')(?!::)/g, () => true)).toEqual([])
})
