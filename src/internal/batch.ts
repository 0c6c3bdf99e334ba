/**
 * One handler's share of a claim, in one transaction. Handlers are run concurrently with request batching on, so that
 * repositories written with `SqlResolver` become one statement; chunks of one ordering key run one after another.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { ChunkStore, type Persisted, StoreError, type Transaction } from "../ChunkStore.ts"
import type { DomainObject } from "../DomainObject.ts"
import type { Handler } from "../Handler.ts"
import { objectsOf, running, wrong } from "./given.ts"
import { timeRun } from "./measure.ts"
import type { Prepared } from "./prepare.ts"
import { attributesOf, linksOf } from "./spans.ts"

/** A handler ran longer than its timeout. */
export class HandlerTimeout extends Data.TaggedError("HandlerTimeout")<{ readonly after: Duration.Duration }> {
  override get message() {
    return `did not finish within ${Duration.format(this.after)}`
  }
}

/**
 * The database failed the transaction in the middle of a handler, with an error that passes: nobody is charged, and it is
 * tried again. When that does not help it may be the handler's doing after all.
 */
export class BatchSuffered extends Data.TaggedError("BatchSuffered")<{
  readonly error: StoreError
  /** Whether the connection has survived it: a conflict, no outage. */
  readonly survived: boolean
}> {}

