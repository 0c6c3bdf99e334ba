/**
 * Carries out a claim: prepare, then round by round, batch by batch, until every chunk has an outcome. A list of batches is
 * worked through from the front; a batch that fails is split, and its parts come to the front.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Result from "effect/Result"
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
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import * as Metrics from "../Metrics.ts"
import { printKey } from "../ServiceCall.ts"
import type { Settings } from "../Settings.ts"
import { type BatchError, type Charge, kindOf, toSettlement } from "./failure.ts"
import type { Isolations } from "./isolation.ts"
import { inBatchSpan } from "./observe/spans.ts"
import type { Outcome } from "./Outcome.ts"
import { prepare, type Prepared, rounds } from "./prepare.ts"
import { type Batch, batchOf, split } from "./split.ts"
import { type Committed, persistBatch, timeoutOf } from "./transaction.ts"
import type { Unfit } from "./unfit.ts"

/** What carrying out a claim needs to know. */
export interface Execution {
  readonly claim: Claim
  readonly registry: HandlerRegistry["Service"]
  readonly settings: Settings
  readonly isolations: Isolations
  readonly unfit: Unfit
  /** Kinds that nobody may drain now. */
  readonly paused: ReadonlyArray<Kind>
  /** Told of each outcome when it is committed, so that an interruption gives back exactly the chunks that have none. */
  readonly ended: (chunk: ClaimedChunk, outcome: Outcome) => void
  /** Told whenever something was done. */
  readonly progress: () => void
  /** Told of runs that go on although the drain was interrupted. */
  readonly onHang: (chunks: ReadonlyArray<ClaimedChunk>, ended: Effect.Effect<unknown>) => Effect.Effect<void>
  /** Gives chunks back as soon as nobody has them locked any more. */
  readonly giveBackLater: (chunks: ReadonlyArray<ClaimedChunk>) => Effect.Effect<void>
  /** Has the claim's lease renewed, if that is due. */
  readonly refresh: Effect.Effect<void>
}

/** Carries out a claim. Fails only when the database does, and then the chunks without an outcome are still held. */
export const run = Effect.fnUntraced(function*(execution: Execution) {
  const { isolations } = execution
  const ends = yield* makeEnds(execution)
  execution.progress()
  const ready = yield* prepareAll(execution, ends)
  for (const round of rounds(ready)) {
    const work: Array<Batch> = [batchOf(round)]
    while (work.length > 0) {
      const next = work.shift()!
      const members = yield* ends.withoutHalted(next.members)
      const [first] = members
      if (first === undefined) continue
      if (members.length > 1 && isolations.of(first.handler) === "transaction" && first.handler.run._tag === "One") {
        work.unshift(...members.map((one) => batchOf([one], next.isPart)))
        continue
      }
      const batch = { ...next, members }
      const attempted = yield* attempt(execution, batch)
      if (Result.isSuccess(attempted)) {
        if (attempted.success.persisted.length > 0) execution.unfit.succeeded(first.handler)
        yield* ends.commit(attempted.success)
        work.unshift(batchOf(attempted.success.notRun, batch.isPart))
        continue
      }
      yield* execution.refresh
      const error = attempted.failure
      if (error._tag === "NotShared") yield* isolations.learn(error)
      // Whatever it ran into: what is in the ledger is persisted. A failure of some that were in company says nothing about
      // the others without it.
      const rest = yield* ends.withoutPersisted(members)
      if (rest.length < members.length) {
        work.unshift(batchOf(rest, batch.isPart))
        continue
      }
      const plan = split(batch, error)
      for (const charge of plan.charge) yield* ends.charge(charge)
      yield* ends.giveBackLater(plan.giveBackLater)
      yield* ends.giveBack(plan.giveBack)
      work.unshift(...plan.next)
    }
    yield* ends.chargeDue
  }
})

/** Finds the handler of each chunk and decodes it; settles the chunks that no handler can be run for. */
const prepareAll = Effect.fnUntraced(function*({ claim, paused, registry, settings }: Execution, ends: Ends) {
  const ready: Array<Prepared> = []
  const aside: Array<Settlement> = []
  const prepareOne = prepare(registry, paused, settings.maxCrashes)
  for (const chunk of claim.chunks) {
    const now = prepareOne(chunk)
    const result = Effect.isEffect(now) ? yield* now : now
    if (result._tag === "Prepared") ready.push(result)
    else aside.push(result)
  }
  yield* ends.settle(aside.filter((one) => one._tag !== "Bury"))
  yield* ends.settle(yield* ends.withoutPersisted(aside.filter((one) => one._tag === "Bury")))
  return ready
})

// around the transaction, never inside it
const patience = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(Schedule.jittered)

/** How often a batch is tried again after errors that pass. */
const mostTries = 6
/** How often after a conflict, for a chunk that failed before and for less than a batch: others wait for them. */
const moreConflicts = 2

