/**
 * The package's public names, read from the sources: what each subpath of `package.json` exports, with its doc comments.
 */
import { readFileSync } from "node:fs"
import path from "node:path"
import ts from "ts6"

/** The project's folder. */
export const root = path.resolve(import.meta.dirname, "../..")

/** A subpath of the package, and the source behind it. */
export interface Entry {
  /** As in `effect-sluice/store/PgStore`: `store/PgStore`. */
  readonly name: string
  readonly file: string
}

/** A name that a module exports. */
export interface Export {
  readonly name: string
  readonly declarations: ReadonlyArray<ts.Declaration>
  /** The module that tells of it, when another one does. */
  readonly toldIn: string | undefined
}

/** A module of the package. */
export interface Module extends Entry {
  readonly source: ts.SourceFile
  readonly exports: ReadonlyArray<Export>
}

/** The module that only gathers the others. */
export const barrel = path.join(root, "src/index.ts")

/** Every subpath but the barrel, in alphabetical order, those in folders last. */
export const entries = (): ReadonlyArray<Entry> => {
  const { exports } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as {
    readonly exports: Readonly<Record<string, string | { readonly "sluice-source"?: string }>>
  }
  const depth = ({ name }: Entry) => name.split("/").length
  return Object.entries(exports)
    .flatMap(([name, target]) =>
      name === "." || typeof target === "string" || target["sluice-source"] === undefined
        ? []
        : [{ name: name.slice(2), file: path.join(root, target["sluice-source"]) }]
    )
    .sort((a, b) => depth(a) - depth(b) || (a.name < b.name ? -1 : 1))
}

/** The project's compiler options. */
export const compilerOptions = (): ts.CompilerOptions =>
  ts.getParsedCommandLineOfConfigFile(path.join(root, "tsconfig.json"), {}, {
    ...ts.sys,
    onUnRecoverableConfigFileDiagnostic: (problem) => {
      throw new Error(ts.flattenDiagnosticMessageText(problem.messageText, "\n"))
    }
  })?.options ?? {}

/** The node that a declaration's doc comment is written at. */
const documented = (node: ts.Node): ts.Node =>
  ts.isVariableDeclaration(node) ? node.parent.parent : ts.isExportSpecifier(node) ? node.parent.parent : node

const docOf = (node: ts.Node): ts.JSDoc | undefined =>
  ts.getJSDocCommentsAndTags(documented(node)).findLast((part) => ts.isJSDoc(part))

/** Whether a name is for the package's own use: the build leaves it out of the types. */
export const isInternal = (node: ts.Node): boolean =>
  ts.getJSDocTags(documented(node)).some(({ tagName }) => tagName.text === "internal")

/** The text of a comment, without its stars; `{@link Name}` is the name as code. */
export const textOf = (comment: string): string =>
  comment
    .replace(/^\/\*\*|\*\/$/g, "")
    .split("\n")
    .map((line) => line.replace(/^\s*\* ?/, "").trimEnd())
    .join("\n")
    .replaceAll(/\{@link ([^}]+)\}/g, "`$1`")
    .trim()

/** The text of a declaration's doc comment; empty without one. */
export const commentOf = (node: ts.Node): string => {
  const doc = docOf(node)
  return doc === undefined ? "" : textOf(doc.getText())
}

/** The comment at the head of a file. */
export const headOf = (source: ts.SourceFile): string => {
  const [comment] = ts.getLeadingCommentRanges(source.text, 0) ?? []
  return comment === undefined ? "" : textOf(source.text.slice(comment.pos, comment.end))
}

/** The modules, as a compiled program has them. */
export const modulesOf = (program: ts.Program): ReadonlyArray<Module> => {
  const checker = program.getTypeChecker()
  const list = entries()
  const files = new Map(list.map(({ file, name }) => [file, name]))
  const toldIn = new Map<ts.Symbol, string>()
  return list.map((entry) => {
    const source = program.getSourceFile(entry.file)
    const symbol = source === undefined ? undefined : checker.getSymbolAtLocation(source)
    if (source === undefined || symbol === undefined) throw new Error(`${entry.file} is no module`)
    const exports = checker.getExportsOfModule(symbol).flatMap((exported): ReadonlyArray<Export> => {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported
      const declarations = symbol.declarations ?? []
      if (declarations.some(isInternal)) return []
      const home = declarations.map((node) => files.get(node.getSourceFile().fileName)).find((name) =>
        name !== undefined
      )
      const first = home ?? toldIn.get(symbol) ?? entry.name
      toldIn.set(symbol, first)
      return [{
        name: exported.name,
        declarations,
        toldIn: first === entry.name ? undefined : first
      }]
    })
    return { ...entry, source, exports }
  })
}

