/**
 * Groups the outputs of a namespace and builds the layer of their handlers: `toLayer` does not compile until every
 * output has its handler.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Pipeable, Prototype } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import * as Handler from "./Handler.ts"
import * as Identity from "./Identity.ts"
import { nearest } from "./internal/nearest.ts"
import { quote } from "./internal/quote.ts"
import * as Output from "./Output.ts"

/** Marks a value as a group of outputs, even one from another copy of the package. */
export const TypeId = "~effect-sluice/OutputGroup"

/** Two outputs of one group have the same short name, so their handlers would have the same key. */
export class DuplicateOutput extends Schema.TaggedError<DuplicateOutput>()("DuplicateOutput", {
  namespace: Schema.String,
  shortName: Schema.String,
  identities: Schema.Array(Schema.String)
}) {
  override get message() {
    return `group ${this.namespace} has two outputs named ${this.shortName}: ${this.identities.join(", ")}. ` +
      `Put one of them into a group of its own`
  }
}

/** The namespace of a group is not valid. */
export class NamespaceInvalid extends Schema.TaggedError<NamespaceInvalid>()("NamespaceInvalid", {
  namespace: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `${quote(this.namespace)} is not a namespace: ${this.reason}`
  }
}

/** The handlers that a group requires, keyed by the short names of its outputs. */
export type HandlersFrom<O extends Output.Any> = {
  readonly [Current in O as Current["shortName"]]: Handler.Definition<Output.Value<Current>, any>
}

/** The phantom services of a group's handlers: its layer provides them and a registry requires them. */
export type ToHandlers<Namespace extends string, O extends Output.Any> = O extends Output.Any ?
  Handler.HandlerOf<`${Namespace}/${O["identity"]}`> :
  never

/**
 * The compiler refuses handlers for outputs that the group does not have, and options that do not exist, not only on
 * fresh object literals.
 */
export type NoExtra<O extends Output.Any, H> = {
  readonly [K in keyof H]: K extends O["shortName"] ? Handler.NoExtra<H[K]>
    : `there is no output named '${K & string}' in this group`
}

/** The services that all handlers of a record require. */
export type HandlersServices<H> = { [K in keyof H]: Handler.ServicesOf<H[K]> }[keyof H]

/**
 * A namespace's outputs.
 *
 * ```ts
 * export const Chatlab = OutputGroup.make("chatlab", PatientInitial, PatientReply)
 *
 * export const ChatlabHandlers = Chatlab.toLayer(Effect.gen(function*() {
 *   const messages = yield* Messages
 *   return Chatlab.of({
 *     "patient-initial": ({ output }) => Effect.asVoid(messages.insert(output.text)),
 *     "patient-reply": ({ output }) =>
 *       Effect.map(messages.insert(output.text), (row) => DomainObject.make("chatlab.Message", row.id))
 *   })
 * }))
 * ```
 */
export interface OutputGroup<Namespace extends string, O extends Output.Any> extends Pipeable {
  readonly [TypeId]: typeof TypeId
  /** The namespace that its handlers serve. */
  readonly namespace: Namespace
  /** By schema identity. */
  readonly outputs: ReadonlyMap<string, O>
  /** The group with more outputs. Throws {@link DuplicateOutput}. */
  add<const Os extends ReadonlyArray<Output.Any>>(...outputs: Os): OutputGroup<Namespace, O | Os[number]>
  /** The group with the outputs of other groups; the namespace stays this group's. Throws {@link DuplicateOutput}. */
  merge<const Groups extends ReadonlyArray<Any>>(
    ...groups: Groups
  ): OutputGroup<Namespace, O | OutputsOf<Groups[number]>>
  /** The group without the outputs of these short names. */
  omit<const Names extends ReadonlyArray<O["shortName"]>>(
    ...names: Names
  ): OutputGroup<Namespace, Exclude<O, { readonly shortName: Names[number] }>>
  /** Checks the types of a record of handlers: each output has one, and there are no others. */
  of<const H extends HandlersFrom<O>>(handlers: H & NoExtra<O, H>): Pick<H, O["shortName"]>
  /** The layer of the group's handlers. It requires the services that the handlers require. */
  toLayer<const H extends HandlersFrom<O>, EX = never, RX = never>(
    build: (H & NoExtra<O, H>) | Effect.Effect<H & NoExtra<O, H>, EX, RX>
  ): Layer.Layer<ToHandlers<Namespace, O>, EX, Exclude<RX, Scope> | Exclude<HandlersServices<H>, Scope>>
}

/** Any group, without its types. */
export interface Any {
  readonly [TypeId]: typeof TypeId
  /** The namespace that its handlers serve. */
  readonly namespace: string
  /** By schema identity. */
  readonly outputs: ReadonlyMap<string, Output.Any>
}

