/**
 * The errors of `Drain.persistNow`. None of them loses the chunk: the drain continues with it, or a dead letter waits
 * for a person.
 */
import * as Schema from "effect/Schema"
import { ChunkState, ParkReason } from "./CallView.ts"
import type { ChunkStoreError } from "./ChunkStore.ts"
import type { HandlerNotFound } from "./HandlerRegistry.ts"
import { word } from "./internal/escape.ts"
import { quote } from "./internal/quote.ts"
import type { UnknownVersion } from "./Output.ts"

const chunkFields = {
  callId: Schema.String,
  schemaIdentity: Schema.String,
  part: Schema.String
}

/** `persistNow` was given a call that is not recorded. */
export class CallNotFound extends Schema.TaggedError<CallNotFound>()("CallNotFound", { callId: Schema.String }) {
  override get message() {
    return `no call ${quote(this.callId)} is recorded, or it has not succeeded yet`
  }
}

/** A handler failed; the chunk was charged an attempt and the drain will retry it. */
export class HandlerFailed extends Schema.TaggedError<HandlerFailed>()("HandlerFailed", {
  ...chunkFields,
  handler: Schema.String,
  attempt: Schema.Int,
  reason: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message() {
    return `${this.handler} failed attempt ${this.attempt} at ${this.schemaIdentity} of call ${word(this.callId)}, ` +
      `which will be tried again: ${this.reason}`
  }
}

/** A chunk has used all its attempts and is a dead letter. Fix the cause, then redrive it. */
export class RetriesExhausted extends Schema.TaggedError<RetriesExhausted>()("RetriesExhausted", {
  ...chunkFields,
  attempts: Schema.Int,
  reason: Schema.String
}) {
  override get message() {
    return `${this.schemaIdentity} of call ${word(this.callId)} failed ${this.attempts} times and is a dead letter: ` +
      `${this.reason}. Fix the cause, then redrive it`
  }
}

/** What to do with a dead letter, by its reason. */
const adviceOf = (reason: string): string =>
  reason === "undecodable"
    ? "The recorded answer stays as it is: widen its schema, or add an upcast for its version, deploy that, and redrive " +
      "it; or discard it with a reason"
    : "Fix the cause, then redrive it"

/** A chunk is a dead letter, but not because of exhausted retries: `reason` is the cause, `detail` the message. */
export class ChunkDead extends Schema.TaggedError<ChunkDead>()("ChunkDead", {
  ...chunkFields,
  reason: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.schemaIdentity} of call ${word(this.callId)} is a dead letter (${this.reason}): ${this.detail}. ` +
      adviceOf(this.reason)
  }
}

/**
 * A chunk cannot be persisted now: held by another worker, behind an older one of its key, not due, or parked. If it is
 * parked, `parkedFor` is what the store knows of the cause, and `reason` says it in words, and what to do.
 */
export class ChunkBusy extends Schema.TaggedError<ChunkBusy>()("ChunkBusy", {
  ...chunkFields,
  state: ChunkState,
  parkedFor: Schema.optionalKey(ParkReason),
  reason: Schema.optionalKey(Schema.String)
}) {
  override get message() {
    return `${this.schemaIdentity} of call ${word(this.callId)} is ${this.state}: ` +
      (this.reason ?? "the drain will persist it when it can")
  }
}

/** Why `persistNow` did not persist. The chunk is never lost: the drain continues with it. */
export type PersistNowError =
  | CallNotFound
  | HandlerNotFound
  | UnknownVersion
  | HandlerFailed
  | RetriesExhausted
  | ChunkDead
  | ChunkBusy
  | ChunkStoreError
