/**
 * Layers that add a handler to the registry they are provided to, for plug-ins and for handlers found by the command.
 * The registry checks them when it is built; handlers of groups are checked by the compiler.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import * as Handler from "./Handler.ts"
import type * as Output from "./Output.ts"
import type * as OutputGroup from "./OutputGroup.ts"

/** @internal A handler and its source. */
export interface Source {
  readonly source: string
  readonly handler: Handler.Handler
}

const prefix = "effect-sluice/HandlerPlugin/"
// each plug-in has its own key: any number can be merged, and two for one output stay distinct
let made = 0

const toContext = (sources: ReadonlyArray<Source>): Context.Context<never> =>
  Context.makeUnsafe(new Map(sources.map((source) => [`${prefix}${++made}`, source])))

/** @internal The plug-ins of a context, in the order in which they were made. */
export const fromContext = (context: Context.Context<never>): ReadonlyArray<Source> =>
  [...context.mapUnsafe]
    .filter(([key]) => key.startsWith(prefix))
    .sort(([a], [b]) => Number(a.slice(prefix.length)) - Number(b.slice(prefix.length)))
    // only `toContext` writes under the prefix
    .map(([, source]) => source as Source)

/** @internal The handlers of a group in a context, from every layer of them that was provided. */
export const fromGroup = (group: OutputGroup.Any, context: Context.Context<never>): ReadonlyArray<Source> =>
  [...group.outputs.keys()].flatMap((identity) => {
    const handlers = Handler.fromContext(context, group.namespace, identity)
    // the compiler requires the layer; a caller without types gets a clear error
    if (handlers.length === 0) {
      throw new Error(`no handlers of group ${group.namespace} are provided: provide the layer its toLayer gives`)
    }
    return handlers.map((handler, index) => ({
      source: index === 0 ? `group ${group.namespace}` : `another layer of group ${group.namespace}`,
      handler
    }))
  })

/** @internal Plug-ins as a layer. */
export const fromSources = (sources: ReadonlyArray<Source>): Layer.Layer<never> =>
  Layer.effectContext(Effect.sync(() => toContext(sources)))

/** A definition, or an effect that makes one. */
export type Given<A> = Handler.Definition<A, any> | Effect.Effect<Handler.Definition<A, any>, any, any>

/** The definition itself. */
export type DefinitionOf<D> = D extends Effect.Effect<infer A, any, any> ? A : D

/**
 * A layer that adds a handler. Provide any number of them to the registry:
 *
 * ```ts
 * const Hotwash = HandlerPlugin.layer("chatlab", HotwashInitial, ({ output }) =>
 *   Effect.map(messages.insert(output.text), (row) => DomainObject.make("chatlab.Message", row.id)))
 *
 * HandlerRegistry.layer(Chatlab).pipe(Layer.provide([Hotwash, ChatlabHandlers]))
 * ```
 */
export const layer = <
  O extends Output.Any,
  const D extends Given<Output.Value<O>>
>(
  namespace: string,
  output: O,
  definition: D & Handler.NoExtra<DefinitionOf<D>>
): Layer.Layer<never, Effect.Error<D>, Exclude<Effect.Services<D> | Handler.ServicesOf<DefinitionOf<D>>, Scope>> =>
  Layer.effectContext(Effect.gen(function*() {
    const services = yield* Effect.context<never>()
    const built = (Effect.isEffect(definition) ? yield* definition : definition) as Handler.AnyDefinition
    const handler = Handler.build(namespace, output as Output.Any, built, services)
    return toContext([{ source: `plug-in ${handler.name}`, handler }])
    // the definition's services are in `services`: the declared type requires them from the code that provides the
    // layer
  })) as unknown as Layer.Layer<
    never,
    Effect.Error<D>,
    Exclude<Effect.Services<D> | Handler.ServicesOf<DefinitionOf<D>>, Scope>
  >

/**
 * A layer that adds all handlers of a group, for registries that do not know the group, for example in a module that
 * the command finds.
 *
 * ```ts
 * export const handlers = HandlerPlugin.group(Chatlab).pipe(Layer.provide(ChatlabHandlers))
 * ```
 */
export const group = <Namespace extends string, O extends Output.Any>(
  group: OutputGroup.OutputGroup<Namespace, O>
): Layer.Layer<never, never, OutputGroup.ToHandlers<Namespace, O>> =>
  Layer.effectContext(
    Effect.map(
      Effect.context<OutputGroup.ToHandlers<Namespace, O>>(),
      (context) => toContext(fromGroup(group, context))
    )
  )
