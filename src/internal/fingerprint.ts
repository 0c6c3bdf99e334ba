/**
 * Distinguishes JSON that `Output.encode` made from JSON that was written by hand. The former decodes by its schema and has
 * only the schema's fields, so a store may use it unchanged, without a program that decodes it.
 */
import * as Hash from "effect/Hash"
import * as Schema from "effect/Schema"
import type { RecordedOutput } from "../ServiceCall.ts"

/**
 * The fingerprint of a schema: it differs where identity, version or JSON Schema differ. Undefined for a schema that has no
 * JSON Schema. Never 0, which stands for none.
 */
export const fingerprintOf = (identity: string, version: number, codec: Schema.Top): number | undefined => {
  try {
    return Hash.string(JSON.stringify([identity, version, Schema.toJsonSchemaDocument(codec)])) | 1
  } catch {
    return undefined
  }
}

// by the data and not by the output: a copy with another part is the same answer, one with other data is not
const marks = new WeakMap<object, number>()

/** Remembers that the output was encoded by the schema with this fingerprint. */
export const mark = (output: RecordedOutput, fingerprint: number | undefined): RecordedOutput => {
  if (fingerprint !== undefined && typeof output.data === "object" && output.data !== null) {
    marks.set(output.data, fingerprint)
  }
  return output
}

/** The fingerprint of the schema by which an output was encoded in this process; 0 when that is unknown. */
export const markOf = ({ data }: RecordedOutput): number =>
  typeof data === "object" && data !== null ? marks.get(data) ?? 0 : 0
