/** Makes recorded calls and handlers' inputs for tests, with defaults for everything that does not matter to the test. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import { callOf } from "../drain/prepare.ts"
import type { HandlerInput } from "../Handler.ts"
import type * as Output from "../Output.ts"
import type { ServiceCall } from "../ServiceCall.ts"

/** The fields of a sample's call; the others have defaults. */
export type SampleOptions = Partial<Omit<ServiceCall, "outputs">> & { readonly part?: string | undefined }

/**
 * A finished call with one output. The namespace is the output's own, the call id `sample` when none is given. Fails
 * like `Output.encode` when the value does not fit the schema.
 *
 * ```ts
 * const call = yield* sampleCall(PatientReply, { text: "It hurts." }, { context: { simulationId: "knee" } })
 * ```
 */
export const sampleCall = <Id extends Output.SchemaIdentity, S extends Schema.Codec<any, any>>(
  output: Output.Output<Id, S>,
  value: S["Type"],
  { part, ...fields }: SampleOptions = {}
): Effect.Effect<ServiceCall, Schema.SchemaError> =>
  Effect.map(output.encode(value, part === undefined ? {} : { part }), (encoded): ServiceCall => {
    const [, namespace = "sample", group = "sample"] = output.identity.split(".")
    return {
      callId: "sample",
      namespace,
      service: `services.${namespace}.${group}.sample`,
      ...fields,
      outputs: [encoded]
    }
  })

/**
 * An input for a handler, to call it directly without a drain.
 *
 * ```ts
 * const persist = ({ output }: Handler.HandlerInput<{ readonly text: string }>) => messages.insert(output.text)
 *
 * const created = yield* persist(sampleInput(PatientReply, { text: "It hurts." }, { context: { simulationId: "knee" } }))
 * ```
 */
export const sampleInput = <Id extends Output.SchemaIdentity, S extends Schema.Codec<any, any>>(
  output: Output.Output<Id, S>,
  value: S["Type"],
  { part = "", ...fields }: SampleOptions & { readonly attempt?: number | undefined } = {}
): HandlerInput<S["Type"]> => {
  const [, namespace = "sample", group = "sample"] = output.identity.split(".")
  const callId = fields.callId ?? "sample"
  const finishedAt = fields.finishedAt ?? DateTime.makeUnsafe(0)
  return {
    output: value,
    call: callOf({
      seq: 1n,
      key: { callId, schemaIdentity: output.identity, part },
      namespace: fields.namespace ?? namespace,
      schemaVersion: output.version,
      orderingKey: fields.orderingKey,
      attempts: (fields.attempt ?? 1) - 1,
      crashes: 0,
      loneCrashes: 0,
      recordedAt: finishedAt,
      payload: { withheld: "a sample's output is given as the handler gets it" },
      call: {
        service: fields.service ?? `services.${namespace}.${group}.sample`,
        correlationId: fields.correlationId ?? callId,
        context: fields.context ?? {},
        input: fields.input ?? null,
        facts: fields.facts ?? {},
        finishedAt,
        trace: fields.trace,
        outputs: 1
      }
    })
  }
}
