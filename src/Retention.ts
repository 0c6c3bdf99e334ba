/** Deletes old data. The ledger is kept: whether a chunk was persisted can be answered permanently. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { ChunkStoreError } from "./ChunkStore.ts"

/** The maximum ages; data without one is kept. */
export interface RetentionPolicy {
  /**
   * Payloads (input, outputs, details) of calls recorded longer ago than this, once all their chunks are persisted or
   * discarded. The call itself stays with its facts: recording it again still changes nothing. The texts of attempts go at
   * the same age, also those of invalid calls, which `sluice invalid decode` then cannot read any more; their facts stay. So
   * do ends of calls that every subscription to them has read.
   */
  readonly payloads?: Duration.Input | undefined
  /** Dead letters discarded longer ago than this. Others are never deleted automatically: redrive or discard them first. */
  readonly discarded?: Duration.Input | undefined
  /** Recorded failures older than this, of chunks that are neither outstanding nor dead. */
  readonly failures?: Duration.Input | undefined
}

/** How many rows were pruned, or would be. */
export const Pruned = Schema.Struct({
  payloads: Schema.Int,
  discarded: Schema.Int,
  failures: Schema.Int,
  /** Texts of attempts. */
  answers: Schema.Int,
  /** Ends of calls, which subscriptions receive. */
  ends: Schema.Int,
  /** Which of these are estimates; absent if none is. Only a preview estimates. */
  about: Schema.optionalKey(Schema.Array(Schema.Literals(["payloads", "discarded", "failures", "answers", "ends"])))
})
/** How many rows were pruned, or would be. */
export interface Pruned extends Schema.Schema.Type<typeof Pruned> {}

/**
 * Deletes old data, in small commits that hold no long locks. Safe to run at any time and by several processes
 * concurrently; {@link layer} runs it periodically.
 */
export class Retention extends Context.Service<Retention, {
  /** Deletes what is older than the policy says, in portions, and rolls usage up. Returns what it deleted. */
  readonly prune: (policy: RetentionPolicy) => Effect.Effect<Pruned, ChunkStoreError>
  /**
   * How many rows `prune` would delete now. If there are more than 5,000 rows of that age, a store may estimate from the
   * first of them and its statistics, and says so in `about`. With `exact` it counts them all, which reads whole tables.
   */
  readonly preview: (
    policy: RetentionPolicy,
    options?: { readonly exact?: boolean | undefined }
  ) => Effect.Effect<Pruned, ChunkStoreError>
  /**
   * Folds what calls used into sums by day, each entry once, up to 100,000 at a time, and counts the ledger's new lines, up
   * to 500,000; every worker's beat does the same. Returns how many entries it folded. What `Inspector` says of usage,
   * status and rows is the same before and after, only sooner.
   */
  readonly rollUp: Effect.Effect<number, ChunkStoreError>
}>()("effect-sluice/Retention") {}

/** How {@link layer} prunes. */
export interface Options extends RetentionPolicy {
  /** The time between two prunes; the first is at the start. Default 1 hour. */
  readonly interval?: Duration.Input | undefined
}

/**
 * Prunes for as long as the layer lives. A failed prune is logged as a warning, and the next one follows after the
 * interval.
 *
 * ```ts
 * Retention.layer({ payloads: "90 days", failures: "30 days" }).pipe(Layer.provide(PgStore.layer))
 * ```
 */
export const layer = (options: Options): Layer.Layer<never, never, Retention> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const retention = yield* Retention
    const prune = retention.prune(options).pipe(
      Effect.catch((error) => Effect.logWarning(`nothing was pruned; trying again later: ${error.message}`))
    )
    yield* Effect.forkScoped(Effect.repeat(prune, Schedule.spaced(options.interval ?? "1 hour")))
  }))

/** @internal An age as a `Duration`. */
export const ageOf = (age: Duration.Input | undefined): Duration.Duration | undefined =>
  age === undefined ? undefined : Duration.fromInputUnsafe(age)
