/**
 * Converts a call to JSON text, as a store writes it, and computes how many bytes a claim returns for each of its
 * chunks.
 */
import type { CallFacts } from "../CallFacts.ts"
import type { RecordedOutput, ServiceCall } from "../ServiceCall.ts"

/** A call's JSON, part by part. */
export interface CallJson {
  readonly context: string
  /** Empty when the call has none; the same for facts, details and trace. */
  readonly input: string
  readonly facts: string
  readonly details: string
  readonly trace: string
  readonly outputs: ReadonlyArray<string>
  /** Bytes of the context and input, which every chunk of the call gets. */
  readonly shared: number
  /** The bytes of each output, including `shared`. */
  readonly bytes: ReadonlyArray<number>
}

/** The usual reason why a chunk has no data. */
export const outputGone = "the recorded output is no longer there"

/** JSON text; empty for an absent value, because JSON text is never empty. */
export const textOf = (value: unknown): string => value === undefined ? "" : JSON.stringify(value)

/** Facts as JSON text; empty without any. */
export const factsText = (facts: CallFacts | undefined): string =>
  facts === undefined || Object.keys(facts).length === 0 ? "" : JSON.stringify(facts)

/** An output as it is stored: an empty `part` is left out, so both forms of an output are stored the same way. */
export const plainOutput = (output: RecordedOutput): RecordedOutput => {
  if (output.part !== "") return output
  const { part: _, ...rest } = output
  return rest
}

const make = (call: ServiceCall): CallJson => {
  const context = textOf(call.context ?? {})
  const input = textOf(call.input)
  const outputs = call.outputs.map((output) => textOf(plainOutput(output)))
  const shared = Buffer.byteLength(context) + Buffer.byteLength(input)
  return {
    context,
    input,
    facts: factsText(call.facts),
    details: textOf(call.details),
    trace: textOf(call.trace),
    outputs,
    shared,
    bytes: outputs.map((text) => shared + Buffer.byteLength(text))
  }
}

const kept = new WeakMap<ServiceCall, CallJson>()

/** Makes the JSON of a call now. Later changes to its values are not recorded, however often the call is sent. */
export const keepJson = (call: ServiceCall): void => void kept.set(call, make(call))

/** A call's JSON: the kept one, if there is one. */
export const callJson = (call: ServiceCall): CallJson => kept.get(call) ?? make(call)
