/**
 * One handler of a group, run directly.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { DomainObject } from "../DomainObject.ts"
import { resultsOf } from "../drain/runMany.ts"
import { fromContext, type HandlerOf } from "../Handler.ts"
import type * as Output from "../Output.ts"
import type * as OutputGroup from "../OutputGroup.ts"
import { sampleInput, type SampleOptions } from "./samples.ts"

/**
 * Runs a group's handler for one output, as a drain would give it: the value is encoded and decoded again. Gives back
 * what it created, or fails as it does. Nothing is recorded, no transaction is begun and no time limit is kept: put it into
 * `sql.withTransaction` to see what a transaction changes.
 *
 * ```ts
 * const created = yield* runHandler(Chatlab, PatientReply, { text: "It hurts." }, { context: { simulationId: "knee" } }).pipe(
 *   Effect.provide(ChatlabHandlers)
 * )
 * ```
 */
export const runHandler = <Namespace extends string, O extends Output.Any, const Chosen extends O>(
  group: OutputGroup.OutputGroup<Namespace, O>,
  output: Chosen,
  value: Output.Value<NoInfer<Chosen>>,
  options: SampleOptions & { readonly attempt?: number | undefined } = {}
): Effect.Effect<ReadonlyArray<DomainObject>, unknown, HandlerOf<`${Namespace}/${Chosen["identity"]}`>> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<never>()
    const handler = fromContext(context, group.namespace, output.identity).at(-1)
    if (handler === undefined) {
      throw new Error(`no handler for ${output.identity} of group ${group.namespace} is provided`)
    }
    const recorded = yield* (output as Output.Any).encode(value)
    const decoded = yield* (output as Output.Any).decode(recorded.data, recorded.version)
    const input = sampleInput(output as Output.Any as Sample, decoded, { namespace: group.namespace, ...options })
    const run = handler.run._tag === "Many"
      ? handler.run.persistMany([input])
      : Effect.map(handler.run.persist(input), (created) => [created])
    const results = yield* Effect.updateContext(
      run,
      (current: Context.Context<never>) => Context.merge(handler.services, current)
    )
    const objects = resultsOf(results, 1)
    return objects instanceof Error ? yield* Effect.die(objects) : objects[0] ?? []
  })

// of an output whose types are forgotten the identity is text
type Sample = Output.Output<Output.SchemaIdentity, Schema.Codec<unknown, unknown>>
