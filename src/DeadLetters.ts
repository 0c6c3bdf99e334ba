/** Dead letters: chunks that are not retried automatically. A person looks at them, then redrives or discards them. */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type Added, type ChunkStoreError, DeathReason, FailureRecord } from "./ChunkStore.ts"
import { ChunkKey, type RecordedOutput, type ServiceCall } from "./ServiceCall.ts"

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
  /** When and why a person discarded it permanently. */
  discarded: Schema.NullOr(Schema.Struct({ at: Schema.DateTimeUtcFromString, reason: Schema.String }))
})
/** A buried chunk. */
export interface DeadLetter extends Schema.Schema.Type<typeof DeadLetter> {}

/** A dead letter with its failures and its recorded JSON. */
export const DeadLetterDetail = Schema.Struct({
  letter: DeadLetter,
  /** Every failure, the oldest first, including those before a redrive. */
  failures: Schema.Array(FailureRecord),
  /** The recorded JSON, or null once pruned. */
  data: Schema.NullOr(Schema.Json)
})
/** A dead letter with its failures and its recorded JSON. */
export interface DeadLetterDetail extends Schema.Schema.Type<typeof DeadLetterDetail> {}

/** How many dead letters there are of one kind and reason. */
export const DeadLetterCount = Schema.Struct({
  namespace: Schema.String,
  schemaIdentity: Schema.String,
  reason: DeathReason,
  count: Schema.Int
})
/** How many dead letters there are of one kind and reason. */
export interface DeadLetterCount extends Schema.Schema.Type<typeof DeadLetterCount> {}

/** Selects dead letters; an absent field does not restrict. Discarded ones are excluded unless `discarded` is true. */
export interface DeadLetterFilter {
  /** Only those of this call. */
  readonly callId?: string | undefined
  /** Only those of this namespace. */
  readonly namespace?: string | undefined
  /** Only those of this schema. */
  readonly schemaIdentity?: string | undefined
  /** Only those of this part; `""` for outputs without one. */
  readonly part?: string | undefined
  /** Only those of this handler, `namespace/short-name`; `""` for those that no handler ran for. */
  readonly handler?: string | undefined
  /** Only those that were buried for this reason. */
  readonly reason?: DeathReason | undefined
  /** Died longer ago than this. */
  readonly olderThan?: Duration.Input | undefined
  /** Died more recently than this. */
  readonly newerThan?: Duration.Input | undefined
  /** Text that the error message contains, matched literally. */
  readonly text?: string | undefined
  /** Selects only discarded dead letters. */
  readonly discarded?: boolean | undefined
}

/** A page of dead letters, the latest first. */
export interface DeadLetterPage {
  /** The most dead letters. */
  readonly limit: number
  /** How many of the latest to skip. */
  readonly offset?: number | undefined
}

/** A rejected answer that is asked for again, held under a token. */
export interface Repair {
  /** The token of the repair's lease, which `ChunkStore.renewRun` extends and `endRepair` needs. */
  readonly token: string
  /** The call as it is recorded. */
  readonly call: ServiceCall
  /** The answer that was rejected. */
  readonly output: RecordedOutput
  /** Why the handler rejected it: its message. */
  readonly reason: string
}

/** How a repair ended. Its attempts and usage are added in the same commit. */
export interface RepairEnd extends Added {
  /** The answer that replaces the rejected one. Undefined: there is none. */
  readonly output?: Pick<RecordedOutput, "version" | "data"> | undefined
  /** Why an answer that was received does not fit. It becomes a further failure of the letter. */
  readonly refused?: string | undefined
}

/**
 * Lists, redrives and discards dead letters.
 *
 * ```ts
 * const letters = yield* DeadLetters.DeadLetters
 * const affected = yield* letters.count({ reason: "exhausted" }) // what a redrive would move
 * yield* letters.redrive({ reason: "exhausted" })
 * ```
 */
export class DeadLetters extends Context.Service<DeadLetters, {
  /** The dead letters that match, the latest first. */
  readonly list: (
    filter: DeadLetterFilter,
    page: DeadLetterPage
  ) => Effect.Effect<ReadonlyArray<DeadLetter>, ChunkStoreError>
  /** Counts by kind and reason: also the preview of what `redrive` or `discard` would change. */
  readonly count: (filter: DeadLetterFilter) => Effect.Effect<ReadonlyArray<DeadLetterCount>, ChunkStoreError>
  /** One dead letter with all its failures and its recorded answer. None when there is no such letter. */
  readonly inspect: (key: ChunkKey) => Effect.Effect<Option.Option<DeadLetterDetail>, ChunkStoreError>
  /**
   * Moves them back to the queue, at their old place in the order, due immediately, with attempts and crashes reset to
   * 0; their history stays. A chunk that was persisted meanwhile is not persisted again. Works in portions, each its
   * own commit. Returns how many were moved.
   */
  readonly redrive: (filter: DeadLetterFilter) => Effect.Effect<number, ChunkStoreError>
  /** Discards them permanently; they stay on record and no longer block their ordering key. Returns how many. */
  readonly discard: (filter: DeadLetterFilter, reason: string) => Effect.Effect<number, ChunkStoreError>
  /**
   * Holds a rejected letter for the length of the lease, to ask for its answer again: no other process repairs an answer of
   * this call meanwhile. None if it is not a rejected letter (any more), if `most` repairs of it had an answer, if another
   * repair holds the call, or if the call was erased or pruned. It makes its own commit: in a caller's transaction it fails.
   */
  readonly beginRepair: (
    key: ChunkKey,
    options: { readonly most: number; readonly lease: Duration.Duration }
  ) => Effect.Effect<Option.Option<Repair>, ChunkStoreError>
  /**
   * Ends a repair. With an output, one commit replaces the call's recorded answer, redrives the letter, and adds attempts
   * and usage. Returns whether the letter was redriven. If the letter is gone meanwhile, only attempts and usage are added.
   * If the token no longer holds the call, or the call was erased, nothing is changed. Each answer, whether it fits or not,
   * is noted among the letter's failures, with the kind `rejected`: so repairs are counted.
   */
  readonly endRepair: (key: ChunkKey, token: string, end: RepairEnd) => Effect.Effect<boolean, ChunkStoreError>
}>()("effect-sluice/DeadLetters") {}
