/**
 * The types of recorded calls. A service call is one finished run of an LLM service: the request, the answer, and the
 * outputs (its chunks) that are persisted in the application's tables.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { CallFacts } from "./CallFacts.ts"
import { escape, word } from "./internal/escape.ts"

/** The most characters a call id may have. */
export const maxCallIdLength = 64

/** The highest priority of a call. 0 is normal; each step counts as much as one minute of waiting. */
export const maxPriority = 1000

/**
 * One output as recorded: its schema, its version, and the JSON that the LLM returned. `part` tells outputs of one
 * schema in one call apart and is `""` when there is only one.
 */
export const RecordedOutput = Schema.Struct({
  schema: Schema.String,
  version: Schema.Int,
  part: Schema.optionalKey(Schema.String),
  data: Schema.Json
})
/** One output as recorded. */
export interface RecordedOutput extends Schema.Schema.Type<typeof RecordedOutput> {}

/**
 * The W3C trace context of the request that made the call; persist spans link to it. `traceId` is 32 hex digits,
 * `spanId` 16, neither of them zeros only.
 */
export const TraceContext = Schema.Struct({
  traceId: Schema.String,
  spanId: Schema.String,
  sampled: Schema.Boolean
})
/** The trace of the request that made a call. */
export interface TraceContext extends Schema.Schema.Type<typeof TraceContext> {}

/** Replaces a trace that cannot be decoded. */
const noTrace: TraceContext = { traceId: "", spanId: "", sampled: false }

const callFields = {
  /**
   * 1 to 64 characters, chosen by the application and the same at every redelivery. It identifies the call in every
   * table.
   */
  callId: Schema.String,
  /** The namespace whose handlers serve the outputs, before those of `core`. */
  namespace: Schema.String,
  /** The identity of the service that was run, `services.…`. */
  service: Schema.String,
  /** Groups the calls of one conversation; the call id when absent. Never a key. */
  correlationId: Schema.optionalKey(Schema.String),
  /**
   * What handlers must know besides the output, such as which simulation it belongs to: JSON by keys, recorded with the
   * call. It has nothing to do with Effect's `Context` of services, which a handler's layer is built from.
   */
  context: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json)),
  /** The request to the service. */
  input: Schema.optionalKey(Schema.Json),
  /**
   * Chunks of one namespace that share it are persisted one after another, in order of recording. The same key in
   * another namespace is a different key. Of calls recorded by overlapping transactions, the one that commits first may
   * be first.
   */
  orderingKey: Schema.optionalKey(Schema.String),
  /** 0 (the default) to 1000; ignored for calls with an ordering key. */
  priority: Schema.optionalKey(Schema.Int),
  /** The earliest time at which it is persisted (by the database's clock). */
  notBefore: Schema.optionalKey(Schema.DateTimeUtcFromString),
  startedAt: Schema.optionalKey(Schema.DateTimeUtcFromString),
  /** Provider, model, usage, cost. An unusable fact is dropped when the call is recorded, with a warning in the log. */
  facts: Schema.optionalKey(CallFacts.pipe(Schema.catchDecoding(() => Effect.succeed(Option.some({}))))),
  /**
   * Anything else to keep with the call. Values that are not JSON are recorded as `JSON.stringify` writes them, with a
   * warning in the log: details must not lose an answer.
   */
  details: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json)),
  /**
   * An invalid trace is dropped when the call is recorded, with a warning in the log: a bad trace must not lose an
   * answer.
   */
  trace: Schema.optionalKey(TraceContext.pipe(Schema.catchDecoding(() => Effect.succeed(Option.some(noTrace)))))
}

/** A call before its service has run: everything but the outputs. */
export const CallSpec = Schema.Struct(callFields)
/** A call before its service has run. */
export interface CallSpec extends Schema.Schema.Type<typeof CallSpec> {}

/**
 * A finished service call. Its JSON form (`Schema.Codec`) is one line of a JSONL file of recorded calls.
 *
 * ```ts
 * const call: ServiceCall.ServiceCall = {
 *   callId: "018f…",
 *   namespace: "chatlab",
 *   service: "services.chatlab.standardized_patient.generate-reply",
 *   context: { simulationId: "7" },
 *   orderingKey: "7",
 *   outputs: [{ schema: PatientReply.identity, version: 1, data: { text: "It hurts on the inside." } }]
 * }
 * ```
 */
export const ServiceCall = Schema.Struct({
  ...callFields,
  finishedAt: Schema.optionalKey(Schema.DateTimeUtcFromString),
  outputs: Schema.Array(RecordedOutput)
})
/** A finished service call. */
export interface ServiceCall extends Schema.Schema.Type<typeof ServiceCall> {}

/**
 * The status of a call. Whether its outputs are persisted is the chunks' state, not the call's. `failed`: its service gave
 * no answer. `invalid`: there is an answer, and it does not fit.
 */
export const CallStatus = Schema.Literals(["running", "succeeded", "failed", "invalid"])
/** The status of a call. */
export type CallStatus = typeof CallStatus.Type

/** The permanent key of a chunk, also in the ledger. */
export const ChunkKey = Schema.Struct({
  callId: Schema.String,
  schemaIdentity: Schema.String,
  part: Schema.String
})
/** The permanent key of a chunk, also in the ledger. */
export interface ChunkKey extends Schema.Schema.Type<typeof ChunkKey> {}

/**
 * A chunk's key as one line of text, for messages, logs and maps. Two keys never print the same. An id or a part that
 * could be misread is quoted; the command accepts it as printed.
 */
export const printKey = ({ callId, part, schemaIdentity }: ChunkKey): string =>
  `${word(callId)} ${escape(schemaIdentity)}${part === "" ? "" : `#${word(part)}`}`
