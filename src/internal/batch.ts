/**
 * One handler's share of a claim, in one transaction. Handlers are run concurrently with request batching on, so that
 * repositories written with `SqlResolver` become one statement; chunks of one ordering key run one after another.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Semaphore from "effect/Semaphore"
import { ChunkStore, StoreError, type Persisted, type Transaction } from "../ChunkStore.ts"
import type { DomainObject } from "../DomainObject.ts"
import type { Created, Handler } from "../Handler.ts"
import type { Prepared } from "./prepare.ts"

/** A handler ran longer than its timeout. */
export class HandlerTimeout extends Data.TaggedError("HandlerTimeout")<{ readonly after: Duration.Duration }> {
  override get message() {
    return `did not finish within ${Duration.format(this.after)}`
  }
}

/** Some handlers failed after something had been written: the transaction is rolled back. */
export class BatchFailed extends Data.TaggedError("BatchFailed")<{
  readonly failed: ReadonlyMap<Prepared, Cause.Cause<unknown>>
  /** Not run, because an older chunk of their ordering key failed. */
  readonly behind: ReadonlySet<Prepared>
}> {}

/** What a committed batch came to. */
export interface BatchResult {
  readonly persisted: ReadonlyArray<Persisted>
  /** Failed before anything was written, so that the others could commit without them. */
  readonly left: ReadonlyMap<Prepared, Cause.Cause<unknown>>
  /** Not run, because an older chunk of their ordering key failed. */
  readonly behind: ReadonlySet<Prepared>
}

const listOf = (created: Created): ReadonlyArray<DomainObject> =>
  created === undefined ? [] : Array.isArray(created) ? created : [created as DomainObject]

/** Chunks of one ordering key follow each other; those without one stand alone. */
const chains = (batch: ReadonlyArray<Prepared>): ReadonlyArray<ReadonlyArray<Prepared>> => {
  const byKey = new Map<string, Array<Prepared>>()
  const all: Array<Array<Prepared>> = []
  for (const one of batch) {
    const key = one.chunk.orderingKey
    const chain = key === undefined ? undefined : byKey.get(key)
    if (chain !== undefined) {
      chain.push(one)
      continue
    }
    const started = [one]
    all.push(started)
    if (key !== undefined) byKey.set(key, started)
  }
  return all
}

const toPersisted = (one: Prepared, created: Created): Persisted => ({
  chunk: one.chunk,
  handler: one.handler.name,
  handlerVersion: one.handler.options.version ?? 1,
  objects: listOf(created)
})

/**
 * Runs a batch's handlers, its ledger rows and its settlement in one transaction. Fails with {@link BatchFailed} when
 * it had to be rolled back because of handlers, and with a transient `StoreError` when the database was the reason.
 */
export const persistBatch = Effect.fnUntraced(function*(
  token: string,
  batch: ReadonlyArray<Prepared>,
  defaultTimeout: Duration.Duration
) {
  const store = yield* ChunkStore
  const handler = batch[0]!.handler
  const timeout = handler.options.timeout === undefined
    ? defaultTimeout
    : Duration.fromInputUnsafe(handler.options.timeout)
  const run = handler.run._tag === "One" ? runEach : runTogether
  let result: BatchResult = { persisted: [], left: new Map(), behind: new Set() }
  yield* store.persist(token, (transaction) =>
    Effect.map(run(handler, batch, transaction, timeout, store.isTransient), (done) => {
      result = done
      return done.persisted
    }))
  return result
})

type Run = (
  handler: Handler,
  batch: ReadonlyArray<Prepared>,
  transaction: Transaction,
  timeout: Duration.Duration,
  isTransient: (error: unknown) => boolean
) => Effect.Effect<BatchResult, BatchFailed | StoreError>

const timed = <A, E>(effect: Effect.Effect<A, E>, timeout: Duration.Duration) =>
  Effect.timeoutOrElse(effect, {
    duration: timeout,
    orElse: () => Effect.fail(new HandlerTimeout({ after: timeout }))
  })

