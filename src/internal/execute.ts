/**
 * What a drain does with one claim: every chunk of it ends persisted, retried, parked, buried or given back. A failing
 * batch is split until the culprits stand alone; only they are charged.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import {
  ChunkStore,
  type Claim,
  type ClaimedChunk,
  type Failure,
  type Kind,
  type Persisted,
  type Settlement,
  type StoreError
} from "../ChunkStore.ts"
import { DomainEvents } from "../DomainEvents.ts"
import type { DomainObjectCreated } from "../DomainObject.ts"
import { ContextMissing, Rejected } from "../Handler.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import * as Metrics from "../Metrics.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import { printKey } from "../ServiceCall.ts"
import type { Settings } from "../Settings.ts"
import { type BatchFailed, HandlerTimeout, persistBatch } from "./batch.ts"
import { describeCause } from "./describe.ts"
import { prepare, type Prepared, rounds } from "./prepare.ts"
import { inBatchSpan } from "./spans.ts"

/** What became of one claimed chunk. */
export type Outcome =
  | { readonly _tag: "Persisted"; readonly persisted: Persisted }
  | { readonly _tag: "Settled"; readonly settlement: Settlement; readonly cause: Cause.Cause<unknown> | undefined }
  /** Another worker has it: the lease ran out under this one. */
  | { readonly _tag: "Lost"; readonly chunk: ClaimedChunk }

/** What the execution of a claim needs to know. */
export interface Executor {
  readonly registry: HandlerRegistry["Service"]
  readonly settings: Settings
  readonly paused: ReadonlyArray<Kind>
  /** Told whenever something was done, so that a claim whose handlers hang for good is not kept alive for ever. */
  readonly progress: () => void
}

// Around the transaction, never inside it.
const transientRetry = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(
  Schedule.jittered,
  Schedule.upTo({ times: 6 })
)

/** How often a conflict is met again by chunks that have met it often, or that failed before: others wait for them. */
const moreConflicts = 2

const isPassing = (error: Effect.Error<ReturnType<typeof persistBatch>>): boolean =>
  error._tag === "BatchSuffered" ||
  ((error._tag === "StoreError" || error._tag === "TransactionSpoiled") && error.transient === true)

const isConflict = (error: Effect.Error<ReturnType<typeof persistBatch>>): boolean =>
  error._tag === "TransactionSpoiled" || (error._tag === "BatchSuffered" && error.survived)

const kindOf = (cause: Cause.Cause<unknown>): Failure["kind"] =>
  Cause.hasDies(cause)
    ? "defect"
    : cause.reasons.some((reason) => reason._tag === "Fail" && reason.error instanceof HandlerTimeout)
    ? "timeout"
    : "failed"

const isPermanent = (one: Prepared, cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) =>
    reason._tag === "Fail" &&
    (reason.error instanceof Rejected || reason.error instanceof ContextMissing || saysPermanent(one, reason.error))
  )

/** The application's own answer; one that throws is none, and must not stop the drain. */
const saysPermanent = ({ handler }: Prepared, error: unknown): boolean => {
  try {
    return handler.options.permanent?.(error) === true
  } catch {
    return false
  }
}

/** How a chunk ends whose handler failed, alone or before anything was written. */
const charge = Effect.fnUntraced(function*(
  one: Prepared,
  failure: Failure,
  permanent: boolean,
  settings: Settings
): Effect.fn.Return<Settlement> {
  const attempts = one.chunk.attempts + 1
  const base = { chunk: one.chunk, failure }
  if (permanent) return { _tag: "Bury", ...base, reason: "rejected", charge: true }
  if (attempts >= (one.handler.options.maxAttempts ?? settings.maxAttempts)) {
    return { _tag: "Bury", ...base, reason: "exhausted", charge: true }
  }
  const schedule = one.handler.options.retry ?? RetryPolicy.standard
  return { _tag: "Retry", ...base, delay: yield* RetryPolicy.delayAfter(schedule, attempts) }
})

