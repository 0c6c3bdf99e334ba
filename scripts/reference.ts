/**
 * Writes `docs/reference.md` from the sources. With `--check` it writes nothing, and fails when the page is not what it
 * would write, when a public name has no doc comment, or when an example in a doc comment does not compile.
 */
import { readFileSync, writeFileSync } from "node:fs"
import path from "node:path"
import ts from "ts6"
import {
  barrel,
  compilerOptions,
  entries,
  modulesOf,
  root,
  undocumented,
  undocumentedInBarrel,
  unexported
} from "./reference/api.ts"
import { examples, problemsIn } from "./reference/examples.ts"
import { page } from "./reference/page.ts"

const file = path.join(root, "docs/reference.md")

const list = examples()
const virtual = new Map(list.map((example) => [example.file, example.text]))
const options: ts.CompilerOptions = {
  ...compilerOptions(),
  // an example may declare what it only shows, and is imported for
  noUnusedLocals: false,
  noUnusedParameters: false,
  verbatimModuleSyntax: false
}
const host = ts.createCompilerHost(options)
const program = ts.createProgram([barrel, ...entries().map(({ file }) => file), ...virtual.keys()], options, {
  ...host,
  fileExists: (name) => virtual.has(name) || host.fileExists(name),
  readFile: (name) => virtual.get(name) ?? host.readFile(name),
  getSourceFile: (name, version, ...rest) => {
    const text = virtual.get(name)
    return text === undefined ? host.getSourceFile(name, version, ...rest) : ts.createSourceFile(name, text, version)
  }
})
const modules = modulesOf(program)
const text = page(program, modules)

const isStale = (): boolean => {
  try {
    return readFileSync(file, "utf8") !== text
  } catch {
    return true
  }
}

const problems = [
  ...undocumented(modules),
  ...undocumentedInBarrel(program),
  ...unexported(program, modules),
  ...problemsIn(program, list)
]
if (!process.argv.includes("--check")) writeFileSync(file, text)
else if (isStale()) problems.push("docs/reference.md is not up to date; run `npm run reference`")
if (problems.length > 0) {
  process.stderr.write(`${problems.join("\n")}\n`)
  process.exitCode = 1
}
