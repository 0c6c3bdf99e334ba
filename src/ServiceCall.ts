/**
 * A service call is one run of an LLM service, finished: who asked, what came back, and the outputs (its chunks) that
 * are to reach the application's tables.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { escape, word } from "./internal/escape.ts"

/** The most characters a call id may have. */
export const maxCallIdLength = 64

/** How urgent a call may be: 0 is normal; each step counts as much as having waited one minute longer. */
export const maxPriority = 1000

/**
 * One output as recorded: which schema, at which version, and the JSON the LLM gave. `part` tells outputs of one
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
 * The W3C trace context of the request that made the call; persist spans link to it. `traceId` is 32 hex digits, `spanId` 16,
 * neither of them zeros only.
 */
export const TraceContext = Schema.Struct({
  traceId: Schema.String,
  spanId: Schema.String,
  sampled: Schema.Boolean
})
/** The trace of the request that made a call. */
export interface TraceContext extends Schema.Schema.Type<typeof TraceContext> {}

/** In place of what cannot be read as a trace. */
const noTrace: TraceContext = { traceId: "", spanId: "", sampled: false }

const callFields = {
  /** 1 to 64 characters, the application's own and the same at every redelivery. It is the key of everything. */
  callId: Schema.String,
  /** Which handlers serve the outputs, before those of `core`. */
  namespace: Schema.String,
  /** The identity of the service that was run, `services.…`. */
  service: Schema.String,
  /** Ties calls of one conversation together; the call id when absent. Never a key. */
  correlationId: Schema.optionalKey(Schema.String),
  /** What handlers need to know besides the output, e.g. which simulation it belongs to. */
  context: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json)),
  /** What the service was asked. */
  input: Schema.optionalKey(Schema.Json),
  /**
   * Chunks of one namespace that share it are persisted one after another, in order of recording. The same key in another
   * namespace is another key. Of calls that are recorded by transactions that overlap, the one whose commit comes first may
   * go first.
   */
  orderingKey: Schema.optionalKey(Schema.String),
  /** 0 (the default) to 1000; ignored for calls with an ordering key. */
  priority: Schema.optionalKey(Schema.Int),
  /** Not to be persisted before this time (by the database's clock). */
  notBefore: Schema.optionalKey(Schema.DateTimeUtcFromString),
  startedAt: Schema.optionalKey(Schema.DateTimeUtcFromString),
  /** Provider, model, usage and the like, kept as given. */
  details: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json)),
  /** One that is none is left out where the call is recorded, and the log says so: no answer is lost for it. */
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
 *   callId: "018f…", namespace: "chatlab", service: "services.chatlab.standardized_patient.generate-reply",
 *   context: { simulationId: "7" }, orderingKey: "7",
 *   outputs: [{ schema: PatientReply.identity, version: 1, data: { messages: [...], image_requested: false } }]
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

/** Where a call stands. Persistence is the chunks' state, not the call's. */
export const CallStatus = Schema.Literals(["running", "succeeded", "failed"])
/** Where a call stands. */
export type CallStatus = typeof CallStatus.Type

/** What names one chunk for ever: the ledger's key. */
export const ChunkKey = Schema.Struct({
  callId: Schema.String,
  schemaIdentity: Schema.String,
  part: Schema.String
})
/** What names one chunk for ever: the ledger's key. */
export interface ChunkKey extends Schema.Schema.Type<typeof ChunkKey> {}

/**
 * A chunk's key as one line of text, for messages, logs and maps. No two keys print the same. An id or a part that could be
 * taken for something else stands in quotation marks; the command takes it as it is printed.
 */
export const printKey = ({ callId, part, schemaIdentity }: ChunkKey): string =>
  `${word(callId)} ${escape(schemaIdentity)}${part === "" ? "" : `#${word(part)}`}`
