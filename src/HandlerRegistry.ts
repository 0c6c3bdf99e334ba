/**
 * Finds the handler for `(namespace, schema identity)`: the namespace's own, else that of namespace `core`, else none.
 * The registry is built once, from the application's groups and plug-ins, and cannot change afterwards.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Handler from "./Handler.ts"
import * as HandlerPlugin from "./HandlerPlugin.ts"
import * as Kind from "./Kind.ts"
import type * as Output from "./Output.ts"
import type * as OutputGroup from "./OutputGroup.ts"

/** No handler serves this kind: neither the namespace's own nor that of `core`. */
export class HandlerNotFound extends Schema.TaggedError<HandlerNotFound>()("HandlerNotFound", {
  namespace: Schema.String,
  schemaIdentity: Schema.String,
  /** The existing handlers, as `namespace/schema-identity`. */
  known: Schema.Array(Schema.String)
}) {
  override get message() {
    return `no handler for ${this.schemaIdentity} in namespace ${this.namespace} or ${Kind.core}; ` +
      `there is ${this.known.length === 0 ? "none at all" : this.known.join(", ")}`
  }
}

/** Two handlers for one `(namespace, schema identity)`: the program must not start. */
export class DuplicateHandler extends Schema.TaggedError<DuplicateHandler>()("DuplicateHandler", {
  namespace: Schema.String,
  schemaIdentity: Schema.String,
  /** The source of each: a group, a plug-in or a file. */
  sources: Schema.Array(Schema.String)
}) {
  override get message() {
    return `two handlers for ${this.schemaIdentity} in namespace ${this.namespace}: ${this.sources.join(" and ")}. ` +
      `Remove one`
  }
}

/**
 * Resolves handlers.
 *
 * ```ts
 * HandlerRegistry.layer(Chatlab, Core).pipe(Layer.provide([ChatlabHandlers, CoreHandlers]))
 * ```
 */
export class HandlerRegistry extends Context.Service<HandlerRegistry, {
  /** The handler of the namespace, else that of `core`, else `undefined`. */
  readonly find: (namespace: string, schemaIdentity: string) => Handler.Handler | undefined
  /** The same; fails with {@link HandlerNotFound} when there is none. */
  readonly resolve: (namespace: string, schemaIdentity: string) => Effect.Effect<Handler.Handler, HandlerNotFound>
  /** All handlers, in the order of the groups and then of the plug-ins. */
  readonly list: ReadonlyArray<Handler.Handler>
  /**
   * The kinds served, each up to a version, as workers report them to the store: those of `core` serve every namespace.
   */
  readonly serves: ReadonlyArray<Kind.Served>
  /** What is served in one namespace, by its own handlers and those of `core`. */
  readonly servesIn: (namespace: string) => ReadonlyArray<Kind.Served>
}>()("effect-sluice/HandlerRegistry") {}

/**
 * The registry of these groups, and of the plug-ins provided to it. Requires the handlers' layer of each group: a
 * missing one does not compile. Fails with {@link DuplicateHandler}. It, and a drain on it, log a warning if other handlers
 * are provided: forgetting a group is not a type error.
 */
export const layer = <Groups extends ReadonlyArray<OutputGroup.Any>>(
  ...groups: Groups
): Layer.Layer<HandlerRegistry, DuplicateHandler, HandlersOf<Groups[number]>> =>
  Layer.effect(
    HandlerRegistry,
    Effect.gen(function*() {
      const context = yield* Effect.context<never>()
      const sources = groups.flatMap((group) => HandlerPlugin.fromGroup(group, context))
      const registry = yield* fromSources([...sources, ...HandlerPlugin.fromContext(context)])
      yield* warnOfUnused(registry, context)
      return registry
    })
  )

/** The handlers that a warning has named. */
const named = new WeakSet<Handler.Handler>()

/**
 * @internal Logs the handlers in a context that the registry does not use, each once: their chunks would be parked, and
 * nothing else would say why. A warning and not an error, because two registries may share one layer of handlers. The
 * registry looks at what is provided to it, and a drain at what is provided beside its registry.
 */
export const warnOfUnused = ({ list }: HandlerRegistry["Service"], context: Context.Context<never>) =>
  Effect.suspend(() => {
    const kinds = new Set(list.map((handler) => Kind.format(servedBy(handler, handler.namespace))))
    const provided = [
      ...Handler.allFromContext(context),
      ...HandlerPlugin.fromContext(context).map(({ handler }) => handler)
    ]
    const unused = provided.filter((handler) =>
      !named.has(handler) && !kinds.has(Kind.format(servedBy(handler, handler.namespace)))
    )
    for (const handler of unused) named.add(handler)
    return unused.length === 0
      ? Effect.void
      : Effect.logWarning(
        `handlers are provided that the registry does not use: ${
          [...new Set(unused.map(({ name }) => name))].join(", ")
        }. Give their groups to HandlerRegistry.layer and their layers to it, or do not provide the layers`
      )
  })

/** The phantom services of a group's handlers. */
export type HandlersOf<G> = G extends OutputGroup.OutputGroup<infer Namespace, infer O extends Output.Any> ?
  OutputGroup.ToHandlers<Namespace, O> :
  never

interface Entry {
  readonly source: string
  readonly handler: Handler.Handler
}

const servedBy = ({ output }: Handler.Handler, namespace: string): Kind.Served => ({
  namespace,
  schemaIdentity: output.identity,
  version: output.version
})

const fromSources = Effect.fnUntraced(function*(
  sources: ReadonlyArray<Entry>
) {
  // nested maps: a combined key would be built and hashed for each chunk
  const byNamespace = new Map<string, Map<string, Entry>>()
  for (const entry of sources) {
    const { namespace, output: { identity } } = entry.handler
    const byIdentity = byNamespace.get(namespace) ?? new Map<string, Entry>()
    const other = byIdentity.get(identity)
    if (other !== undefined) {
      return yield* new DuplicateHandler({
        namespace,
        schemaIdentity: identity,
        sources: [other.source, entry.source]
      })
    }
    byNamespace.set(namespace, byIdentity.set(identity, entry))
  }
  const find = (namespace: string, schemaIdentity: string) =>
    (byNamespace.get(namespace)?.get(schemaIdentity) ?? byNamespace.get(Kind.core)?.get(schemaIdentity))
      ?.handler
  const list = Object.freeze(sources.map((entry) => entry.handler))
  const known = list.map((handler) => Kind.format(servedBy(handler, handler.namespace)))
  return HandlerRegistry.of(Object.freeze({
    list,
    serves: Object.freeze(list.map((handler) => servedBy(handler, handler.namespace))),
    servesIn: (namespace: string) => {
      const own = list.filter((handler) => find(namespace, handler.output.identity) === handler)
      return own.map((handler) => servedBy(handler, namespace))
    },
    find,
    resolve: (namespace: string, schemaIdentity: string) =>
      Effect.suspend(() => {
        const handler = find(namespace, schemaIdentity)
        return handler === undefined
          ? Effect.fail(new HandlerNotFound({ namespace, schemaIdentity, known }))
          : Effect.succeed(handler)
      })
  }))
})
