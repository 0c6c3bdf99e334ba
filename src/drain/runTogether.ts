/**
 * The way to run a batch whose handler says `isolation: "together"`: all chunks at once, so that the requests they make are
 * merged into one statement. For handlers that send nothing but requests, or one plain statement.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Persisted, Watch } from "../ChunkStore.ts"
import { RunningChunks } from "../internal/RunningChunks.ts"
import {
  type BatchRun,
  type Committed,
  type Failures,
  hang,
  readable,
  runOf,
  type Runs,
  soundAfter,
  toPersisted
} from "./batch.ts"
import { BatchFailed, HandlerTimeout, NotShared } from "./failure.ts"
import { orderingKeyOf } from "./orderingKey.ts"
import type { Prepared } from "./prepare.ts"

/** The chunks of an ordering key follow each other; those without one stand alone. */
export const chains = (batch: ReadonlyArray<Prepared>): ReadonlyArray<ReadonlyArray<Prepared>> => {
  const byKey = Map.groupBy(batch, (one) => orderingKeyOf(one.chunk) ?? one)
  return [...byKey.values()]
}

/** What became of the runs so far. */
interface Progress {
  readonly persisted: Array<Persisted>
  /** Failed while nobody had sent anything. A merged statement is of several runs: after one was sent nobody can leave. */
  readonly left: Failures
  readonly failed: Failures
  /** Of the failed, those that failed by themselves: the transaction was still sound. */
  readonly certain: Set<Prepared>
  readonly started: Map<Prepared, Watch>
  readonly over: Set<Prepared>
  refused: NotShared | undefined
}

/** Runs the chunks of a batch at once, and those of one ordering key one after another. */
export const runTogether: Runs = Effect.fnUntraced(function*(run: BatchRun) {
  const { batch, supervisor, transaction } = run
  const progress: Progress = {
    persisted: [],
    left: new Map(),
    failed: new Map(),
    certain: new Set(),
    started: new Map(),
    over: new Set(),
    refused: undefined
  }
  const all = Effect.forEach(chains(batch), (chain) => runChain(run, progress, chain), {
    concurrency: "unbounded",
    discard: true
  })
  const cutOff = Effect.suspend(() => {
    for (const watch of progress.started.values()) watch.end()
    return transaction.abandon
  })
  const ended = yield* supervisor.run(all, (ended) => Effect.andThen(cutOff, hang(run, batch, ended)))
  if (progress.refused !== undefined) return yield* progress.refused
  if (ended._tag === "Ended") {
    yield* ended.exit
  } else {
    yield* cutOff
    outOfTime(run, progress, ended._tag === "Hangs")
  }
  return yield* committedOf(run, progress)
})

const runChain = Effect.fnUntraced(function*(run: BatchRun, progress: Progress, chain: ReadonlyArray<Prepared>) {
  for (const one of chain) if (!(yield* runOne(run, progress, one))) return
})

/** Runs one chunk. Answers whether it was persisted. */
const runOne = Effect.fnUntraced(function*(run: BatchRun, progress: Progress, one: Prepared) {
  const { handler, pulse, rule, transaction } = run
  const watch = transaction.watch(rule)
  progress.started.set(one, watch)
  const work = Effect.provideService(runOf(handler, one), RunningChunks, [one.chunk.key])
  const exit = yield* Effect.exit(watch.of(work))
  progress.over.add(one)
  if (watch.refusal !== undefined) {
    progress.refused ??= new NotShared({ one, refusal: watch.refusal })
    return false
  }
  if (Exit.isSuccess(exit)) {
    progress.persisted.push(toPersisted(one, exit.value))
    pulse.progress()
    return true
  }
  const cause = readable(exit.cause)
  if (!progress.started.values().some((watch) => watch.sent)) {
    progress.left.set(one, cause)
    return false
  }
  const isSound = yield* soundAfter(run, cause, undefined)
  progress.failed.set(one, cause)
  // in an aborted transaction everybody fails
  if (isSound) progress.certain.add(one)
  return false
})

/** Those whose run had not ended are late. Together they are suspects, no more. */
const outOfTime = ({ timeout }: BatchRun, { failed, over, started }: Progress, hangs: boolean) => {
  const error = Cause.fail(new HandlerTimeout({ after: timeout, hangs }))
  for (const one of started.keys()) if (!over.has(one)) failed.set(one, error)
}

const committedOf = (
  { batch }: BatchRun,
  { certain, failed, left, persisted, started }: Progress
): Effect.Effect<Committed, BatchFailed> => {
  const notRun = batch.filter((one) => !started.has(one))
  return failed.size > 0
    ? Effect.fail(new BatchFailed({ failed, certain, left, notRun, asIfAlone: false }))
    : Effect.succeed({ persisted, left, notRun })
}
