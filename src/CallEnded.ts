/** The end of a call: every chunk of it is persisted or dead. `Subscription.layerCalls` receives it. */
import * as Schema from "effect/Schema"

/**
 * The event that a call has ended: none of its chunks is outstanding any more. Chunks that wait, are parked or are retried
 * are outstanding. Each call has one such event, at its first end: a later redrive of its dead letters makes no second one.
 */
export const CallEnded = Schema.Struct({
  callId: Schema.String,
  namespace: Schema.String,
  service: Schema.String,
  /** The call id if the call has none of its own. */
  correlationId: Schema.String,
  context: Schema.Record(Schema.String, Schema.Json),
  /** How many chunks of the call are in the ledger, including those that were persisted under its id outside the drain. */
  persisted: Schema.Int,
  /**
   * How many of its chunks are dead letters, discarded or not. A call that was recorded without outputs has 0 of both, and
   * so may one that was erased: an erased chunk is neither.
   */
  dead: Schema.Int,
  /** When the end was written, by the store's clock. */
  endedAt: Schema.DateTimeUtcFromString
})
/** The event that a call has ended. */
export interface CallEnded extends Schema.Schema.Type<typeof CallEnded> {}
