/**
 * One batch in one transaction: the runs of its handler, then ledger rows and settlement. The runs go one after another,
 * each as if it were alone, unless the handler says that they may go together.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { ChunkStore, type Persisted, type Rule, StoreError, type Transaction, type Watch } from "../ChunkStore.ts"
import type { DomainObject } from "../DomainObject.ts"
import type { Handler } from "../Handler.ts"
import { objectsOf, running, wrong } from "../internal/given.ts"
import { Running } from "../internal/running.ts"
import { BatchFailed, BatchSuffered, HandlerTimeout, NotShared } from "./failure.ts"
import { timeRun } from "./observe/metrics.ts"
import { traced } from "./observe/spans.ts"
import type { Prepared } from "./prepare.ts"
import * as Supervisor from "./supervisor.ts"

/** What a committed batch came to. */
export interface Committed {
  readonly persisted: ReadonlyArray<Persisted>
  /** Failed before anything was sent, so that the others could commit without them. */
  readonly left: ReadonlyMap<Prepared, Cause.Cause<unknown>>
  /** Not run, in the order of the batch: behind one that failed, or left for the next transaction. */
  readonly notRun: ReadonlyArray<Prepared>
}

/** What the runs of a batch need to know. */
export interface Setting {
  readonly token: string
  readonly rule: Rule
  /** How long one run may take. */
  readonly timeout: Duration.Duration
  /** Told of every run that ended well. */
  readonly progress: () => void
  /** Told of a run that goes on after it was given up because the drain was interrupted. */
  readonly onHang: (one: ReadonlyArray<Prepared>, ended: Effect.Effect<unknown>) => Effect.Effect<void>
}

/** The runs of a batch, in a transaction. */
interface Run extends Setting {
  readonly handler: Handler
  readonly batch: ReadonlyArray<Prepared>
  readonly transaction: Transaction
  readonly isTransient: (error: unknown) => boolean
  readonly supervisor: Supervisor.Supervisor
}

type Failures = Map<Prepared, Cause.Cause<unknown>>
/** The runs of a batch, one way or another. */
type Runs = (run: Run) => Effect.Effect<Committed, BatchFailed | BatchSuffered | NotShared>

/** How long one run of a handler may take. */
export const timeoutOf = ({ options: { timeout } }: Handler, byDefault: Duration.Duration): Duration.Duration =>
  timeout === undefined ? byDefault : Duration.fromInputUnsafe(timeout)

/**
 * Runs a batch's handlers, its ledger rows and its settlement in one transaction. Fails with `BatchFailed` when it had to
 * be rolled back because of handlers, with `BatchSuffered` when the database failed a handler, with `NotShared` when runs
 * cannot share a transaction, and with the store's errors.
 */
export const persistBatch = Effect.fnUntraced(function*(batch: ReadonlyArray<Prepared>, setting: Setting) {
  const store = yield* ChunkStore
  const handler = batch[0]!.handler
  // who goes together has its time from the start, but for those that wait for an older one of their key
  const turns = setting.rule === "together" ? Math.max(...chains(batch).map(({ length }) => length)) : 1
  const supervisor = yield* Supervisor.make(Duration.times(setting.timeout, turns))
  let committed: Committed = { persisted: [], left: new Map(), notRun: [] }
  const runs = handler.run._tag === "Many" ? runMany : setting.rule === "together" ? runTogether : runInTurn
  yield* store.persist(
    setting.token,
    (transaction) =>
      runs({ ...setting, handler, batch, transaction, supervisor, isTransient: store.isTransient }).pipe(
        timeRun(handler.name, ({ left }) => left.size === 0),
        Effect.map((done) => {
          committed = done
          return done.persisted
        }),
        // the transaction of the running batch wins over the client the handlers' layer was built with
        Effect.updateContext((current: Context.Context<never>) => Context.merge(handler.services, current))
      ),
    setting.timeout
  )
  return committed
}, Effect.scoped)

const toPersisted = ({ chunk, handler }: Prepared, objects: ReadonlyArray<DomainObject>): Persisted => ({
  chunk,
  handler: handler.name,
  handlerVersion: handler.options.version ?? 1,
  objects
})

/** Some errors throw when one looks at them: a getter, a revoked proxy. They are told of by another. */
const readable = (cause: Cause.Cause<unknown>): Cause.Cause<unknown> => {
  try {
    Cause.pretty(cause)
    return cause
  } catch {
    return Cause.die(new Error("the handler failed with an error that cannot be read"))
  }
}

