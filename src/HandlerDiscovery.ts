/**
 * Handler modules found by glob, for the command and for programs that do not want to list their handlers: every
 * `persist` folder's modules, in the order of their paths. A module exports layers made by `HandlerPlugin`; whatever is
 * wrong with one stops the start, and names the file.
 *
 * ```ts
 * // src/chatlab/persist/replies.ts
 * export const replies = HandlerPlugin.layer("chatlab", PatientReply, ({ output, call }) => ...)
 * ```
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { promises as fs } from "node:fs"
import path from "node:path"
import { pathToFileURL } from "node:url"
import * as HandlerPlugin from "./HandlerPlugin.ts"

/** Where modules are looked for when nothing is said, under each folder. */
export const defaultGlob = "**/persist/*.{ts,js,mts,mjs}"

/** A handler module cannot be used. The start stops: a handler that is silently missing would park its chunks. */
export class HandlerModuleInvalid extends Schema.TaggedError<HandlerModuleInvalid>()("HandlerModuleInvalid", {
  file: Schema.String,
  reason: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message() {
    return `handler module ${this.file}: ${this.reason}`
  }
}

/** Where to look. */
export interface Options {
  /** The folders the globs are relative to. Default: the working directory. */
  readonly folders?: ReadonlyArray<string> | undefined
  /** Default {@link defaultGlob}. */
  readonly globs?: ReadonlyArray<string> | undefined
}

/** A module that was found, and the handlers it brought. */
export interface Found {
  readonly file: string
  /** `namespace/short-name` of each. */
  readonly handlers: ReadonlyArray<string>
}

/** The files there are, each once, in the order of their paths. Nothing in `node_modules`; no tests and no types. */
export const find = Effect.fn("HandlerDiscovery.find")(function*({ folders = ["."], globs = [defaultGlob] }: Options) {
  const files = new Set<string>()
  for (const folder of folders) {
    const found = yield* Effect.tryPromise({
      try: async () => {
        const names: Array<string> = []
        const exclude = (name: string) => name === "node_modules"
        for await (const name of fs.glob([...globs], { cwd: folder, exclude })) names.push(name)
        return names
      },
      catch: (cause) =>
        new HandlerModuleInvalid({ file: folder, reason: `cannot be searched: ${String(cause)}`, cause })
    })
    for (const file of found.sort()) {
      if (!/\.(d|test|spec)\.[cm]?[jt]s$/.test(file)) files.add(path.resolve(folder, file))
    }
  }
  return [...files]
})

const layersOf = Effect.fnUntraced(function*(file: string) {
  const exported = yield* Effect.tryPromise({
    try: (): Promise<Readonly<Record<string, unknown>>> => import(pathToFileURL(file).href),
    catch: (cause) =>
      new HandlerModuleInvalid({
        file,
        reason: `does not load: ${sentence(cause instanceof Error ? cause.message : String(cause))}`,
        cause
      })
  })
  return new Set(Object.values(exported).filter(Layer.isLayer))
})

/** Of a message with a trace or an excerpt below, the message. */
const sentence = (message: string): string => message.split("\n", 1)[0] ?? message

const build = Effect.fnUntraced(function*(file: string, layer: Layer.Any) {
  const environment = yield* Effect.context<never>()
  const given = HandlerPlugin.fromContext(environment)
  // a module's types are not known here: what it needs beyond the environment shows when it is built
  const untyped = layer as Layer.Layer<never, unknown>
  const context: Context.Context<never> = yield* Layer.build(Layer.fresh(untyped)).pipe(
    Effect.catchCause((cause) => {
      const error = Cause.squash(cause)
      const reason = `its layer cannot be built: ${sentence(error instanceof Error ? error.message : String(error))}`
      return Effect.fail(new HandlerModuleInvalid({ file, reason, cause }))
    })
  )
  return HandlerPlugin.fromContext(context).filter((one) => !given.includes(one))
})

/** Loads the modules: their handlers, and which file brought which. */
export const load = Effect.fn("HandlerDiscovery.load")(function*(options: Options) {
  const found: Array<Found> = []
  const sources: Array<HandlerPlugin.Source> = []
  // a layer may be exported by two names, or again by a module that gathers others': it is one handler all the same
  const built = new Map<Layer.Any, ReadonlyArray<HandlerPlugin.Source>>()
  for (const file of yield* find(options)) {
    const handlers: Array<string> = []
    for (const layer of yield* layersOf(file)) {
      const known = built.get(layer)
      const own = known ?? (yield* build(file, layer))
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

/**
 * The handlers of all modules, for `HandlerRegistry.layer()`. Modules are given the services this layer is given, such as
 * the `SqlClient`. Of two for one output the registry says `DuplicateHandler`, with both files.
 */
export const layer = (options: Options = {}): Layer.Layer<never, HandlerModuleInvalid> =>
  Layer.unwrap(Effect.map(load(options), ({ plugins }) => plugins))
