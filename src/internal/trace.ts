/**
 * Validates the trace of a call. Tools write traces in many ways, and a collector refuses a whole batch because of one
 * invalid trace, including the spans of other calls.
 */
import * as Predicate from "effect/Predicate"
import type { TraceContext } from "../ServiceCall.ts"

// W3C trace context and OTLP do not allow ids of zeros only
const isId = (value: unknown, digits: number): boolean =>
  typeof value === "string" && value.length === digits && /^[0-9a-f]*[1-9a-f][0-9a-f]*$/i.test(value)

/** The form of a trace, for messages. */
export const aTrace = "{ traceId: 32 hex digits, spanId: 16 hex digits, sampled: true or false }"

const isSound = ({ sampled, spanId, traceId }: TraceContext): boolean =>
  isId(traceId, 32) && isId(spanId, 16) && typeof sampled === "boolean"

/** The fields of a trace in a value; undefined when it is not a valid trace, or throws when it is read. */
export const traceOf = (value: unknown): TraceContext | undefined => {
  if (!Predicate.isObject(value)) return undefined
  try {
    // the fields may have any type: `isSound` checks them
    const { sampled, spanId, traceId } = value as Partial<TraceContext> as TraceContext
    const trace = { traceId, spanId, sampled }
    return isSound(trace) ? trace : undefined
  } catch {
    return undefined
  }
}

/** A call with its trace if that is valid, else without. */
export const withSoundTrace = <Call extends { readonly trace?: TraceContext }>(
  call: Call
): { readonly call: Call; readonly isDropped: boolean } => {
  if (call.trace === undefined) return { call, isDropped: false }
  const { trace, ...rest } = call
  const sound = traceOf(trace)
  return { call: (sound === undefined ? rest : { ...rest, trace: sound }) as Call, isDropped: sound === undefined }
}