/**
 * Tries a batch, and tries it again after an error that passes. Fails when the database is away. When the database fails
 * the batch and is there for everybody else, that is the batch's own doing, and it fails with that error.
 */
const attempt = Effect.fnUntraced(function*(execution: Execution, batch: Batch): Effect.fn.Return<
  Result.Result<Committed, BatchError>,
  StoreError,
  ChunkStore
> {
  const store = yield* ChunkStore
  const { claim, isolations, onHang, progress, settings } = execution
  const { members } = batch
  const { handler } = members[0]!
  const setting = {
    token: claim.token,
    rule: isolations.ruleOf(handler, members.length),
    timeout: timeoutOf(handler, settings.handlerTimeout),
    progress,
    onHang: (hanging: ReadonlyArray<Prepared>, ended: Effect.Effect<unknown>) =>
      onHang(hanging.map(({ chunk }) => chunk), ended)
  }
  const isTriedLess = batch.isPart || isolations.of(handler) === "transaction" ||
    members.some(({ chunk }) => chunk.attempts > 0)
  const pause = yield* Schedule.toStepWithSleep(patience)
  let tries = 0
  let conflicts = 0
  while (true) {
    progress()
    const result = yield* Effect.result(timed(members, persistBatch(members, setting)))
    if (Result.isSuccess(result)) return result
    const error = result.failure
    if (isOutage(error)) {
      const probed = yield* Effect.result(store.probe)
      if (Result.isFailure(probed)) {
        if (!isPassing(error) || !probed.failure.transient || ++tries > mostTries) return yield* probed.failure
      } else {
        yield* Effect.sleep(Math.min(2000, 50 * 2 ** batch.blamed))
        return result
      }
    } else if (!isPassing(error)) {
      return result
    } else if (++tries > mostTries || (isTriedLess && isConflict(error) && ++conflicts > moreConflicts)) {
      return result
    }
    yield* Effect.ignore(pause(undefined))
  }
})

const isPassing = (error: BatchError): boolean =>
  error._tag === "BatchSuffered" || (error._tag === "ChunksLocked" && error.locked.length === 0) ||
  ((error._tag === "TransactionSpoiled" || error._tag === "StoreError") && error.transient === true)

/** Whether the database may be away: or else the batch has done something to its connection. */
const isOutage = (error: BatchError): boolean =>
  error._tag === "StoreError" || (error._tag === "BatchSuffered" && !error.survived)

const isConflict = (error: BatchError): boolean => error._tag !== "BatchSuffered" || error.survived

/** The span of a batch holds its members; what it took is measured by handler. */
const timed = <A, E, R>(members: ReadonlyArray<Prepared>, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const began = clock.monotonicTimeNanosUnsafe()
    const handler = members[0]?.handler.name ?? ""
    return yield* effect.pipe(
      inBatchSpan(members),
      Effect.ensuring(Effect.suspend(() =>
        Metric.update(
          Metric.withAttributes(Metrics.batchSeconds, { handler }),
          Number(clock.monotonicTimeNanosUnsafe() - began) / 1e9
        )
      ))
    )
  })

/** The ways in which chunks of a claim end. */
type Ends = Effect.Success<ReturnType<typeof makeEnds>>

