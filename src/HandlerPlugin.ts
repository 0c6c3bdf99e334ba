/**
 * The open way in: a layer that adds one handler to whatever registry it is provided to, for plug-ins and for handlers
 * found by the command. Checked when the registry is built, where the closed groups are checked by the compiler.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import * as Handler from "./Handler.ts"
import type * as Output from "./Output.ts"

/** @internal A handler and where it came from. */
export interface Source {
  readonly source: string
  readonly handler: Handler.Handler
}

/** @internal What the plug-ins provided so far have added. */
export const HandlerPlugins = Context.Reference<ReadonlyArray<Source>>("effect-sluice/HandlerPlugins", {
  defaultValue: () => []
})

/**
 * A layer that adds a handler. Provide any number of them to the registry:
 *
 * ```ts
 * const Hotwash = HandlerPlugin.layer("chatlab", HotwashInitial, ({ output, call }) => ...)
 * HandlerRegistry.layer(Chatlab).pipe(Layer.provide(Hotwash), Layer.provide(ChatlabHandlers))
 * ```
 */
export const layer = <
  O extends Output.Any,
  const D extends Handler.Definition<Output.Value<O>, any>,
  EX = never,
  RX = never
>(
  namespace: string,
  output: O,
  definition: D | Effect.Effect<D, EX, RX>
): Layer.Layer<never, EX, Exclude<RX, Scope> | Exclude<Handler.ServicesOf<D>, Scope>> =>
  Layer.effectContext(Effect.gen(function*() {
    const before = yield* HandlerPlugins
    const services = yield* Effect.context<never>()
    const built = (Effect.isEffect(definition) ? yield* definition : definition) as Handler.AnyDefinition
    const handler = Handler.build(namespace, output as Output.Any, built, services)
    return Context.make(HandlerPlugins, [...before, { source: `plug-in ${handler.name}`, handler }])
    // what the definition needs is in `services`, as the declared type asks of whoever provides the layer
  })) as unknown as Layer.Layer<never, EX, Exclude<RX, Scope> | Exclude<Handler.ServicesOf<D>, Scope>>
