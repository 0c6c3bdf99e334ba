/**
 * Finds and loads handler modules by glob, for the command and for programs that do not list their handlers: by default
 * the modules of every `persist` folder, in the order of their paths. A module exports layers made by `HandlerPlugin`, each
 * by a name, or in an object of layers.
 * Any problem with a module stops the start, and the error names the file.
 *
 * ```ts
 * // src/chatlab/persist/replies.ts
 * export const replies = HandlerPlugin.layer("chatlab", PatientReply, ({ output }) =>
 *   Effect.map(messages.insert(output.text), (row) => DomainObject.make("chatlab.Message", row.id)))
 * ```
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { type Dirent, promises as fs } from "node:fs"
import path from "node:path"
import { pathToFileURL } from "node:url"
import * as HandlerPlugin from "./HandlerPlugin.ts"
import { boundedInterrupt } from "./internal/boundedInterrupt.ts"
import { describe } from "./internal/describe.ts"
import { escape, escapeProse } from "./internal/escape.ts"
import { fileProblem } from "./internal/fileProblem.ts"
import { describeLoadError, sentence } from "./internal/loadError.ts"

/** The default glob for modules, under each folder. */
export const defaultGlob = "**/persist/*.{ts,js,mts,mjs,cts,cjs}"

/** A handler module cannot be used. The start fails: a missing handler would silently park its chunks. */
export class HandlerModuleInvalid extends Schema.TaggedError<HandlerModuleInvalid>()("HandlerModuleInvalid", {
  file: Schema.String,
  reason: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message() {
    return `handler module ${escape(this.file)}: ${escapeProse(this.reason)}`
  }
}

/** How modules are loaded. */
export interface LoadOptions {
  /** How long the loading of one module may take, and then building its layers. Default 10 seconds. */
  readonly timeout?: Duration.Input | undefined
  /**
   * Wraps the loading of one module. For a program that owns the process and checks what a module does to it while
   * loading.
   */
  readonly around?: (<A, E, R>(file: string, loading: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>) | undefined
}

/** The folders and globs to search. */
export interface Options extends LoadOptions {
  /** The folders the globs are relative to. Default: the working directory. */
  readonly folders?: ReadonlyArray<string> | undefined
  /** Default {@link defaultGlob}. */
  readonly globs?: ReadonlyArray<string> | undefined
}

const standardTimeout = Duration.seconds(10)

/** A module with its handlers. */
export interface Found {
  /** The absolute path of the module. */
  readonly file: string
  /** `namespace/short-name` of each. */
  readonly handlers: ReadonlyArray<string>
}

/** Whether the name of an entry matches the pattern of modules. */
const isMeant = async ({ name, parentPath }: Dirent, pattern: string): Promise<boolean> => {
  for await (const found of fs.glob(pattern, { cwd: parentPath })) if (found === name) return true
  return false
}

/**
 * Searches one glob. A glob does not follow links, so a link that matches the folder part of the glob (before its last
 * slash) is found in the same walk and searched as that folder.
 */
const search = async (folder: string, glob: string): Promise<ReadonlyArray<string>> => {
  const slash = glob.lastIndexOf("/")
  const above = glob.slice(0, Math.max(0, slash))
  const patterns = above.includes("**") && !above.endsWith("**") ? [glob, above] : [glob]
  const files: Array<string> = []
  const exclude = ({ name }: Dirent) => name === "node_modules"
  for await (const entry of fs.glob(patterns, { cwd: folder, exclude, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name)
    if (entry.isDirectory()) continue
    const target = entry.isSymbolicLink() ? await fs.stat(file).catch(() => undefined) : entry
    const inFolder = glob.slice(slash + 1)
    // a broken link: loading it reports the error
    if (target === undefined) files.push(...await isMeant(entry, inFolder) ? [file] : [])
    // a file with the name of a folder of modules is not a module
    else if (!target.isDirectory()) files.push(...patterns.length === 1 || await isMeant(entry, inFolder) ? [file] : [])
    else if (patterns.length > 1) files.push(...await search(file, inFolder))
  }
  return files
}

/**
 * Finds the module files, each once, in the order of their paths. Excludes `node_modules`, tests and type declarations.
 * Follows only those links to folders that match the part of a glob before its last slash.
 */
export const find = Effect.fn("HandlerDiscovery.find")(function*({ folders = ["."], globs = [defaultGlob] }: Options) {
  const files = new Set<string>()
  for (const folder of folders) {
    const found = yield* Effect.tryPromise({
      try: async () => {
        const files: Array<string> = []
        for (const glob of globs) files.push(...await search(path.resolve(folder), glob))
        return files
      },
      catch: (cause) =>
        new HandlerModuleInvalid({
          file: folder,
          reason: `cannot be searched: ${fileProblem(cause, folder) ?? describe(cause)}`,
          cause
        })
    })
    for (const file of found.sort()) {
      if (!/\.(d|test|spec)\.[cm]?[jt]s$/.test(file)) files.add(file)
    }
  }
  return [...files]
})

const inTime = (file: string, limit: Duration.Duration, what: string) => <A, E, R>(loading: Effect.Effect<A, E, R>) =>
  Effect.timeoutOrElse(loading, {
    duration: limit,
    orElse: () =>
      new HandlerModuleInvalid({
        file,
        reason: `${what} within ${Duration.format(limit)}: does it wait for something?`
      })
  })

/** Whether it is an object literal, a list, or all exports of another module: reading its members does nothing else. */
const isPlain = (exported: unknown): exported is object =>
  typeof exported === "object" && exported !== null &&
  [Object.prototype, Array.prototype, null].includes(Object.getPrototypeOf(exported))

/**
 * All that a module exports, and the members of objects among it. Of a CommonJS module Node knows only the names that it
 * finds in the text, sometimes not all of them: the default export has all.
 */
const exportsOf = async (file: string): Promise<ReadonlyArray<unknown>> => {
  // a file when the program runs, not a module of its bundle
  const exported: Readonly<Record<string, unknown>> = await import(/* webpackIgnore: true */ pathToFileURL(file).href)
  const all = Object.values(exported)
  const groups = all.filter((one) =>
    isPlain(one) || (one === exported["default"] && Predicate.isObject(one) && !Layer.isLayer(one))
  )
  return [...all, ...groups.flatMap((one): ReadonlyArray<unknown> => Object.values(one))]
}

const layersOf = Effect.fnUntraced(function*(file: string) {
  const exported = yield* Effect.tryPromise({
    try: () => exportsOf(file),
    catch: (cause) => ({ cause })
  }).pipe(
    Effect.catch(({ cause }) =>
      Effect.flatMap(
        Effect.promise(() => describeLoadError(file, cause)),
        (why) => Effect.fail(new HandlerModuleInvalid({ file, reason: `does not load: ${why}`, cause }))
      )
    )
  )
  return new Set(exported.filter(Layer.isLayer))
})

const adviceOf = (error: unknown): string =>
  error instanceof Error && error.message.startsWith("Service not found")
    ? ". Provide that service's layer to it in the module"
    : ""

const build = Effect.fnUntraced(function*(file: string, layer: Layer.Any) {
  const environment = yield* Effect.context<never>()
  const given = HandlerPlugin.fromContext(environment)
  // a module's types are not known here: a missing service shows when the layer is built
  const untyped = layer as Layer.Layer<never, unknown>
  const context: Context.Context<never> = yield* Layer.build(Layer.fresh(untyped)).pipe(
    Effect.catchCause((cause) => {
      const error = Cause.squash(cause)
      const reason = `its layer cannot be built: ${sentence(describe(error))}${adviceOf(error)}`
      return Effect.fail(new HandlerModuleInvalid({ file, reason, cause }))
    })
  )
  return HandlerPlugin.fromContext(context).filter((one) => !given.includes(one))
})

/** Loads modules by their absolute paths: returns their handlers, and which file each came from. */
export const loadFiles = Effect.fn("HandlerDiscovery.loadFiles")(function*(
  files: ReadonlyArray<string>,
  options: LoadOptions
) {
  const limit = Duration.fromInputUnsafe(options.timeout ?? standardTimeout)
  const around: NonNullable<LoadOptions["around"]> = options.around ?? ((_, loading) => loading)
  const found: Array<Found> = []
  const sources: Array<HandlerPlugin.Source> = []
  // a layer may be exported under two names, or re-exported by another module: its handlers count once
  const built = new Map<Layer.Any, ReadonlyArray<HandlerPlugin.Source>>()
  for (const file of files) {
    const handlers: Array<string> = []
    for (const layer of yield* around(file, inTime(file, limit, "is not loaded")(layersOf(file)))) {
      const known = built.get(layer)
      // a layer that cannot be interrupted is left running in the background
      const building = boundedInterrupt(build(file, layer))
      const own = known ?? (yield* around(file, inTime(file, limit, "has a layer that is not built")(building)))
      handlers.push(...own.map((one) => one.handler.name))
      if (known !== undefined) continue
      built.set(layer, own)
      sources.push(...own.map((one) => ({ ...one, source: file })))
    }
    if (handlers.length === 0) {
      const reason = "exports no handlers: export a layer made by HandlerPlugin.layer or HandlerPlugin.group"
      return yield* new HandlerModuleInvalid({ file, reason })
    }
    found.push({ file, handlers })
  }
  return { found, plugins: HandlerPlugin.fromSources(sources) }
})

/** Finds modules and loads them. */
export const load = (options: Options) => Effect.flatMap(find(options), (files) => loadFiles(files, options))

/**
 * The handlers of all modules, for `HandlerRegistry.layer()`. Modules get the services that this layer gets, such as
 * the `SqlClient`. For two handlers of one output the registry fails with `DuplicateHandler`, with both files.
 */
export const layer = (options: Options = {}): Layer.Layer<never, HandlerModuleInvalid> =>
  Layer.unwrap(Effect.map(load(options), ({ plugins }) => plugins))
