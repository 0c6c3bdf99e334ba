/**
 * What the calls of a group look like: which services make them, and what their context holds. Declared once beside the
 * group, it lets the compiler check what is recorded, and gives handlers the context with its types.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { ContextMissing, type HandlerCall } from "./Handler.ts"
import type * as Output from "./Output.ts"
import type * as OutputGroup from "./OutputGroup.ts"
import type { RecordedOutput, ServiceCall } from "./ServiceCall.ts"

/** The literal type of a service's identity: four parts, the first of them `services`. */
export type ServiceIdentity = `services.${string}.${string}.${string}`

/** Schemas of what a context holds, by its keys. Each must have a form in JSON. */
export type Fields = { readonly [key: string]: Schema.Codec<any, any> }

/** One output of a call: its class, its value, and which of several of its kind it is. */
export type Given<O extends Output.Any> = O extends Output.Any
  ? readonly [output: O, value: Output.Value<O>, options?: { readonly part?: string | undefined }]
  : never

/** A call to be recorded, without what the shape knows. */
export type CallOf<O extends Output.Any, Service extends string, F extends Fields> =
  & Omit<ServiceCall, "namespace" | "service" | "context" | "outputs">
  & {
    readonly service: Service
    readonly context: Schema.Struct<F>["Type"]
    readonly outputs: ReadonlyArray<Given<O>>
  }

/** The calls of a group. */
export interface CallShape<O extends Output.Any, Service extends string, F extends Fields> {
  /** The services that make such calls. */
  readonly services: ReadonlyArray<Service>
  /** A call to be recorded, its context and outputs encoded. Fails as their schemas do. */
  readonly make: (call: CallOf<O, Service, F>) => Effect.Effect<ServiceCall, Schema.SchemaError>
  /**
   * The context of a call, in a handler. Fails with {@link ContextMissing} at the first key that is missing or does not
   * decode.
   */
  readonly context: (call: HandlerCall) => Effect.Effect<Schema.Struct<F>["Type"], ContextMissing>
}

/**
 * Declares what the calls of a group look like.
 *
 * ```ts
 * const ChatlabCall = CallShape.make(Chatlab, {
 *   services: ["services.chatlab.standardized_patient.generate-reply"],
 *   context: { simulationId: Schema.String }
 * })
 *
 * // phase 1
 * yield* recorder.record(yield* ChatlabCall.make({
 *   callId,
 *   service: "services.chatlab.standardized_patient.generate-reply",
 *   context: { simulationId: simulation.id },
 *   outputs: [[PatientReply, answer]]
 * }))
 * // in a handler
 * const persist = ({ call }: Handler.HandlerInput<unknown>) =>
 *   Effect.flatMap(ChatlabCall.context(call), ({ simulationId }) => Effect.log(simulationId))
 * ```
 */
export const make = <
  Namespace extends string,
  O extends Output.Any,
  const Service extends ServiceIdentity,
  F extends Fields
>(
  group: OutputGroup.OutputGroup<Namespace, O>,
  options: { readonly services: ReadonlyArray<Service>; readonly context: F }
): CallShape<O, Service, F> => {
  const encode = Schema.encodeUnknownEffect(Schema.toCodecJson(Schema.Struct(options.context)))
  // each key by itself, so that an error names it
  const fields = Object.entries(options.context).map(([key, field]) => ({
    key,
    decode: Schema.decodeUnknownEffect(Schema.toCodecJson(Schema.Struct({ [key]: field })))
  }))
  return {
    services: options.services,
    make: Effect.fnUntraced(function*({ context, outputs, ...call }) {
      const encoded = yield* Effect.forEach(
        outputs as ReadonlyArray<Given<Output.Any>>,
        ([output, value, part]): Effect.Effect<RecordedOutput, Schema.SchemaError> => output.encode(value, part)
      )
      // `toCodecJson` makes JSON of a struct
      const json = (yield* encode(context)) as { readonly [key: string]: Schema.Json }
      return { ...call, namespace: group.namespace, context: json, outputs: encoded }
    }),
    context: Effect.fnUntraced(function*(call) {
      const found: Record<string, unknown> = {}
      for (const { decode, key } of fields) {
        const recorded = yield* call.contextAs(key, Schema.Unknown)
        const decoded = yield* Effect.mapError(
          decode(recorded === undefined ? {} : { [key]: recorded }),
          ({ message }) =>
            new ContextMissing({
              callId: call.callId,
              key,
              reason: recorded === undefined ? "is missing" : `does not decode: ${message}`
            })
        )
        Object.assign(found, decoded)
      }
      // each field was decoded by its schema
      return found as Schema.Struct<F>["Type"]
    })
  }
}
