/**
 * Lets Node load TypeScript as projects write it that are compiled: specifiers that name the JavaScript which a compiler
 * would make, and syntax that is more than types, such as enums. Only the command does so; it has the process to itself.
 */
import * as nodeModule from "node:module"
import { fileURLToPath } from "node:url"
import { sourceOf } from "../internal/loadError.ts"

const isUnsupported = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX"

/**
 * The JavaScript of TypeScript from which types cannot merely be stripped; undefined if it can, or this Node cannot do it.
 */
const transformed = (source: string): string | undefined => {
  // a cheap test first: these words are also found in strings and comments, and then Node strips a second time
  if (!/\b(enum|namespace|module|constructor|import\s+\w+\s*=)\b/.test(source)) return undefined
  try {
    nodeModule.stripTypeScriptTypes(source)
    return undefined
  } catch (error) {
    if (!isUnsupported(error)) return undefined
  }
  try {
    return nodeModule.stripTypeScriptTypes(source, { mode: "transform" })
  } catch {
    // Node says what is wrong when it loads the file
    return undefined
  }
}

/** Suppresses Node's warning that this is experimental: the user of the command cannot act on it. */
const quietly = <A>(run: () => A): A => {
  const { emitWarning } = process
  process.emitWarning = () => {}
  try {
    return run()
  } finally {
    process.emitWarning = emitWarning
  }
}

/** The format of a TypeScript module once it is JavaScript. */
const javaScriptOf = (format: string | null | undefined): "module" | "commonjs" | undefined =>
  format === "module-typescript" ? "module" : format === "commonjs-typescript" ? "commonjs" : undefined

let isReady = false

/** Call it before the first file of the application is loaded. Runtimes other than Node load all of this themselves. */
export const prepare = (): void => {
  if (isReady || process.versions.bun !== undefined || typeof nodeModule.registerHooks !== "function") return
  isReady = true
  nodeModule.registerHooks({
    resolve: (specifier, context, next) => {
      try {
        return next(specifier, context)
      } catch (error) {
        const { parentURL } = context
        if (parentURL === undefined || !/^\.{1,2}\//.test(specifier) || !/\.[cm]?tsx?$/.test(parentURL)) throw error
        const source = sourceOf(fileURLToPath(new URL(specifier, parentURL)))
        const name = source === undefined ? undefined : source.slice(source.lastIndexOf("/") + 1)
        if (name === undefined || !/\.[cm]?js$/.test(specifier)) throw error
        return next(specifier.slice(0, specifier.lastIndexOf("/") + 1) + name, context)
      }
    },
    load: (url, context, next) => {
      const loaded = next(url, context)
      const format = javaScriptOf(loaded.format)
      if (format === undefined || loaded.source === undefined || loaded.source === null) return loaded
      const source = quietly(() => transformed(String(loaded.source)))
      return source === undefined ? loaded : { ...loaded, format, source }
    }
  })
}