/** A failure that is to be charged. */
interface Charge {
  readonly one: Prepared
  readonly chunk: ClaimedChunk
  readonly cause: Cause.Cause<unknown>
  readonly kind: string
}

const halves = <A>(batch: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> => {
  const middle = Math.ceil(batch.length / 2)
  return [batch.slice(0, middle), batch.slice(middle)]
}

/** The span of a batch holds its members; what it took is measured by handler. */
const timed = <A, E, R>(batch: ReadonlyArray<Prepared>, run: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const began = yield* Clock.currentTimeMillis
    const handler = batch[0]?.handler.name ?? ""
    return yield* run.pipe(
      inBatchSpan(batch),
      Effect.ensuring(Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Metric.update(Metric.withAttributes(Metrics.batchSeconds, { handler }), (now - began) / 1000)))
    )
  })

const eventsOf = (persisted: ReadonlyArray<Persisted>): ReadonlyArray<DomainObjectCreated> =>
  [...persisted].sort((a, b) => a.chunk.seq < b.chunk.seq ? -1 : 1).flatMap(({ chunk, handler, objects }) => {
    // the context is put together at each look
    const { context, correlationId, service } = chunk.call
    return objects.map((object) => (
      { object, key: chunk.key, namespace: chunk.namespace, handler, service, correlationId, context }
    ))
  })

/**
 * Carries a claim through: prepare, then round by round, settling as it goes. `settled` is told of every chunk as its
 * fate is committed, so that an interruption gives back exactly those that have none yet.
 */
