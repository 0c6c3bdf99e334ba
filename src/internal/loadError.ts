/**
 * Describes why a module of the application does not load: the file, line and column, and what to do about it.
 */
import * as Predicate from "effect/Predicate"
import { execFile } from "node:child_process"
import { existsSync, promises as fs } from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"
import { fileProblem } from "./fileProblem.ts"

const textOf = (error: unknown, field: "code" | "message" | "stack"): string =>
  Predicate.hasProperty(error, field) && typeof error[field] === "string" ? error[field] : ""

/** The first line of a message, with the path that a schema's error has on the next: without a trace or an excerpt. */
export const sentence = (message: string): string =>
  /^.*(\n +at \[["\d].*)?/.exec(message)?.[0].replace(/\n +/, " ") ?? message

const short = (file: string): string => {
  const relative = path.relative(".", file.startsWith("file:") ? fileURLToPath(file) : file)
  return relative.startsWith("..") ? path.resolve(relative) : relative
}

/** What Node puts before a syntax error: a place, and lines of which the last one points to a column. */
const excerpt = /^((?:file:\/\/|\/|[A-Za-z]:\\).*?):(\d+)\n((?:.*\n)*?)( *)\^/

const excerptOf = (text: string): string | undefined => {
  const [, file, line, , blanks] = excerpt.exec(text) ?? []
  return file === undefined ? undefined : `${short(file)}:${line}:${(blanks ?? "").length + 1}`
}

/** The first place of a trace that is a file of the application's. */
const frameOf = (stack: string): string | undefined => {
  const [, file, line, column] = /^\s+at .*?(file:\/\/(?!.*\/node_modules\/)\S+?):(\d+):(\d+)\)?$/m.exec(stack) ?? []
  return file === undefined ? undefined : `${short(file)}:${line}:${column}`
}

/** For the syntax error of a script, which Node reports without its place. */
const checked = (file: string): Promise<string | undefined> =>
  new Promise((resolve) => {
    execFile(process.execPath, ["--check", file], (error, _, stderr) => {
      resolve(error === null ? undefined : excerptOf(stderr))
    })
  })

// as many as a handler and what it imports may be; each takes a process
const mostChecked = 50

/** Looks for the script that has the error: the module, or one that it imports by a path. */
const search = async (first: string): Promise<string | undefined> => {
  const files = [first]
  for (let index = 0; index < files.length && index < mostChecked; index++) {
    const file = files[index]!
    const found = /\.[cm]?js$/.test(file) ? await checked(file) : undefined
    if (found !== undefined) return found
    const source = await fs.readFile(file, "utf8").catch(() => "")
    for (const [, name = ""] of source.matchAll(/\b(?:from|import)\s*\(?\s*["'](\.[^"'\n]+)["']/g)) {
      const next = path.resolve(path.dirname(file), name)
      if (existsSync(next) && !files.includes(next)) files.push(next)
    }
  }
  return undefined
}

const typescript = [".ts", ".mts", ".cts"]

/** The TypeScript file that a specifier of JavaScript, or one without an ending, stands for. */
export const sourceOf = (file: string): string | undefined => {
  const candidates = [file.replace(/\.([cm]?)js$/, ".$1ts"), ...typescript.map((ending) => file + ending)]
  return candidates.find((candidate) => candidate !== file && existsSync(candidate))
}

const afterMissing = (message: string): string => {
  const [, what, name = "", from = ""] = /^Cannot find (module|package) '(.*?)' imported from (.*)$/.exec(message) ?? []
  if (what === "package") {
    return /^(@\/|~|#)/.test(name) || existsSync(path.join(path.dirname(from), "tsconfig.json"))
      ? ": is it installed? Node does not know `paths` of tsconfig.json: write `imports` in package.json"
      : ": is it installed?"
  }
  const source = sourceOf(name)
  if (source === undefined) return ""
  const specifier = path.relative(path.dirname(from), source)
  return `: write the import as "${specifier.startsWith(".") ? specifier : `./${specifier}`}"`
}

/** What to do. */
const adviceOf = (error: unknown): string => {
  const message = textOf(error, "message")
  switch (textOf(error, "code")) {
    case "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX":
      return ": write what is JavaScript without its types (for an enum, an object `as const`), or compile it and give " +
        "the JavaScript by --handlers"
    case "ERR_MODULE_NOT_FOUND":
      return afterMissing(message)
    case "ERR_IMPORT_ATTRIBUTE_MISSING":
      return ": write `with { type: \"json\" }` behind the import"
    default:
      if (message.includes("does not provide an export named")) return ": if that is a type, write `import type`"
      return /^Cannot use import statement outside a module|^Unexpected token 'export'/.test(message)
        ? ": its package is CommonJS; rename the file to end in .mts or .mjs, or write \"type\": \"module\" in package.json"
        : ""
  }
}

/** The description, in one line. */
export const describeLoadError = async (file: string, error: unknown): Promise<string> => {
  const ofFile = fileProblem(error, file)
  if (ofFile !== undefined) return ofFile
  const stack = textOf(error, "stack")
  const isSyntax = error instanceof SyntaxError
  const place = excerptOf(stack) ?? (isSyntax ? await search(file) : frameOf(stack))
  const message = sentence(Predicate.isError(error) ? error.message : String(error))
  return `${message}${place === undefined ? "" : ` (${place})`}${adviceOf(error)}`
}
