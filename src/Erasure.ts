/**
 * Erases what is recorded of a subject: a person, a conversation, a call. Its payloads are gone; that there were calls,
 * what became of them, and that they were erased stays on record.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ChunkStoreError } from "./ChunkStore.ts"

/**
 * Whose calls: one call, the calls of a conversation, or those whose context holds a value under a key. `value` is a text,
 * or another JSON value as its JSON text: `7` means the number, and the text `"7"` as well. `null` means the
 * text only: a JSON null matches nothing.
 */
export type Subject = Data.TaggedEnum<{
  Call: { readonly callId: string }
  Correlation: { readonly correlationId: string }
  Context: { readonly key: string; readonly value: string }
}>
/** Makes subjects: `Erasure.Subject.Call({ callId: "call-17" })`. */
export const Subject = Data.taggedEnum<Subject>()

/** Who erases, and why. Both stay on record: name no subject in them. */
export interface ErasureReason {
  /** The reason. */
  readonly because: string
  /** Who asked for it, or did it. */
  readonly by: string
}

/** How much was erased, or would be. */
export const Erased = Schema.Struct({
  /** Calls whose content is gone. */
  calls: Schema.Int,
  /** Chunks that were outstanding. They will not be persisted. */
  chunks: Schema.Int,
  deadLetters: Schema.Int,
  /** Remembered failures of chunks. */
  failures: Schema.Int,
  /** The application's rows that were made of these calls: Sluice leaves them alone, the application erases them. */
  objects: Schema.Array(Schema.Struct({ type: Schema.String, id: Schema.String }))
})
/** How much was erased, or would be. */
export interface Erased extends Schema.Schema.Type<typeof Erased> {}

/** An erasure on record. It tells what kind of subject it had, but does not name it. */
export const ErasureRecord = Schema.Struct({
  id: Schema.Int,
  begunAt: Schema.DateTimeUtcFromString,
  /** Null while it is under way, or after it was cut off. */
  finishedAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  by: Schema.String,
  because: Schema.String,
  subject: Schema.Literals(["call", "correlation", "context"]),
  /** The key of the context by which its calls were found. */
  contextKey: Schema.NullOr(Schema.String),
  calls: Schema.Int,
  chunks: Schema.Int,
  deadLetters: Schema.Int,
  failures: Schema.Int
})
/** An erasure on record. */
export interface ErasureRecord extends Schema.Schema.Type<typeof ErasureRecord> {}

/**
 * Erases recorded calls. Laws:
 *
 * - **Gone**: outputs, input, details, context, trace, correlation id, ordering key and error of the call; the texts and
 *   errors of its attempts; its outstanding chunks, dead letters and failures; the errors of events that a subscription
 *   skipped.
 * - **Kept**: the call's id, namespace, service, status, times and facts, and those of its attempts; its ledger rows with
 *   the ids of the application's rows; counts.
 * - **Fenced**: a worker that holds one of the chunks finds it gone when it wants to commit, and its writes are rolled back.
 *   What a worker committed before is in the ledger, and its rows are among `objects`.
 * - **Final**: a call that was erased is never recorded or run again. `CallRecorder.record` answers `"erased"`, whatever the
 *   content, and `run` fails with `CallErased` before its service runs.
 * - **Bounded**: some hundred calls a commit. If it is cut off in the middle, repeat it: it finds what is left.
 *
 * Calls that are recorded while it runs may be missed: stop recording the subject first, or repeat it. It does not reach
 * data outside of these tables: the application's rows, logs, traces, backups.
 *
 * ```ts
 * const erasure = yield* Erasure.Erasure
 * const subject = Erasure.Subject.Context({ key: "patientId", value: "4711" })
 * const { objects } = yield* erasure.erase(subject, { because: "the patient asked for it", by: "records office" })
 * ```
 */
export class Erasure extends Context.Service<Erasure, {
  /** Erases, in portions with one commit each. Inside a transaction of the caller's all of it is part of that one. */
  readonly erase: (subject: Subject, reason: ErasureReason) => Effect.Effect<Erased, ChunkStoreError>
  /** What `erase` would erase now. Changes nothing. */
  readonly preview: (subject: Subject) => Effect.Effect<Erased, ChunkStoreError>
  /** The erasures on record, the latest first. */
  readonly list: (page: { readonly limit: number }) => Effect.Effect<ReadonlyArray<ErasureRecord>, ChunkStoreError>
}>()("effect-sluice/Erasure") {}