/** The outputs of a group. */
export type OutputsOf<G> = G extends { readonly outputs: ReadonlyMap<string, infer O extends Output.Any> } ? O : never

/** Whether a value is a group of outputs. */
export const isOutputGroup = (value: unknown): value is Any => Predicate.hasProperty(value, TypeId)

const byIdentity = <O extends Output.Any>(namespace: string, outputs: Iterable<O>): ReadonlyMap<string, O> => {
  const identities = new Map<string, O>()
  const names = new Map<string, string>()
  for (const output of outputs) {
    // the compiler refuses this
    if (!Output.isOutput(output)) {
      throw new Error(`group ${namespace} has a value that is not an output: give the classes that Output.make made`)
    }
    const other = names.get(output.shortName)
    if (other !== undefined && other !== output.identity) {
      throw new DuplicateOutput({ namespace, shortName: output.shortName, identities: [other, output.identity] })
    }
    names.set(output.shortName, output.identity)
    identities.set(output.identity, output)
  }
  return identities
}

/** Names the outputs without a handler, if any. The compiler refuses this, but a caller may have no types. */
const withoutHandler = (namespace: string, outputs: Iterable<Output.Any>, definitions: unknown): string | undefined => {
  const given = Predicate.isObject(definitions) ? definitions : {}
  const missing = [...outputs].map(({ shortName }) => shortName).filter((name) =>
    !Predicate.hasProperty(given, name) || given[name] === undefined
  )
  if (missing.length === 0) return undefined
  const known = new Set([...outputs].map(({ shortName }) => shortName))
  const strangers = Object.keys(given).filter((name) => !known.has(name))
  const words = missing.map((name) => {
    const written = nearest(name, strangers)
    return written === undefined ? name : `${name} (there is one for ${quote(written)}: is it misspelt?)`
  })
  return `no handler for ${words.join(", ")} in group ${namespace}`
}

// numbers the layers of handlers
let layers = 0

const fromOutputs = <Namespace extends string, O extends Output.Any>(
  namespace: Namespace,
  outputs: ReadonlyMap<string, O>
): OutputGroup<Namespace, O> => ({
  ...Prototype,
  [TypeId]: TypeId,
  namespace,
  outputs,
  add: (...more) => fromOutputs(namespace, byIdentity(namespace, [...outputs.values(), ...more])),
  merge: <const Groups extends ReadonlyArray<Any>>(...groups: Groups) => {
    // the type of a group lists its outputs
    const others = groups.flatMap((group) => [...group.outputs.values()]) as Array<OutputsOf<Groups[number]>>
    return fromOutputs(
      namespace,
      byIdentity<O | OutputsOf<Groups[number]>>(namespace, [...outputs.values(), ...others])
    )
  },
  omit: <const Names extends ReadonlyArray<O["shortName"]>>(...names: Names) => {
    const omitted = new Set<string>(names)
    const kept = [...outputs.values()].filter((output) => !omitted.has(output.shortName))
    return fromOutputs(
      namespace,
      byIdentity(namespace, kept as Array<Exclude<O, { readonly shortName: Names[number] }>>)
    )
  },
  of: (handlers) => handlers,
  toLayer: (build) => {
    const layer = ++layers
    return Layer.effectContext(Effect.gen(function*() {
      const services = yield* Effect.context<never>()
      const definitions = (Effect.isEffect(build) ? yield* build : build) as Readonly<
        Record<string, Handler.AnyDefinition>
      >
      const missing = withoutHandler(namespace, outputs.values(), definitions)
      if (missing !== undefined) return yield* Effect.die(new Error(missing))
      const handlers = new Map<string, unknown>()
      for (const [identity, output] of outputs) {
        const definition = definitions[output.shortName] as Handler.AnyDefinition
        handlers.set(
          Handler.contextKey(namespace, identity, layer),
          Handler.build(namespace, output as Output.Any, definition, services)
        )
      }
      return Context.makeUnsafe(handlers)
      // the phantom types stand for the keys just set: only `toLayer`'s own type can express that
    })) as Layer.Layer<any, any, any>
  }
})

/**
 * A group of outputs for one namespace. Throws {@link NamespaceInvalid} or {@link DuplicateOutput}: a group is declared
 * once, at the top of a module, where a wrong one should stop the program.
 */
export const make = <const Namespace extends string, const Os extends ReadonlyArray<Output.Any>>(
  namespace: Namespace,
  ...outputs: Os
): OutputGroup<Namespace, Os[number]> => {
  const reason = Identity.partProblem(namespace)
  if (reason !== undefined) throw new NamespaceInvalid({ namespace, reason })
  return fromOutputs(namespace, byIdentity(namespace, outputs))
}
