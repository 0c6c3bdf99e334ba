/**
 * The reference as a page: a section for each module, and in it each name with its signature and its doc comment.
 */
import ts from "ts6"
import { commentOf, type Export, headOf, isInternal, type Module } from "./api.ts"

const flags = ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.WriteArrowStyleSignature |
  ts.TypeFormatFlags.UseAliasDefinedOutsideCurrentScope

/** The text of a node; its inner lines lose the indentation of its first. */
const textAt = (node: ts.Node): string => {
  const { text } = node.getSourceFile()
  const begin = text.lastIndexOf("\n", node.getStart()) + 1
  const [indent = ""] = /^ */.exec(text.slice(begin)) ?? []
  return node.getText().replaceAll(`\n${indent}`, "\n").replaceAll(/\{@link ([^}]+)\}/g, "`$1`")
}

const shortened = (type: string): string => type.replaceAll(/import\("[^"]+"\)\./g, "")

/** A type as the compiler infers it, without the paths of modules. */
const inferred = (checker: ts.TypeChecker, node: ts.Node): string =>
  shortened(checker.typeToString(checker.getTypeAtLocation(node), node, flags))

/** A function's type: its parameters as they are written, and its result; without its body. */
const signatureOf = (
  node: ts.ArrowFunction | ts.FunctionExpression | ts.FunctionDeclaration,
  result: string
): string => {
  const generics = node.typeParameters === undefined
    ? ""
    : `<${node.typeParameters.map((parameter) => parameter.getText()).join(", ")}>`
  const texts = node.parameters.map(textAt)
  const inLine = texts.join(", ")
  const parameters = inLine.length < 80 || texts.length < 2
    ? `(${inLine})`
    : `(\n${texts.map((text) => `  ${text.replaceAll("\n", "\n  ")}`).join(",\n")}\n)`
  return `${generics}${parameters} => ${result}`
}

/** The result of calling what a node declares. */
const resultOf = (checker: ts.TypeChecker, node: ts.Node): string => {
  const [signature] = checker.getTypeAtLocation(node).getCallSignatures()
  return signature === undefined ? "unknown" : shortened(checker.typeToString(signature.getReturnType(), node, flags))
}

const contains = (node: ts.Node, is: (node: ts.Node) => boolean): boolean =>
  is(node) || ts.forEachChild(node, (child) => contains(child, is)) === true

/** The constants of the package that a value is made of and no module exports. */
const partsOf = (checker: ts.TypeChecker, node: ts.Node): ReadonlySet<ts.VariableDeclaration> => {
  const found = new Set<ts.VariableDeclaration>()
  const visit = (node: ts.Node): void => {
    const declaration = ts.isIdentifier(node) ? checker.getSymbolAtLocation(node)?.valueDeclaration : undefined
    if (
      declaration !== undefined && ts.isVariableDeclaration(declaration) &&
      ts.isVariableStatement(declaration.parent.parent) && ts.getModifiers(declaration.parent.parent) === undefined
    ) found.add(declaration)
    ts.forEachChild(node, visit)
  }
  visit(node)
  return found
}

const ofVariable = (checker: ts.TypeChecker, node: ts.VariableDeclaration): string => {
  const { initializer, name, type } = node
  const head = `const ${name.getText()}`
  if (type !== undefined) return `${head}: ${textAt(type)}`
  if (initializer === undefined) return `${head}: ${inferred(checker, name)}`
  if (ts.isArrowFunction(initializer)) {
    const result = initializer.type === undefined ? resultOf(checker, name) : textAt(initializer.type)
    return `${head}: ${signatureOf(initializer, result)}`
  }
  // Effect.fn("…")(function*(…) { … })
  const [made] = ts.isCallExpression(initializer) ? initializer.arguments : []
  if (made !== undefined && ts.isFunctionExpression(made)) {
    return `${head}: ${signatureOf(made, resultOf(checker, name))}`
  }
  // a schema, and what holds no function, is shown as it is written
  const isShown = ts.isObjectLiteralExpression(initializer) || initializer.getText().startsWith("Schema.") ||
    !contains(initializer, ts.isFunctionLike)
  if (!isShown) return `${head}: ${inferred(checker, name)}`
  const parts = [...partsOf(checker, initializer)].map((part) => ofVariable(checker, part))
  return [...parts, `${head} = ${textAt(initializer)}`].join("\n\n")
}

/** A class by what it extends, and the members that it adds. */
const ofClass = (checker: ts.TypeChecker, node: ts.ClassDeclaration): string => {
  const head = `class ${node.name?.getText() ?? ""}`
  const generics = node.typeParameters === undefined
    ? ""
    : `<${node.typeParameters.map((parameter) => parameter.getText()).join(", ")}>`
  const heritage = node.heritageClauses?.map((clause) => textAt(clause)) ?? []
  const members = node.members.flatMap((member) => {
    const isOverride = ts.canHaveModifiers(member) &&
      ts.getModifiers(member)?.some(({ kind }) => kind === ts.SyntaxKind.OverrideKeyword) === true
    if (isOverride || isInternal(member) || ts.isConstructorDeclaration(member) || member.name === undefined) return []
    const comment = commentOf(member)
    const above = comment === "" ? [] : [`  /** ${comment.replaceAll("\n", "\n   * ")} */`]
    return [...above, `  readonly ${member.name.getText()}: ${inferred(checker, member)}`]
  })
  const body = members.length === 0 ? "" : ` {\n${members.join("\n")}\n}`
  return [`${head}${generics}`, ...heritage].join(" ") + body
}

const signature = (checker: ts.TypeChecker, node: ts.Declaration): string =>
  ts.isVariableDeclaration(node)
    ? ofVariable(checker, node)
    : ts.isClassDeclaration(node)
    ? ofClass(checker, node)
    : ts.isFunctionDeclaration(node)
    ? `function ${node.name?.getText() ?? ""}: ${signatureOf(node, resultOf(checker, node))}`
    : textAt(node).replace(/^export (?:declare )?/, "")

const sectionOf = (checker: ts.TypeChecker, { declarations, name }: Export): string => {
  const all = [...new Set(declarations.map(commentOf))]
  // a schema and its type say the same, and one of them more
  const comments = all.filter((one) => !all.some((other) => other !== one && other.startsWith(one.slice(0, -1))))
  const signatures = declarations.map((node) => signature(checker, node).replace(/^export /, ""))
  return `### ${name}\n\n\`\`\`ts\n${signatures.join("\n\n")}\n\`\`\`\n\n${comments.join("\n\n")}\n`
}

/** The anchor of a module's heading. */
const anchor = (name: string) => `#${name.toLowerCase().replaceAll("/", "")}`

/** The first sentence of a module's head. */
const summary = (module: Module): string => {
  const [first = ""] = headOf(module.source).split("\n\n")
  return (/^[^]*?\.(?=\s|$)/.exec(first)?.[0] ?? first).replaceAll("\n", " ")
}

const importOf = ({ name }: Module): string => {
  const last = name.split("/").at(-1) ?? name
  return /^[A-Z]/.test(last)
    ? `import * as ${last} from "effect-sluice/${name}"`
    : `import { … } from "effect-sluice/${name}"`
}

const moduleSection = (checker: ts.TypeChecker, module: Module): string => {
  const own = module.exports
    .filter(({ toldIn }) => toldIn === undefined)
    .toSorted((a, b) => order(a) - order(b))
  const others = module.exports.flatMap(({ name, toldIn }) =>
    toldIn === undefined ? [] : [`\`${name}\`: see [${toldIn}](${anchor(toldIn)}).`]
  )
  return [
    `## ${module.name}\n\n\`${importOf(module)}\`\n\n${headOf(module.source)}\n`,
    ...own.map((one) => sectionOf(checker, one)),
    ...others.length === 0 ? [] : [`${others.join("  \n")}\n`]
  ].join("\n")
}

/** Names of a module's own file come in its order; those of other files after it. */
const order = ({ declarations: [first] }: Export): number => first?.getStart() ?? 0

/** The whole page. */
export const page = (program: ts.Program, modules: ReadonlyArray<Module>): string => {
  const checker = program.getTypeChecker()
  const list = modules.map((module) => `| [${module.name}](${anchor(module.name)}) | ${summary(module)} |`)
  return `<!-- Made from the sources by \`npm run reference\`. Do not edit. -->

# Reference

Every module is a subpath of the package, as in \`effect-sluice/Drain\`. Those that stand in no folder are also names of
\`effect-sluice\` itself, except \`ai\`, \`config\` and \`testing\`.

| module | |
| --- | --- |
${list.join("\n")}

${modules.map((module) => moduleSection(checker, module)).join("\n")}`
}
