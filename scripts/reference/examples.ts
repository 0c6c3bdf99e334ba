/**
 * The examples in doc comments, each as a file that the compiler reads beside the sources. An example shows what it is about
 * and leaves out the rest: what it names and does not declare is imported for it, and one that yields stands in a generator.
 */
import { globSync, readFileSync } from "node:fs"
import path from "node:path"
import ts from "ts6"
import { barrel, entries, root } from "./api.ts"

/** What examples may name besides the packages: the domain's outputs, repositories and values. */
const prelude = path.join(import.meta.dirname, "prelude.ts")

/** An example, and the file made of it. */
export interface Example {
  /** The file that exists for the compiler only. */
  readonly file: string
  readonly text: string
  /** Where it stands. */
  readonly source: string
  readonly line: number
  /** How many lines stand before it in `text`. */
  readonly above: number
}

const parse = (text: string): ts.SourceFile => ts.createSourceFile("example.ts", text, ts.ScriptTarget.Latest, true)

/** The names that a file exports at its top, by its text. */
const exportedBy = (file: string): ReadonlyArray<string> => {
  const text = readFileSync(file, "utf8")
  const own = [...text.matchAll(/^export (?:declare )?(?:abstract )?(?:const|class|interface|type|function) (\w+)/gm)]
  const gathered = [...text.matchAll(/^export \* as (\w+)/gm)]
  const listed = [...text.matchAll(/^export \{([^}]+)\}/gm)].flatMap(([, names = ""]) =>
    names.split(",").map((name) => name.trim().replace(/^type /, ""))
  )
  return [...own.map(([, name = ""]) => name), ...gathered.map(([, name = ""]) => name), ...listed]
}

/** The import for each name that an example may use; the earlier source of a name wins. */
const imports = (): ReadonlyMap<string, string> => {
  const found = new Map<string, string>()
  const add = (from: string, names: ReadonlyArray<string>) => {
    for (const name of names) if (!found.has(name)) found.set(name, `import { ${name} } from "${from}"`)
  }
  add("effect-sluice", exportedBy(barrel))
  // as its own head says
  found.set("Answer", "import * as Answer from \"effect-sluice/ai\"")
  for (const { file, name } of entries()) {
    const last = path.basename(name)
    if (!/^[A-Z]/.test(last)) add(`effect-sluice/${name}`, exportedBy(file))
    else if (!found.has(last)) found.set(last, `import * as ${last} from "effect-sluice/${name}"`)
  }
  add("./prelude.ts", exportedBy(prelude))
  add("effect", exportedBy(path.join(root, "node_modules/effect/dist/index.d.ts")))
  add("effect/ai", ["Chat"])
  add("effect/sql", ["SqlClient"])
  add("effect/testing", ["TestClock"])
  add("effect/observability", ["Otlp"])
  add("@effect/platform-node", ["NodeRuntime"])
  add("@effect/vitest", ["it", "layer"])
  return found
}

/** The names that an example declares or imports itself, wherever, and those that it uses. */
const namesIn = (file: ts.SourceFile): { readonly declared: Set<string>; readonly used: Set<string> } => {
  const declared = new Set<string>()
  const used = new Set<string>()
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) {
      const { parent } = node
      const declares = (ts.isVariableDeclaration(parent) || ts.isParameter(parent) || ts.isBindingElement(parent) ||
        ts.isClassDeclaration(parent) || ts.isFunctionDeclaration(parent) || ts.isImportSpecifier(parent) ||
        ts.isNamespaceImport(parent) || ts.isInterfaceDeclaration(parent) || ts.isTypeAliasDeclaration(parent)) &&
        parent.name === node
      const isField = (ts.isPropertyAccessExpression(parent) && parent.name === node) ||
        (ts.isPropertyAssignment(parent) && parent.name === node) ||
        (ts.isBindingElement(parent) && parent.propertyName === node) ||
        (ts.isQualifiedName(parent) && parent.right === node)
      if (declares) declared.add(node.text)
      else if (!isField) used.add(node.text)
    }
    ts.forEachChild(node, visit)
  }
  visit(file)
  return { declared, used }
}

/** Whether it yields, or returns, outside a function of its own. */
const isBody = (node: ts.Node): boolean =>
  ts.isYieldExpression(node) || ts.isReturnStatement(node) ||
  (!ts.isFunctionLike(node) && ts.forEachChild(node, isBody) === true)

/** The file for an example, and how many of its lines stand before what is shown. */
const complete = (shown: string, known: ReadonlyMap<string, string>): { text: string; above: number } => {
  // in a script a yield is a name: a generator around it makes it what it is meant to be
  const inside = parse(`function* example() {\n${shown}\n}`)
  const body = inside.statements[0]
  const block = body !== undefined && ts.isFunctionDeclaration(body) ? body.body : undefined
  const yields = block !== undefined && block.statements.some(isBody)
  const { declared, used } = namesIn(yields ? inside : parse(shown))
  const head = [...used].filter((name) => !declared.has(name)).flatMap((name) => known.get(name) ?? [])
  // the module of a function's body has nothing else that makes it a module
  if (yields) {
    const first = [...head, "import { Effect as $ } from \"effect\"", "export const example = $.gen(function*() {"]
    return { text: `${first.join("\n")}\n${shown}\n})\n`, above: first.length }
  }
  return { text: `${[...head, "export {}"].join("\n")}\n${shown}\n`, above: head.length + 1 }
}

/** All examples in doc comments of `src/`. */
export const examples = (): ReadonlyArray<Example> => {
  const known = imports()
  return globSync("src/**/*.ts", { cwd: root }).sort().flatMap((source) => {
    const text = readFileSync(path.join(root, source), "utf8")
    return [...text.matchAll(/^ *\* ```ts\n([^]*?)^ *\* ```$/gm)].map((match) => {
      const line = text.slice(0, match.index).split("\n").length + 1
      const shown = (match[1] ?? "").replaceAll(/^ *\* ?/gm, "").trimEnd()
      const file = path.join(import.meta.dirname, `${source.replaceAll("/", ".").slice(0, -3)}.${line}.ts`)
      return { file, source, line, ...complete(shown, known) }
    })
  })
}

/** What the compiler has against each example. */
export const problemsIn = (program: ts.Program, list: ReadonlyArray<Example>): ReadonlyArray<string> =>
  list.flatMap((example) => {
    const file = program.getSourceFile(example.file)
    return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)].map((problem) => {
      const { line } = file?.getLineAndCharacterOfPosition(problem.start ?? 0) ?? { line: example.above }
      const at = Math.max(line - example.above, 0)
      const message = ts.flattenDiagnosticMessageText(problem.messageText, "\n  ")
      return `${example.source}:${example.line + at} the example does not compile: ${message}`
    })
  })