export const execute = Effect.fnUntraced(function*(
  executor: Executor,
  claim: Claim,
  settled: (chunk: ClaimedChunk, outcome: Outcome) => void
) {
  const store = yield* ChunkStore
  const events = yield* DomainEvents
  const { settings } = executor
  executor.progress()
  // of each key, the oldest chunk that did not make it: nothing behind it may run now
  const halted = new Map<string, bigint>()

  const halt = ({ orderingKey, seq }: ClaimedChunk) => {
    if (orderingKey === undefined) return
    const before = halted.get(orderingKey)
    if (before === undefined || seq < before) halted.set(orderingKey, seq)
  }

  const settle = Effect.fnUntraced(function*(
    settlements: ReadonlyArray<Settlement>,
    causes?: ReadonlyMap<ClaimedChunk, Cause.Cause<unknown>>
  ) {
    if (settlements.length === 0) return
    const applied = new Set(yield* store.settle(claim.token, settlements))
    for (const settlement of settlements) {
      const { chunk } = settlement
      const lost = !applied.has(settlement)
      const makesWay = settlement._tag === "Already" || (settlement._tag === "Bury" && !settings.deadBlocksKey)
      if (lost || !makesWay) halt(chunk)
      settled(chunk, lost ? { _tag: "Lost", chunk } : { _tag: "Settled", settlement, cause: causes?.get(chunk) })
    }
  })

  // What stands in the ledger was not the handler's failure, whatever it ran into.
  const settleAlready = Effect.fnUntraced(
    function*<A extends { readonly chunk: ClaimedChunk }>(list: ReadonlyArray<A>) {
      if (list.length === 0) return list
      const ledger = new Set(
        (yield* store.ledger(list.map((one) => one.chunk.key))).map((entry) => printKey(entry.key))
      )
      const already = list.filter((one) => ledger.has(printKey(one.chunk.key)))
      yield* settle(already.map((one) => ({ _tag: "Already", chunk: one.chunk })))
      return list.filter((one) => !ledger.has(printKey(one.chunk.key)))
    }
  )

  const chargeAll = Effect.fnUntraced(function*(charges: ReadonlyArray<Charge>) {
    const rest = yield* settleAlready(charges)
    const causes = new Map<ClaimedChunk, Cause.Cause<unknown>>()
    const settlements = yield* Effect.forEach(rest, ({ cause, chunk, kind, one }) => {
      causes.set(chunk, cause)
      const failure = { handler: one.handler.name, kind, message: describeCause(cause) }
      return charge(one, failure, isPermanent(one, cause), settings)
    })
    yield* settle(settlements, causes)
  })

  // Together at the end of the round, each being a commit otherwise; but what holds up its ordering key does so at once.
  const due: Array<Charge> = []
  const chargeDue = Effect.suspend(() => chargeAll(due.splice(0)))
  const chargeOne = (one: Prepared, cause: Cause.Cause<unknown>, kind = kindOf(cause)) =>
    Effect.suspend(() => {
      due.push({ one, chunk: one.chunk, cause, kind })
      return one.chunk.orderingKey === undefined ? Effect.void : chargeDue
    })

  const persisted = Effect.fnUntraced(function*(done: ReadonlyArray<Persisted>) {
    for (const line of done) settled(line.chunk, { _tag: "Persisted", persisted: line })
    // a claim can be part of a transaction of the caller's: then nothing is certain before its commit
    yield* store.afterCommit(events.publish(eventsOf(done)))
  })

  const isHalted = ({ chunk }: Prepared) => {
    const at = chunk.orderingKey === undefined ? undefined : halted.get(chunk.orderingKey)
    return at !== undefined && at < chunk.seq
  }

  /** Tries a batch; on failure sets the culprits apart and tries the rest again. */
  const runBatch: (
    batch: ReadonlyArray<Prepared>,
    /** Part of one that the database has failed time and again. */
    isPart?: boolean
  ) => Effect.Effect<void, StoreError, ChunkStore> = Effect.fnUntraced(
    function*(wanted, isPart = false) {
      yield* settle(wanted.filter(isHalted).map((one) => ({ _tag: "Release", chunk: one.chunk })))
      const batch = wanted.filter((one) => !isHalted(one))
      if (batch.length === 0) return
      const isSuspect = isPart || batch.some((one) => one.chunk.attempts > 0)
      let conflicts = 0
      const attempt = Effect.suspend(() => {
        executor.progress()
        return persistBatch(claim.token, batch, settings.handlerTimeout, executor.progress)
      })
      yield* timed(batch, attempt).pipe(
        Effect.retry({
          while: (error) => isPassing(error) && !(isSuspect && isConflict(error) && ++conflicts > moreConflicts),
          schedule: transientRetry
        }),
        Effect.matchEffect({
          onSuccess: Effect.fnUntraced(function*({ persisted: done, left, behind }) {
            yield* persisted(done)
            for (const [one, cause] of left) yield* chargeOne(one, cause)
            yield* runBatch(batch.filter((one) => behind.has(one)))
          }),
          onFailure: (error) => {
            switch (error._tag) {
              case "StoreError":
                return Effect.fail(error)
              case "BatchSuffered":
                return outlast(batch, error.error)
              case "LeaseLost":
                return sortOutLost(batch)
              case "AlreadyPersisted":
                return Effect.flatMap(settleAlready(batch), (rest) =>
                  // two queue rows of one key, which only a hand can have made: apart they go in one after the other
                  rest.length === batch.length && rest.length > 1
                    ? Effect.forEach(halves(rest), (half) => runBatch(half), { discard: true })
                    : runBatch(rest))
              case "TransactionSpoiled":
                return batch.length === 1
                  ? chargeOne(batch[0]!, Cause.fail(error), "spoiled")
                  : Effect.forEach(halves(batch), (half) => runBatch(half, error.transient), { discard: true })
              case "BatchFailed":
                return isolate(batch, error)
            }
          }
        })
      )
    }
  )

  // The database failed a batch's handlers time and again. When it does not answer anything else either it is away: the
  // cycle fails, and gives its chunks back. When it does, it is something about these chunks, as a statement that takes its
  // server process down: the others must not wait for them.
  const outlast = Effect.fnUntraced(function*(batch: ReadonlyArray<Prepared>, error: StoreError) {
    const remaining = yield* settleAlready(batch)
    const [only] = remaining
    if (only === undefined) return
    if (remaining.length === 1) return yield* chargeOne(only, Cause.fail(error))
    yield* Effect.forEach(halves(remaining), (half) => runBatch(half, true), { discard: true })
  })

  // The innocent first, together; then those that failed by themselves, each alone; then the other suspects, in halves unless
  // there is but one; then whoever stood behind them.
  const isolate = Effect.fnUntraced(function*(
    batch: ReadonlyArray<Prepared>,
    { behind, certain, failed, left }: BatchFailed
  ) {
    const [only] = batch
    if (only !== undefined && batch.length === 1) return yield* chargeOne(only, failed.get(only)!)
    for (const [one, cause] of left) yield* chargeOne(one, cause)
    const remaining = yield* settleAlready(batch.filter((one) => !left.has(one)))
    yield* runBatch(remaining.filter((one) => !failed.has(one) && !behind.has(one)))
    yield* Effect.forEach(remaining.filter((one) => certain.has(one)), (one) => runBatch([one]), { discard: true })
    const suspects = remaining.filter((one) => failed.has(one) && !certain.has(one))
    const parts = suspects.length > 1 ? halves(suspects) : [suspects]
    yield* Effect.forEach(parts, (part) => runBatch(part), { discard: true })
    yield* runBatch(remaining.filter((one) => behind.has(one)))
  })

  // Some of the batch is another worker's by now. What is still held is given back: it will be claimed again, in order.
  const sortOutLost = (batch: ReadonlyArray<Prepared>) =>
    settle(batch.map((one) => ({ _tag: "Release", chunk: one.chunk })))

  const ready: Array<Prepared> = []
  const aside: Array<Settlement> = []
  const set = prepare(executor.registry, executor.paused, settings.maxCrashes)
  for (const chunk of claim.chunks) {
    const now = set(chunk)
    const result = Effect.isEffect(now) ? yield* now : now
    if (result._tag === "Prepared") ready.push(result)
    else aside.push(result)
  }
  yield* settle(aside.filter((one) => one._tag !== "Bury"))
  yield* settle(yield* settleAlready(aside.filter((one) => one._tag === "Bury")))
  yield* Effect.forEach(rounds(ready), (round) => Effect.andThen(runBatch(round), chargeDue), { discard: true })
})

