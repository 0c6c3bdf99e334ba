/**
 * Tries one batch, and retries it after transient errors of the database, which say nothing about its chunks. Whatever
 * else fails the batch is returned as a `BatchError`. Waits are between transactions, never inside one.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import { ChunkStore, type ChunkStoreError } from "../ChunkStore.ts"
import type { DomainEvents } from "../DomainEvents.ts"
import { outage } from "../internal/outage.ts"
import * as Metrics from "../Metrics.ts"
import { timeoutOf } from "./batch.ts"
import type { Committed, SettingOf } from "./batch.ts"
import type { Engine } from "./engine.ts"
import type { BatchError } from "./failure.ts"
import type { Held } from "./held.ts"
import { inBatchSpan } from "./observe/spans.ts"
import type { Prepared } from "./prepare.ts"
import type { Batch } from "./split.ts"
import { persistBatch } from "./transaction.ts"

/** Makes the pauses between the tries of one batch. Few batches need one. */
const makePause = Schedule.toStepWithSleep(Schedule.jittered(outage))

/** The most retries of a batch after transient errors; outages are counted apart, up to the same number. */
const mostRetries = 6
/** The same for a part of a batch, a chunk that failed before, or one with a transaction of its own: others wait for it. */
const fewerRetries = 2

/**
 * Tries a batch, and retries it after a transient error. Fails when the database is unreachable or begins no transaction.
 * When the database fails this batch but answers the probe, the batch itself is the cause, and the result is that error.
 */
export const attempt = Effect.fnUntraced(function*(
  { engine, held }: { readonly engine: Engine; readonly held: Held },
  batch: Batch
): Effect.fn.Return<Result.Result<Committed, BatchError>, ChunkStoreError, ChunkStore | DomainEvents> {
  const store = yield* ChunkStore
  const { isolations, pulse, settings } = engine
  const { members } = batch
  const { handler } = members[0]!
  const settingOf: SettingOf = (handler) => ({
    held,
    pulse,
    rule: isolations.ruleOf(handler, members.length),
    timeout: timeoutOf(handler, settings.handlerTimeout)
  })
  const isRetriedLess = batch.isPart || isolations.of(handler) === "transaction" ||
    members.some(({ chunk }) => chunk.attempts > 0)
  let pause: Effect.Success<typeof makePause> | undefined
  const most = isRetriedLess ? fewerRetries : mostRetries
  let retries = 0
  // counted apart: the end of an outage must not be a chunk's last try
  let outages = 0
  while (true) {
    pulse.progress()
    let hasBegun = false
    const onBegun = () => {
      hasBegun = true
    }
    const result = yield* Effect.result(timed(members, persistBatch(members, settingOf, onBegun)))
    if (Result.isSuccess(result)) return result
    const error = result.failure
    if (mayBeOutage(error)) {
      const probed = yield* Effect.result(store.probe)
      if (Result.isFailure(probed)) {
        if (!isTransient(error) || !probed.failure.transient || ++outages > mostRetries) {
          return yield* probed.failure
        }
      } else if (error._tag === "ChunkStoreError" && !hasBegun) {
        // a refused connection, for example: no chunk can be the cause
        if (!error.transient || ++outages > mostRetries) return yield* error
      } else {
        yield* Effect.sleep(Math.min(2000, 50 * 2 ** batch.blamed))
        return result
      }
    } else if (!isTransient(error)) {
      return result
    } else if (++retries > most) {
      return result
    }
    pause ??= yield* makePause
    yield* Effect.ignore(pause(undefined))
  }
})

/** Whether the same batch may succeed if it is tried again. */
const isTransient = (error: BatchError): boolean =>
  error._tag === "BatchSuffered" || (error._tag === "ChunksLocked" && error.locked.length === 0) ||
  ((error._tag === "TransactionSpoiled" || error._tag === "ChunkStoreError") && error.transient === true)

/** Whether the database may be unreachable. Otherwise the batch has damaged its own connection. */
const mayBeOutage = (error: BatchError): boolean =>
  error._tag === "ChunkStoreError" || (error._tag === "BatchSuffered" && !error.survived)

/** Runs a batch in its span, and records its duration by handler. */
const timed = <A, E, R>(members: ReadonlyArray<Prepared>, effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Clock.Clock, (clock) => {
    const began = clock.monotonicTimeNanosUnsafe()
    const handler = members[0]?.handler.name ?? ""
    return effect.pipe(
      inBatchSpan(members),
      Effect.ensuring(Effect.suspend(() =>
        Metric.update(
          Metrics.of(Metrics.batchSeconds, { handler }),
          Number(clock.monotonicTimeNanosUnsafe() - began) / 1e9
        )
      ))
    )
  })
