/**
 * A call as text: what a store writes of it, and how many bytes a claim hands out for each of its chunks.
 */
import type { RecordedOutput, ServiceCall } from "../ServiceCall.ts"

/** A call's JSON, part by part. */
export interface CallJson {
  readonly context: string
  /** Empty when there is none; so are details and trace. */
  readonly input: string
  readonly details: string
  readonly trace: string
  readonly outputs: ReadonlyArray<string>
  /** Bytes of what all chunks are handed of their call: context and input. */
  readonly shared: number
  /** For each output: it, and what is shared. */
  readonly bytes: ReadonlyArray<number>
}

/** The usual reason why a chunk has no data. */
export const outputGone = "the recorded output is no longer there"

/** The text of an absent value is empty, which no JSON is. */
export const textOf = (value: unknown): string => value === undefined ? "" : JSON.stringify(value)

/** An output as it is stored: the part of the only one of its kind is left out, as it may be where a call is recorded. */
export const plainOutput = (output: RecordedOutput): RecordedOutput => {
  if (output.part !== "") return output
  const { part: _, ...rest } = output
  return rest
}

/** A call's JSON. */
export const callJson = (call: ServiceCall): CallJson => {
  const context = textOf(call.context ?? {})
  const input = textOf(call.input)
  const outputs = call.outputs.map((output) => textOf(plainOutput(output)))
  const shared = Buffer.byteLength(context) + Buffer.byteLength(input)
  return {
    context,
    input,
    details: textOf(call.details),
    trace: textOf(call.trace),
    outputs,
    shared,
    bytes: outputs.map((text) => shared + Buffer.byteLength(text))
  }
}