const makeEnds = Effect.fnUntraced(function*({ claim, ended, giveBackLater, settings, unfit }: Execution) {
  const store = yield* ChunkStore
  const events = yield* DomainEvents
  // of each key, the oldest chunk that did not make it: nothing behind it may run now
  const halted = new Map<string, bigint>()
  // together at the end of a round, each being a commit otherwise
  const due: Array<Charge> = []

  const halt = ({ orderingKey, seq }: ClaimedChunk) => {
    if (orderingKey === undefined) return
    const before = halted.get(orderingKey)
    if (before === undefined || seq < before) halted.set(orderingKey, seq)
  }

  const isHalted = ({ chunk: { orderingKey, seq } }: Prepared) => {
    const at = orderingKey === undefined ? undefined : halted.get(orderingKey)
    return at !== undefined && at < seq
  }

  const settle = Effect.fnUntraced(function*(
    settlements: ReadonlyArray<Settlement>,
    causes?: ReadonlyMap<ClaimedChunk, Cause.Cause<unknown>>
  ) {
    if (settlements.length === 0) return
    const applied = new Set(yield* settleOrPart(store, claim.token, settlements))
    for (const settlement of settlements) {
      const { chunk } = settlement
      // what is in the ledger is persisted, whoever has taken its row away
      const lost = !applied.has(settlement) && settlement._tag !== "Already"
      const makesWay = settlement._tag === "Already" || (settlement._tag === "Bury" && !settings.deadBlocksKey)
      if (lost || !makesWay) halt(chunk)
      ended(chunk, lost ? { _tag: "Lost", chunk } : { _tag: "Settled", settlement, cause: causes?.get(chunk) })
    }
  })

  /** Settles what is in the ledger: whatever its handler ran into was not its failure. Gives back the others. */
  const withoutPersisted = Effect.fnUntraced(
    function*<A extends { readonly chunk: ClaimedChunk }>(list: ReadonlyArray<A>) {
      if (list.length === 0) return list
      const entries = yield* store.ledger(list.map((one) => one.chunk.key))
      const ledger = new Set(entries.map((entry) => printKey(entry.key)))
      const already = list.filter((one) => ledger.has(printKey(one.chunk.key)))
      yield* settle(already.map((one) => ({ _tag: "Already", chunk: one.chunk })))
      return list.filter((one) => !ledger.has(printKey(one.chunk.key)))
    }
  )

  const giveBack = (members: ReadonlyArray<Prepared>) =>
    settle(members.map(({ chunk }) => ({ _tag: "Release", chunk })))

  const settlementOf = Effect.fnUntraced(function*(charge: Charge): Effect.fn.Return<Settlement> {
    const { cause, one: { chunk, handler } } = charge
    if (yield* unfit.learn(handler, cause)) return { _tag: "Park", chunk, reason: "no-handler" }
    return yield* toSettlement(charge, settings)
  })

  const chargeDue = Effect.suspend(() => chargeAll(due.splice(0)))
  const chargeAll = Effect.fnUntraced(function*(charges: ReadonlyArray<Charge>) {
    const rest = yield* withoutPersisted(charges.map((charge) => ({ ...charge, chunk: charge.one.chunk })))
    const causes = new Map(rest.map(({ cause, chunk }) => [chunk, cause]))
    yield* settle(yield* Effect.forEach(rest, settlementOf), causes)
  })

  return {
    settle,
    withoutPersisted,
    chargeDue,
    /** What holds up its ordering key is charged at once, so that nothing behind it is tried in vain. */
    charge: (charge: Charge) =>
      Effect.suspend(() => {
        due.push(charge)
        return charge.one.chunk.orderingKey === undefined ? Effect.void : chargeDue
      }),
    giveBack,
    giveBackLater: (members: ReadonlyArray<Prepared>) =>
      Effect.suspend(() => {
        const chunks = members.map(({ chunk }) => chunk)
        for (const chunk of chunks) {
          halt(chunk)
          ended(chunk, { _tag: "Settled", settlement: { _tag: "Release", chunk }, cause: undefined })
        }
        return chunks.length === 0 ? Effect.void : giveBackLater(chunks)
      }),
    /** Gives back who stands behind a chunk of its key that did not make it. */
    withoutHalted: (members: ReadonlyArray<Prepared>) =>
      Effect.as(giveBack(members.filter(isHalted)), members.filter((one) => !isHalted(one))),
    commit: Effect.fnUntraced(function*({ left, persisted }: Committed) {
      for (const line of persisted) ended(line.chunk, { _tag: "Persisted", persisted: line })
      // a claim can be part of a transaction of the caller's: then nothing is certain before its commit
      yield* store.afterCommit(events.publish(eventsOf(persisted)))
      for (const [one, cause] of left) {
        due.push({ one, cause, kind: kindOf(cause) })
        if (one.chunk.orderingKey !== undefined) yield* chargeDue
      }
    })
  }
})

/**
 * Settles, and when the database refuses one of several, each apart. One that is refused alone is settled without its
 * message, which may hold what the database cannot store: it must not be tried for ever, and cost the others their end.
 */
const settleOrPart = (
  store: ChunkStore["Service"],
  token: string,
  settlements: ReadonlyArray<Settlement>
): Effect.Effect<ReadonlyArray<Settlement>, StoreError> =>
  Effect.catchIf(store.settle(token, settlements), (error) => !error.transient, (error) => {
    const [only] = settlements
    if (settlements.length > 1) {
      return Effect.map(
        Effect.forEach(settlements, (one) => settleOrPart(store, token, [one])),
        (settled) => settled.flat()
      )
    }
    if (only === undefined || !("failure" in only)) return Effect.fail(error)
    const failure: Failure = { ...only.failure, message: `the failure could not be stored: ${error.code ?? "no code"}` }
    return Effect.map(store.settle(token, [{ ...only, failure }]), (settled) => settled.length > 0 ? [only] : [])
  })

const eventsOf = (persisted: ReadonlyArray<Persisted>): ReadonlyArray<DomainObjectCreated> =>
  [...persisted].sort((a, b) => a.chunk.seq < b.chunk.seq ? -1 : 1).flatMap(({ chunk, handler, objects }) => {
    if (objects.length === 0) return []
    const { call: { context, correlationId, service }, key, namespace } = chunk
    return objects.map((object) => ({ object, key, namespace, handler, service, correlationId, context }))
  })
