/**
 * What is forgotten with age. The ledger is not: whether a chunk was persisted can be answered for ever.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { StoreError } from "./ChunkStore.ts"

/** How old things may get; what is absent is kept. */
export interface RetentionPolicy {
  /**
   * Payloads (input, outputs, details) of calls recorded longer ago, once all their chunks are persisted or
   * discarded. The call itself stays: recording it again is still a no-op.
   */
  readonly payloads?: Duration.Duration | undefined
  /** Dead letters discarded longer ago. Others are never forgotten by themselves: redrive or discard them first. */
  readonly discarded?: Duration.Duration | undefined
  /** Remembered failures longer ago, of chunks that are neither outstanding nor dead. */
  readonly failures?: Duration.Duration | undefined
}

/** How much was forgotten. */
export const Pruned = Schema.Struct({
  payloads: Schema.Int,
  discarded: Schema.Int,
  failures: Schema.Int
})
/** How much was forgotten. */
export interface Pruned extends Schema.Schema.Type<typeof Pruned> {}

/**
 * Forgets what is old, in small commits that hold no long locks. Safe to run at any time, on a schedule:
 *
 * ```ts
 * yield* retention.prune({ payloads: Duration.days(90) }).pipe(Effect.repeat(Schedule.cron("0 3 * * *")))
 * ```
 */
export class Retention extends Context.Service<Retention, {
  readonly prune: (policy: RetentionPolicy) => Effect.Effect<Pruned, StoreError>
  /** How much `prune` would forget now. */
  readonly preview: (policy: RetentionPolicy) => Effect.Effect<Pruned, StoreError>
}>()("effect-sluice/Retention") {}
