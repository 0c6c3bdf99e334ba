/**
 * Runs a batch whose handler says `isolation: "together"`: all chunks concurrently, so their requests are merged into
 * one statement. For handlers that send only requests, or one plain statement.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Persisted, Watch } from "../ChunkStore.ts"
import { RunningChunks } from "../internal/RunningChunks.ts"
import {
  type BatchRun,
  type Committed,
  failSilent,
  type Failures,
  hang,
  readable,
  runOf,
  type Runs,
  soundAfter,
  toPersisted
} from "./batch.ts"
import { BatchFailed, type BatchSuffered, HandlerTimeout, NotShared } from "./failure.ts"
import { orderingKeyOf } from "./orderingKey.ts"
import type { Prepared } from "./prepare.ts"

/** The chunks of an ordering key, in order; a chunk without one is its own chain. */
export const chains = (batch: ReadonlyArray<Prepared>): ReadonlyArray<ReadonlyArray<Prepared>> => {
  // most batches have no keys
  if (batch.every(({ chunk }) => chunk.orderingKey === undefined)) return batch.map((one) => [one])
  const byKey = Map.groupBy(batch, (one) => orderingKeyOf(one.chunk) ?? one)
  return [...byKey.values()]
}

/** A run that has begun. */
interface Started {
  readonly one: Prepared
  readonly watch: Watch
  isOver: boolean
}

/** The state of the runs so far. */
interface Progress {
  readonly persisted: Array<Persisted>
  /**
   * Failed before any run had sent anything. A merged statement contains requests of several runs: once it was sent, no
   * run can be left out.
   */
  readonly failedUnsent: Failures
  readonly failed: Failures
  /** The failed ones that another run may have harmed. */
  readonly maybeHarmed: Set<Prepared>
  readonly started: Array<Started>
  refused: NotShared | undefined
}

/** Runs the chunks of a batch concurrently, and those of one ordering key one after another. */
export const runTogether: Runs = Effect.fnUntraced(function*(run: BatchRun) {
  const { batch, supervisor, transaction } = run
  const progress: Progress = {
    persisted: [],
    failedUnsent: new Map(),
    failed: new Map(),
    maybeHarmed: new Set(),
    started: [],
    refused: undefined
  }
  const all = Effect.forEach(chains(batch), (chain) => runChain(run, progress, chain), {
    concurrency: "unbounded",
    discard: true
  })
  const cutOff = Effect.suspend(() => {
    for (const { watch } of progress.started) watch.end()
    return transaction.abandon
  })
  const ended = yield* supervisor.run(all, (ended) => Effect.andThen(cutOff, hang(run, batch, ended)))
  if (progress.refused !== undefined) return yield* progress.refused
  if (ended._tag !== "Ended") {
    const hasNoAnswer = ended._tag === "Hangs" && progress.started.some(({ watch }) => watch.busy === true)
    yield* cutOff
    if (hasNoAnswer) yield* failSilent(transaction, undefined)
    notEnded(progress, Cause.fail(new HandlerTimeout({ after: run.timeout, hangs: ended._tag === "Hangs" })))
  } else if (Exit.isFailure(ended.exit) && Cause.hasInterrupts(ended.exit.cause)) {
    // a run has interrupted the fiber that it shares with others: that is not the drain's interruption
    yield* cutOff
    notEnded(progress, ended.exit.cause)
  } else {
    yield* ended.exit
  }
  return yield* committedOf(run, progress)
})

const runChain = (
  run: BatchRun,
  progress: Progress,
  chain: ReadonlyArray<Prepared>
): Effect.Effect<unknown, BatchSuffered> =>
  chain.length === 1 ? runOne(run, progress, chain[0]!) : Effect.gen(function*() {
    for (const one of chain) if (!(yield* runOne(run, progress, one))) return
  })

/** Runs one chunk. Returns whether it was persisted. Not a generator, whose steps would cost each chunk a tenth more. */
const runOne = (run: BatchRun, progress: Progress, one: Prepared): Effect.Effect<boolean, BatchSuffered> => {
  const watch = run.transaction.watch(run.rule)
  const started = { one, watch, isOver: false }
  progress.started.push(started)
  const work = Effect.provideService(runOf(run.handler, one), RunningChunks, [one.chunk.key])
  return Effect.flatMap(Effect.exit(watch.of(work)), (exit) => {
    started.isOver = true
    if (watch.refusal !== undefined) {
      progress.refused ??= new NotShared({ one, refusal: watch.refusal })
      return notPersisted
    }
    if (Exit.isFailure(exit)) return failedOne(run, progress, one, readable(exit.cause))
    progress.persisted.push(toPersisted(one, exit.value))
    run.pulse.progress()
    return isPersisted
  })
}

const isPersisted = Effect.succeed(true)
const notPersisted = Effect.succeed(false)

const failedOne = Effect.fnUntraced(
  function*(run: BatchRun, progress: Progress, one: Prepared, cause: Cause.Cause<unknown>) {
    if (!progress.started.some(({ watch }) => watch.sent)) {
      progress.failedUnsent.set(one, cause)
      return false
    }
    const isSound = yield* soundAfter(run, cause, undefined)
    progress.failed.set(one, cause)
    // in an aborted transaction every run fails
    if (!isSound) progress.maybeHarmed.add(one)
    return false
  }
)

/** Notes a failure for the chunks whose run had not ended. Another run may have held them up. */
const notEnded = ({ failed, maybeHarmed, started }: Progress, cause: Cause.Cause<unknown>) => {
  for (const { isOver, one } of started) {
    if (isOver) continue
    failed.set(one, cause)
    maybeHarmed.add(one)
  }
}

const committedOf = (
  { batch }: BatchRun,
  { failed, failedUnsent, persisted, started, maybeHarmed }: Progress
): Effect.Effect<Committed, BatchFailed> => {
  const begun = new Set(started.map(({ one }) => one))
  const notRun = started.length === batch.length ? [] : batch.filter((one) => !begun.has(one))
  return failed.size > 0
    ? Effect.fail(new BatchFailed({ failed, maybeHarmed, failedUnsent, notRun, asIfAlone: false }))
    : Effect.succeed({ persisted, failedUnsent, notRun })
}