/**
 * Renews a claim's lease for as long as it runs; stops when the claim is lost, which the next commit will find out. Ends
 * when nothing was done for longer than any handler may take: one that cannot be interrupted hangs, and must keep neither
 * its batch-mates from other workers nor this worker from the rest.
 */
export const keepAlive = Effect.fnUntraced(function*(options: {
  readonly token: string
  readonly held: () => ReadonlyArray<ClaimedChunk>
  readonly lease: Duration.Duration
  /** Whether something was done lately. */
  readonly isMoving: () => boolean
}): Effect.fn.Return<void, never, ChunkStore> {
  const { held, isMoving, lease, token } = options
  const store = yield* ChunkStore
  const third = Duration.times(lease, 1 / 3)
  while (true) {
    yield* Effect.sleep(third)
    if (!isMoving()) {
      yield* Effect.logWarning("a handler hangs and cannot be interrupted; its chunks are left to other workers")
      return
    }
    const lost = yield* Effect.matchEffect(store.renew(token, held(), lease), {
      onSuccess: () => Effect.succeed(false),
      onFailure: (error) =>
        error._tag === "StoreError"
          ? Effect.as(Effect.logWarning(`lease not renewed: ${error.message}`), false)
          : Effect.as(Effect.logWarning(error.message), true)
    })
    if (lost) return yield* Effect.never
  }
})
