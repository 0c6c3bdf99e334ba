/**
 * Outputs as tools that a model can call.
 */
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import { jsonProblem } from "../internal/jsonProblem.ts"
import { storableOutput } from "../internal/storableJson.ts"
import type { RecordedOutput } from "../ServiceCall.ts"
import type { Answerable } from "./recorded.ts"

/** The tool of an output: named by the output's short name, described by its schema's `description`. It has no handler. */
export type OutputTool = Tool.Tool<string, {
  readonly parameters: Answerable["schema"]
  readonly success: typeof Schema.Void
  readonly failure: typeof Schema.Never
  readonly failureMode: "error"
}>

/** The tools of outputs, whose short names must differ. */
export const toolkitOf = (outputs: ReadonlyArray<Answerable>): Toolkit.Toolkit<Record<string, OutputTool>> => {
  const names = outputs.map(({ shortName }) => shortName)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new Error(`two outputs are named ${twice}: a model could not tell their tools apart`)
  return Toolkit.make(
    ...outputs.map(({ schema, shortName }) =>
      Tool.make(shortName, { description: SchemaAST.resolveDescription(schema.ast), parameters: schema })
    )
  )
}

/** A tool call, as an output to be recorded. */
export interface ToolOutput {
  /** Undefined if it is not JSON that can be stored. */
  readonly recorded: RecordedOutput | undefined
  /** Why the parameters do not fit; undefined when they do. */
  readonly problem: string | undefined
}

/**
 * The parameters of a tool call as an output. Parameters that do not fit are recorded unchanged, so that the drain makes a
 * dead letter of them only.
 */
export const outputOf = (output: Answerable, params: unknown, part: string): Effect.Effect<ToolOutput> => {
  const { identity: schema, version } = output
  return output.decode(params as Schema.Json, version).pipe(
    Effect.flatMap((value) => output.encode(value, { part })),
    // some providers return parameters that are already decoded: what does not decode may still be a value
    Effect.catch((error) => Effect.mapError(output.encode(params, { part }), () => error)),
    Effect.match({
      onSuccess: (recorded) => ({ recorded: storableOutput(recorded), problem: undefined }),
      onFailure: ({ message }) => ({
        // checked to be JSON
        recorded: jsonProblem(params, "params") === undefined
          ? { schema, version, part, data: params as Schema.Json }
          : undefined,
        problem: message
      })
    })
  )
}
