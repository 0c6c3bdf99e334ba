/**
 * Chunks that are not tried again by themselves: to be looked at, and then redriven or discarded by a person.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type ChunkStoreError, DeathReason, FailureRecord } from "./ChunkStore.ts"
import { ChunkKey } from "./ServiceCall.ts"

/** A buried chunk. */
export const DeadLetter = Schema.Struct({
  key: ChunkKey,
  namespace: Schema.String,
  schemaVersion: Schema.Int,
  orderingKey: Schema.NullOr(Schema.String),
  /** `namespace/short-name` of the handler, `""` when none ran. */
  handler: Schema.String,
  reason: DeathReason,
  message: Schema.String,
  attempts: Schema.Int,
  crashes: Schema.Int,
  recordedAt: Schema.DateTimeUtcFromString,
  diedAt: Schema.DateTimeUtcFromString,
  /** When and why a person put it away for good. */
  discarded: Schema.NullOr(Schema.Struct({ at: Schema.DateTimeUtcFromString, reason: Schema.String }))
})
/** A buried chunk. */
export interface DeadLetter extends Schema.Schema.Type<typeof DeadLetter> {}

/** All there is to know of a dead letter. */
export const DeadLetterDetail = Schema.Struct({
  letter: DeadLetter,
  /** Every failure, the oldest first; those from before a redrive as well. */
  failures: Schema.Array(FailureRecord),
  /** The recorded JSON, or null once pruned. */
  data: Schema.NullOr(Schema.Json)
})
/** All there is to know of a dead letter. */
export interface DeadLetterDetail extends Schema.Schema.Type<typeof DeadLetterDetail> {}

/** How many dead letters of one sort there are. */
export const DeadLetterCount = Schema.Struct({
  namespace: Schema.String,
  schemaIdentity: Schema.String,
  reason: DeathReason,
  count: Schema.Int
})
/** How many dead letters of one sort there are. */
export interface DeadLetterCount extends Schema.Schema.Type<typeof DeadLetterCount> {}

/** Which dead letters; what is absent does not restrict. Discarded ones are left out unless asked for. */
export interface DeadLetterFilter {
  readonly callId?: string | undefined
  readonly namespace?: string | undefined
  readonly schemaIdentity?: string | undefined
  readonly part?: string | undefined
  readonly handler?: string | undefined
  readonly reason?: DeathReason | undefined
  /** Died longer ago than this. */
  readonly olderThan?: Duration.Duration | undefined
  /** Died more recently than this. */
  readonly newerThan?: Duration.Duration | undefined
  /** Stands in the error message, as written. */
  readonly text?: string | undefined
  /** The discarded ones instead of the others. */
  readonly discarded?: boolean | undefined
}

/** A page of dead letters, the latest first. */
export interface DeadLetterPage {
  readonly limit: number
  /** How many of the latest to pass over. */
  readonly offset?: number | undefined
}

/**
 * The dead letters.
 *
 * ```ts
 * const letters = yield* DeadLetters
 * const affected = yield* letters.count({ reason: "exhausted" }) // what a redrive would move
 * yield* letters.redrive({ reason: "exhausted" })
 * ```
 */
export class DeadLetters extends Context.Service<DeadLetters, {
  readonly list: (
    filter: DeadLetterFilter,
    page: DeadLetterPage
  ) => Effect.Effect<ReadonlyArray<DeadLetter>, ChunkStoreError>
  /** How many there are, by kind and reason: also the preview of what `redrive` or `discard` would move. */
  readonly count: (filter: DeadLetterFilter) => Effect.Effect<ReadonlyArray<DeadLetterCount>, ChunkStoreError>
  readonly inspect: (key: ChunkKey) => Effect.Effect<Option.Option<DeadLetterDetail>, ChunkStoreError>
  /**
   * Moves them back to the queue, at their old place in the order, due at once, with no attempts or crashes against
   * them; their history stays. What was persisted meanwhile is not persisted again. In portions, each its own commit.
   * Gives back how many were moved.
   */
  readonly redrive: (filter: DeadLetterFilter) => Effect.Effect<number, ChunkStoreError>
  /** Puts them away for good; they stay on record, and no longer hold up their ordering key. Gives back how many. */
  readonly discard: (filter: DeadLetterFilter, reason: string) => Effect.Effect<number, ChunkStoreError>
}>()("effect-sluice/DeadLetters") {}
