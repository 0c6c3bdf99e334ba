/**
 * Whether the trace of a call is one. Tools write it in many ways; a collector refuses all that is sent with one that is none,
 * the spans of other calls as well.
 */
import * as Predicate from "effect/Predicate"
import type { TraceContext } from "../ServiceCall.ts"

// by W3C trace context and OTLP, ids of zeros only are none
const isId = (value: unknown, digits: number): boolean =>
  typeof value === "string" && value.length === digits && /^[0-9a-f]*[1-9a-f][0-9a-f]*$/i.test(value)

/** What a trace must be, in words. */
export const aTrace = "{ traceId: 32 hex digits, spanId: 16 hex digits, sampled: true or false }"

const isSound = ({ sampled, spanId, traceId }: TraceContext): boolean =>
  isId(traceId, 32) && isId(spanId, 16) && typeof sampled === "boolean"

/** The trace that a value is, and nothing else of it; none when it is no trace, or throws when it is looked at. */
export const traceOf = (value: unknown): TraceContext | undefined => {
  if (!Predicate.isObject(value)) return undefined
  try {
    // any of it may be anything: that is what is looked at
    const { sampled, spanId, traceId } = value as Partial<TraceContext> as TraceContext
    const trace = { traceId, spanId, sampled }
    return isSound(trace) ? trace : undefined
  } catch {
    return undefined
  }
}

/** A call with its trace, when that is one. */
export const withSoundTrace = <Call extends { readonly trace?: TraceContext }>(
  call: Call
): { readonly call: Call; readonly isDropped: boolean } => {
  if (call.trace === undefined) return { call, isDropped: false }
  const { trace, ...rest } = call
  const sound = traceOf(trace)
  return { call: (sound === undefined ? rest : { ...rest, trace: sound }) as Call, isDropped: sound === undefined }
}