const passing = (cause: Cause.Cause<unknown>, isTransient: (error: unknown) => boolean): StoreError | undefined => {
  for (const reason of cause.reasons) {
    const error = reason._tag === "Fail" ? reason.error : reason._tag === "Die" ? reason.defect : undefined
    if (error !== undefined && isTransient(error)) {
      return new StoreError({ operation: "persist", transient: true, reason: "the database failed a handler", cause: error })
    }
  }
  return undefined
}

const isTimeout = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) => reason._tag === "Fail" && reason.error instanceof HandlerTimeout)

const runEach: Run = Effect.fnUntraced(function*(handler, batch, transaction, timeout, isTransient) {
  const persist = handler.run._tag === "One" ? handler.run.persist : () => Effect.void
  const persisted: Array<Persisted> = []
  const left = new Map<Prepared, Cause.Cause<unknown>>()
  const failed = new Map<Prepared, Cause.Cause<unknown>>()
  const behind = new Set<Prepared>()
  const probing = yield* Semaphore.make(1)

  // A chunk may leave a shared transaction without a rollback only if nothing at all has been written in it yet. A
  // timeout proves nothing in company: the time may have gone to a batch-mate's statement on the same connection.
  const mayLeave = (cause: Cause.Cause<unknown>) =>
    probing.withPermits(1)(Effect.suspend(() =>
      failed.size > 0 || isTimeout(cause)
        ? Effect.succeed(false)
        : Effect.catchIf(transaction.untouched, (error) => !error.transient, () => Effect.succeed(false))
    ))

  const runOne = Effect.fnUntraced(function*(one: Prepared) {
    const exit = yield* Effect.exit(timed(Effect.suspend(() => persist(one.input)), timeout))
    if (Exit.isSuccess(exit)) {
      persisted.push(toPersisted(one, exit.value))
      return true
    }
    const transient = passing(exit.cause, isTransient)
    if (transient !== undefined) return yield* transient
    const alone = batch.length === 1
    if (!alone && (yield* mayLeave(exit.cause))) left.set(one, exit.cause)
    else if (alone) {
      // a connection that is gone looks like the handler's failure; asking the transaction tells them apart
      yield* Effect.catchIf(transaction.untouched, (error) => !error.transient, () => Effect.succeed(false))
      failed.set(one, exit.cause)
    } else failed.set(one, exit.cause)
    return false
  })

  const runChain = Effect.fnUntraced(function*(chain: ReadonlyArray<Prepared>) {
    for (const [index, one] of chain.entries()) {
      if (yield* runOne(one)) continue
      for (const follower of chain.slice(index + 1)) behind.add(follower)
      return
    }
  })

  yield* Effect.forEach(chains(batch), runChain, { concurrency: "unbounded", discard: true })
  if (failed.size > 0) return yield* new BatchFailed({ failed, behind })
  return { persisted, left, behind }
})

const runTogether: Run = Effect.fnUntraced(function*(handler, batch, transaction, timeout, isTransient) {
  const persistMany = handler.run._tag === "Many" ? handler.run.persistMany : () => Effect.succeed([])
  const exit = yield* Effect.exit(timed(Effect.suspend(() => persistMany(batch.map((one) => one.input))), timeout))
  const cause = Exit.isFailure(exit)
    ? exit.cause
    : exit.value.length === batch.length
    ? undefined
    : Cause.die(new Error(`persistMany gave back ${exit.value.length} results for ${batch.length} inputs`))
  if (Exit.isSuccess(exit) && cause === undefined) {
    const persisted = batch.map((one, index) => toPersisted(one, exit.value[index]))
    return { persisted, left: new Map(), behind: new Set() }
  }
  const failure = cause ?? Cause.empty
  const transient = passing(failure, isTransient)
  if (transient !== undefined) return yield* transient
  yield* Effect.catchIf(transaction.untouched, (error) => !error.transient, () => Effect.succeed(false))
  return yield* new BatchFailed({ failed: new Map(batch.map((one) => [one, failure])), behind: new Set() })
})