/** The members of the types that a declaration writes out: of an interface, a record, a service. */
const membersOf = (declaration: ts.Declaration): ReadonlyArray<ts.TypeElement> => {
  if (ts.isInterfaceDeclaration(declaration)) return declaration.members
  if (ts.isTypeAliasDeclaration(declaration)) {
    return ts.isTypeLiteralNode(declaration.type) ? declaration.type.members : []
  }
  if (!ts.isClassDeclaration(declaration)) return []
  const found: Array<ts.TypeElement> = []
  const visit = (node: ts.Node): void => {
    if (ts.isTypeLiteralNode(node)) found.push(...node.members)
    else ts.forEachChild(node, visit)
  }
  declaration.heritageClauses?.forEach(visit)
  return found
}

const place = (node: ts.Node): string => {
  const source = node.getSourceFile()
  const { line } = source.getLineAndCharacterOfPosition(node.getStart())
  return `${path.relative(root, source.fileName)}:${line + 1}`
}

/** The public names that have no doc comment, and the members of public types that have none. */
export const undocumented = (modules: ReadonlyArray<Module>): ReadonlyArray<string> =>
  modules.flatMap((module) => {
    const told = module.exports.filter(({ toldIn }) => toldIn === undefined)
    const heads = headOf(module.source) === "" ? [`${place(module.source)} has no comment at its head`] : []
    const names = told
      .filter(({ declarations }) => declarations.every((node) => commentOf(node) === ""))
      .map(({ declarations: [first], name }) => `${first ? place(first) : module.name} ${name} has no doc comment`)
    const members = told.flatMap(({ declarations, name }) =>
      declarations.flatMap(membersOf)
        // a marker of the type has no name to tell of
        .filter(({ name }) => name !== undefined && !ts.isComputedPropertyName(name))
        .filter((member) => commentOf(member) === "")
        .map((member) => `${place(member)} ${name}.${member.name?.getText() ?? "()"} has no doc comment`)
    )
    return [...heads, ...names, ...members]
  })

/** The names of the barrel that have no doc comment: an editor shows it where the name is used. */
export const undocumentedInBarrel = (program: ts.Program): ReadonlyArray<string> =>
  program.getSourceFile(barrel)?.statements
    .filter((statement) => commentOf(statement) === "")
    .map((statement) => `${place(statement)} has no doc comment: ${statement.getText()}`) ?? []

/** The types of the package that a declaration's text names. */
const typesNamed = (checker: ts.TypeChecker, declaration: ts.Declaration): ReadonlySet<ts.Symbol> => {
  const found = new Set<ts.Symbol>()
  const add = (name: ts.Node): void => {
    const named = checker.getSymbolAtLocation(name)
    const symbol = named !== undefined && named.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(named) : named
    const isOwn = symbol?.declarations?.some((node) =>
      !ts.isTypeParameterDeclaration(node) && node.getSourceFile().fileName.startsWith(path.join(root, "src/"))
    )
    if (symbol !== undefined && isOwn === true) found.add(symbol)
  }
  const visit = (node: ts.Node): void => {
    if (ts.isExpressionWithTypeArguments(node) && ts.isInterfaceDeclaration(node.parent.parent)) add(node.expression)
    if (ts.isTypeReferenceNode(node)) add(ts.isQualifiedName(node.typeName) ? node.typeName.right : node.typeName)
    // what a function does is its own affair
    if (!ts.isBlock(node)) ts.forEachChild(node, visit)
  }
  visit(declaration)
  return found
}

/** Types that public names are made of and that no module exports: nobody could write them down. */
export const unexported = (program: ts.Program, modules: ReadonlyArray<Module>): ReadonlyArray<string> => {
  const checker = program.getTypeChecker()
  const all = modules.flatMap(({ exports }) => exports)
  const known = new Set(all.flatMap(({ declarations }) => declarations))
  return all.filter(({ toldIn }) => toldIn === undefined).flatMap(({ declarations, name }) =>
    declarations.flatMap((declaration) =>
      [...typesNamed(checker, declaration)]
        .filter((symbol) => symbol.declarations?.every((node) => !known.has(node)) === true)
        .map((symbol) => `${place(declaration)} ${name} names ${symbol.name}, which no module exports`)
    )
  )
}