/** Some handlers failed after something had been written: the transaction is rolled back. */
export class BatchFailed extends Data.TaggedError("BatchFailed")<{
  readonly failed: ReadonlyMap<Prepared, Cause.Cause<unknown>>
  /** Of those, the ones that failed by themselves, while the transaction was sound. The others may be victims. */
  readonly certain: ReadonlySet<Prepared>
  /** Failed before anything was written by anybody: for these nothing was different from being alone. */
  readonly left: ReadonlyMap<Prepared, Cause.Cause<unknown>>
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

const toPersisted = (one: Prepared, objects: ReadonlyArray<DomainObject>): Persisted => ({
  chunk: one.chunk,
  handler: one.handler.name,
  handlerVersion: one.handler.options.version ?? 1,
  objects
})

/** How long one run of a handler may take. */
export const timeoutOf = ({ options: { timeout } }: Handler, byDefault: Duration.Duration): Duration.Duration =>
  timeout === undefined ? byDefault : Duration.fromInputUnsafe(timeout)

/**
 * Runs a batch's handlers, its ledger rows and its settlement in one transaction. Fails with {@link BatchFailed} when
 * it had to be rolled back because of handlers, and with a transient `StoreError` when the database was the reason.
 */
export const persistBatch = Effect.fnUntraced(function*(
  token: string,
  batch: ReadonlyArray<Prepared>,
  defaultTimeout: Duration.Duration,
  /** Told of every chunk that is done. */
  progress: () => void
) {
  const store = yield* ChunkStore
  const handler = batch[0]!.handler
  const timeout = timeoutOf(handler, defaultTimeout)
  const run = handler.run._tag === "One" ? runEach : runTogether
  let result: BatchResult = { persisted: [], left: new Map(), behind: new Set() }
  yield* store.persist(
    token,
    (transaction) =>
      run(handler, batch, transaction, timeout, store.isTransient, progress).pipe(
        timeRun(handler.name, ({ left }) => left.size === 0),
        Effect.map((done) => {
          result = done
          return done.persisted
        }),
        // the transaction of the running batch wins over the client the handlers' layer was built with
        Effect.updateContext((current: Context.Context<never>) => Context.merge(handler.services, current))
      ),
    timeout
  )
  return result
})

type Run = (
  handler: Handler,
  batch: ReadonlyArray<Prepared>,
  transaction: Transaction,
  timeout: Duration.Duration,
  isTransient: (error: unknown) => boolean,
  /** Told of every chunk that is done. */
  progress: () => void
) => Effect.Effect<BatchResult, BatchFailed | BatchSuffered | StoreError>

/** Some errors throw when one looks at them: a getter, a revoked proxy. They are told of by another. */
const readable = (cause: Cause.Cause<unknown>): Cause.Cause<unknown> => {
  try {
    Cause.pretty(cause)
    return cause
  } catch {
    return Cause.die(new Error("the handler failed with an error that cannot be read"))
  }
}

const passing = (cause: Cause.Cause<unknown>, isTransient: (error: unknown) => boolean): StoreError | undefined => {
  for (const reason of cause.reasons) {
    const error = reason._tag === "Fail" ? reason.error : reason._tag === "Die" ? reason.defect : undefined
    if (error !== undefined && isTransient(error)) {
      return new StoreError({
        operation: "persist",
        transient: true,
        reason: "the database failed a handler",
        cause: error
      })
    }
  }
  return undefined
}

/** What a handler's failure left of the transaction. */
type State = "untouched" | "touched" | "aborted"

/** How the transaction stands. Fails when the connection is gone: then nobody is to blame. */
const stateOf = (transaction: Transaction): Effect.Effect<State, StoreError> =>
  transaction.untouched.pipe(
    Effect.map((untouched): State => untouched ? "untouched" : "touched"),
    Effect.catchIf((error) => !error.transient, () => Effect.succeed<State>("aborted"))
  )

/**
 * The same for handlers that fail at once: those that fail while it is being asked share the answer. Whatever they did in
 * the transaction was over when they failed, so it was done before the question, which a connection answers in turn.
 */
const sharedState = (transaction: Transaction): Effect.Effect<State, StoreError> => {
  let asking: Deferred.Deferred<State, StoreError> | undefined
  return Effect.suspend(() => {
    if (asking !== undefined) return Deferred.await(asking)
    const asked = asking = Deferred.makeUnsafe<State, StoreError>()
    return Effect.onExit(stateOf(transaction), (exit) => {
      asking = undefined
      return Deferred.done(asked, exit)
    })
  })
}

/**
 * How the transaction stands after a handler failed. Fails when the database failed it with an error that passes. That
 * must have left its mark on the transaction: an error of another database that the handler talks to, or of its own making,
 * says nothing about this one.
 */
const stateAfter = (
  cause: Cause.Cause<unknown>,
  state: Effect.Effect<State, StoreError>,
  isTransient: (error: unknown) => boolean
): Effect.Effect<State, BatchSuffered> =>
  Effect.matchEffect(state, {
    onSuccess: (found) => {
      const error = found === "aborted" ? passing(cause, isTransient) : undefined
      return error === undefined ? Effect.succeed(found) : Effect.fail(new BatchSuffered({ error, survived: true }))
    },
    onFailure: (error) => Effect.fail(new BatchSuffered({ error, survived: false }))
  })

/** A span that leads back to the request that made the call, for calls that were recorded within one. */
const traced = <A, E, R>(one: Prepared, run: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  one.chunk.call.trace === undefined
    ? run
    : Effect.withSpan(run, "Handler.persist", { attributes: attributesOf(one), links: linksOf(one) })

const runEach: Run = Effect.fnUntraced(function*(handler, batch, transaction, timeout, isTransient, progress) {
  const persist = handler.run._tag === "One" ? handler.run.persist : () => Effect.void
  const persisted: Array<Persisted> = []
  const left = new Map<Prepared, Cause.Cause<unknown>>()
  const failed = new Map<Prepared, Cause.Cause<unknown>>()
  const certain = new Set<Prepared>()
  const behind = new Set<Prepared>()
  // since when each runs, those that began first at the front
  const since = new Map<Prepared, number>()
  const clock = yield* Clock.Clock
  const state = sharedState(transaction)

  // A chunk may leave a shared transaction without a rollback only if nothing at all has been written in it yet.
  const sortOut = (one: Prepared, raw: Cause.Cause<unknown>) => {
    const cause = readable(raw)
    return Effect.map(stateAfter(cause, state, isTransient), (found) => {
      if (found === "untouched" && batch.length > 1) left.set(one, cause)
      else failed.set(one, cause)
      // in an aborted transaction everybody fails
      if (found !== "aborted") certain.add(one)
      return false
    })
  }

  const runOne = (one: Prepared) => {
    since.set(one, clock.currentTimeMillisUnsafe())
    return Effect.matchCauseEffect(traced(one, running(() => persist(one.input()))), {
      onSuccess: (value) => {
        since.delete(one)
        const objects = objectsOf(value)
        if (objects instanceof Error) return sortOut(one, Cause.die(objects))
        persisted.push(toPersisted(one, objects))
        progress()
        return Effect.succeed(true)
      },
      // a handler that interrupts itself has failed; an interruption from outside ends this fiber at its next step
      onFailure: (cause) => {
        since.delete(one)
        return sortOut(one, cause)
      }
    })
  }

  const runChain = (chain: ReadonlyArray<Prepared>) =>
    chain.length === 1 ? runOne(chain[0]!) : Effect.gen(function*() {
      for (const [index, one] of chain.entries()) {
        if (yield* runOne(one)) continue
        for (const follower of chain.slice(index + 1)) behind.add(follower)
        return
      }
    })

  // One clock for all, not one for each: a timer and a fiber for every chunk cost as much as the handlers. Ends with those
  // whose time is over. They are suspects, no more: in company it may have gone to a batch-mate's statement on the same
  // connection.
  const limit = Duration.toMillis(timeout)
  const overdue = Effect.gen(function*() {
    while (true) {
      const now = clock.currentTimeMillisUnsafe()
      const late = [...since].filter(([, at]) => at + limit <= now).map(([one]) => one)
      if (late.length > 0) return late
      const [first] = since.values()
      yield* Effect.sleep((first ?? now) + limit - now)
    }
  })
  const all = chains(batch)
  const none: ReadonlyArray<Prepared> = []
  const late = yield* Effect.raceFirst(
    Effect.as(Effect.forEach(all, runChain, { concurrency: "unbounded", discard: true }), none),
    overdue
  )
  if (late.length > 0) {
    yield* Effect.mapError(state, (error) => new BatchSuffered({ error, survived: false }))
    for (const chain of all) {
      const at = chain.findIndex((one) => late.includes(one))
      if (at < 0) continue
      failed.set(chain[at]!, Cause.fail(new HandlerTimeout({ after: timeout })))
      for (const follower of chain.slice(at + 1)) behind.add(follower)
    }
  }
  if (failed.size > 0) return yield* new BatchFailed({ failed, certain, left, behind })
  return { persisted, left, behind }
})

const runTogether: Run = Effect.fnUntraced(function*(handler, batch, transaction, timeout, isTransient) {
  const persistMany = handler.run._tag === "Many" ? handler.run.persistMany : () => Effect.succeed([])
  const run = Effect.flatMap(running(() => persistMany(batch.map((one) => one.input()))), (results) => {
    if (!Array.isArray(results)) {
      return Effect.die(wrong("gave back no list of results: persistMany gives back one for each input"))
    }
    if (results.length !== batch.length) {
      return Effect.die(
        wrong(`gave back ${results.length} results for ${batch.length} inputs: persistMany gives back one for each`)
      )
    }
    const objects: Array<ReadonlyArray<DomainObject>> = []
    for (const result of results) {
      const created = objectsOf(result)
      if (created instanceof Error) return Effect.die(created)
      objects.push(created)
    }
    return Effect.succeed(objects)
  })
  const exit = yield* Effect.exit(Effect.timeoutOrElse(run, {
    duration: timeout,
    orElse: () => Effect.fail(new HandlerTimeout({ after: timeout }))
  }))
  if (Exit.isSuccess(exit)) {
    const persisted = batch.map((one, index) => toPersisted(one, exit.value[index] ?? []))
    return { persisted, left: new Map(), behind: new Set() }
  }
  const failure = readable(exit.cause)
  yield* stateAfter(failure, stateOf(transaction), isTransient)
  const failed = new Map(batch.map((one) => [one, failure]))
  return yield* new BatchFailed({ failed, certain: new Set(), left: new Map(), behind: new Set() })
})