const passingError = (cause: Cause.Cause<unknown>, isTransient: Run["isTransient"]): StoreError | undefined => {
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

/**
 * Whether the transaction is sound after a run failed. Fails when the database failed it with an error that passes. That
 * must have left its mark on the transaction: an error of another database that the handler talks to, or of its own
 * making, says nothing about this one.
 */
const soundAfter = Effect.fnUntraced(function*(
  { isTransient, transaction }: Run,
  cause: Cause.Cause<unknown>,
  one: Prepared | undefined
) {
  const isSound = yield* Effect.mapError(
    transaction.isSound,
    (error) => new BatchSuffered({ error, survived: false, one })
  )
  const error = isSound ? undefined : passingError(cause, isTransient)
  if (error !== undefined) return yield* new BatchSuffered({ error, survived: true, one })
  return isSound
})

/** What a run came to: its objects, or why it failed. */
type Result<A> = { readonly _tag: "Done"; readonly value: A } | {
  readonly _tag: "Failed"
  readonly cause: Cause.Cause<unknown>
  readonly sent: boolean
  /** Whether it was given up, and the transaction may have been with it. */
  readonly hangs: boolean
}

/** Carries out one run under its limit and under observation. */
const carryOut = Effect.fnUntraced(function*<A>(
  { onHang, supervisor, timeout, transaction }: Run,
  watch: Watch,
  members: ReadonlyArray<Prepared>,
  work: Effect.Effect<A, unknown>
) {
  const ended = yield* supervisor.run(
    watch.of(Effect.provideService(work, Running, members.map(({ chunk }) => chunk.key))),
    (ended) => Effect.andThen(endOf(watch, transaction), onHang(members, ended))
  )
  if (ended._tag === "Hangs") yield* endOf(watch, transaction)
  watch.end()
  const { refusal } = watch
  if (refusal !== undefined && refusal.reason !== "control") {
    return yield* new NotShared({ one: members[0]!, refusal })
  }
  return toResult(watch, ended, timeout)
})

/** Nothing that goes on in a run that was given up reaches the transaction any more. */
const endOf = (watch: Watch, transaction: Transaction) => {
  watch.end()
  return transaction.abandon
}

const toResult = <A>(
  { refusal, sent }: Watch,
  ended: Supervisor.Ended<A, unknown>,
  timeout: Duration.Duration
): Result<A> => {
  if (refusal !== undefined) {
    const cause = wrong(
      `began or ended a transaction: ${refusal.statement}. Its transaction is Sluice's: use sql.withTransaction for a savepoint`
    )
    return { _tag: "Failed", cause: Cause.die(cause), sent, hangs: false }
  }
  if (ended._tag !== "Ended") {
    const error = new HandlerTimeout({ after: timeout, hangs: ended._tag === "Hangs" })
    return { _tag: "Failed", cause: Cause.fail(error), sent, hangs: error.hangs }
  }
  return Exit.isSuccess(ended.exit)
    ? { _tag: "Done", value: ended.exit.value }
    : { _tag: "Failed", cause: readable(ended.exit.cause), sent, hangs: false }
}

/** One chunk's run: the objects that the handler gave back. */
const runOf = (handler: Handler, one: Prepared): Effect.Effect<ReadonlyArray<DomainObject>, unknown> => {
  const persist = handler.run._tag === "One" ? handler.run.persist : () => Effect.void
  const run = Effect.flatMap(one.input, (input) => running(() => persist(input)))
  return Effect.flatMap(traced(one, run), (created) => {
    const objects = objectsOf(created)
    return objects instanceof Error ? Effect.die(objects) : Effect.succeed(objects)
  })
}

/**
 * One after another: the tables, the ledger and what each run is given are those of runs that had a transaction each. The
 * first that fails after it has sent something ends the batch.
 */
const runInTurn: Runs = Effect.fnUntraced(function*(run: Run) {
  const { batch, handler, progress, rule, transaction } = run
  const clock = yield* Clock.Clock
  const began = clock.monotonicTimeNanosUnsafe()
  const isLong = () => Number(clock.monotonicTimeNanosUnsafe() - began) / 1e6 > Duration.toMillis(transaction.longest)
  const persisted: Array<Persisted> = []
  const left: Failures = new Map()
  const notRun: Array<Prepared> = []
  const held = new Set<string>()
  for (const [index, one] of batch.entries()) {
    const { orderingKey } = one.chunk
    if (orderingKey !== undefined && held.has(orderingKey)) {
      notRun.push(one)
      continue
    }
    // locks are held until the commit, and the server may have a limit of its own
    if (persisted.length > 0 && isLong()) {
      notRun.push(...batch.slice(index))
      break
    }
    const result = yield* carryOut(run, transaction.watch(rule), [one], runOf(handler, one))
    if (result._tag === "Done") {
      persisted.push(toPersisted(one, result.value))
      progress()
      continue
    }
    const { cause, hangs, sent } = result
    if (sent) {
      const isSound = hangs || (yield* soundAfter(run, cause, one))
      return yield* new BatchFailed({
        failed: new Map([[one, cause]]),
        certain: new Set(isSound || persisted.length === 0 ? [one] : []),
        left,
        notRun: [...notRun, ...batch.slice(index + 1)],
        asIfAlone: persisted.length === 0
      })
    }
    left.set(one, cause)
    if (orderingKey !== undefined) held.add(orderingKey)
  }
  return { persisted, left, notRun }
})

/** Chunks of one ordering key follow each other; those without one stand alone. */
const chains = (batch: ReadonlyArray<Prepared>): ReadonlyArray<ReadonlyArray<Prepared>> => {
  const byKey = Map.groupBy(batch, (one) => one.chunk.orderingKey ?? one)
  return [...byKey.values()]
}

/**
 * All at once, so that the requests they make are merged: for handlers that send nothing else, or one statement. Who fails
 * leaves the batch only if nobody has sent anything yet, because a merged statement is of several runs.
 */
const runTogether: Runs = Effect.fnUntraced(function*(run: Run) {
  const { batch, handler, onHang, progress, rule, supervisor, timeout, transaction } = run
  const persisted: Array<Persisted> = []
  const left: Failures = new Map()
  const failed: Failures = new Map()
  const certain = new Set<Prepared>()
  const behind = new Set<Prepared>()
  const started = new Map<Prepared, Watch>()
  const over = new Set<Prepared>()
  let refused: NotShared | undefined

  const hasSent = () => started.values().some((watch) => watch.sent)
  const runOne = Effect.fnUntraced(function*(one: Prepared) {
    const watch = transaction.watch(rule)
    started.set(one, watch)
    const work = Effect.provideService(runOf(handler, one), Running, [one.chunk.key])
    const exit = yield* Effect.exit(watch.of(work))
    over.add(one)
    if (watch.refusal !== undefined) {
      refused ??= new NotShared({ one, refusal: watch.refusal })
      return false
    }
    if (Exit.isSuccess(exit)) {
      persisted.push(toPersisted(one, exit.value))
      progress()
      return true
    }
    const cause = readable(exit.cause)
    if (hasSent()) {
      const isSound = yield* soundAfter(run, cause, undefined)
      failed.set(one, cause)
      // in an aborted transaction everybody fails
      if (isSound) certain.add(one)
    } else {
      left.set(one, cause)
    }
    return false
  })
  const runChain = Effect.fnUntraced(function*(chain: ReadonlyArray<Prepared>) {
    for (const [index, one] of chain.entries()) {
      if (yield* runOne(one)) continue
      for (const follower of chain.slice(index + 1)) behind.add(follower)
      return
    }
  })

  const all = Effect.forEach(chains(batch), runChain, { concurrency: "unbounded", discard: true })
  const stop = Effect.suspend(() => {
    for (const watch of started.values()) watch.end()
    return transaction.abandon
  })
  const ended = yield* supervisor.run(all, (ended) => Effect.andThen(stop, onHang(batch, ended)))
  if (refused !== undefined) return yield* refused
  if (ended._tag === "Ended") {
    yield* ended.exit
  } else {
    yield* stop
    // who had not ended is late; all of them together are suspects, no more
    const error = Cause.fail(new HandlerTimeout({ after: timeout, hangs: ended._tag === "Hangs" }))
    for (const one of started.keys()) if (!over.has(one)) failed.set(one, error)
    for (const one of batch) if (!started.has(one)) behind.add(one)
  }
  const notRun = batch.filter((one) => behind.has(one))
  if (failed.size > 0) {
    return yield* new BatchFailed({ failed, certain, left, notRun, asIfAlone: false })
  }
  return { persisted, left, notRun }
})

/** One run for the whole batch. It fails as a whole, and does not say at which chunk. */
const runMany: Runs = Effect.fnUntraced(function*(run: Run) {
  const { batch, handler, rule, transaction } = run
  const persistMany = handler.run._tag === "Many" ? handler.run.persistMany : () => Effect.succeed([])
  const work = Effect.flatMap(
    Effect.flatMap(Effect.forEach(batch, (one) => one.input), (inputs) => running(() => persistMany(inputs))),
    (results) => {
      const objects = resultsOf(results, batch.length)
      return objects instanceof Error ? Effect.die(objects) : Effect.succeed(objects)
    }
  )
  const result = yield* carryOut(run, transaction.watch(rule), batch, work)
  if (result._tag === "Done") {
    const persisted = batch.map((one, index) => toPersisted(one, result.value[index] ?? []))
    return { persisted, left: new Map(), notRun: [] }
  }
  if (result.sent && !result.hangs) yield* soundAfter(run, result.cause, undefined)
  const failed = new Map(batch.map((one) => [one, result.cause]))
  return yield* new BatchFailed({ failed, certain: new Set(), left: new Map(), notRun: [], asIfAlone: false })
})

/** What a `persistMany` gave back, for each input; or the defect that it is. */
export const resultsOf = (results: unknown, inputs: number): ReadonlyArray<ReadonlyArray<DomainObject>> | Error => {
  if (!Array.isArray(results)) {
    return wrong("gave back no list of results: persistMany gives back one for each input")
  }
  if (results.length !== inputs) {
    return wrong(`gave back ${results.length} results for ${inputs} inputs: persistMany gives back one for each`)
  }
  const objects: Array<ReadonlyArray<DomainObject>> = []
  for (const result of results) {
    const created = objectsOf(result)
    if (created instanceof Error) return created
    objects.push(created)
  }
  return objects
}
