/**
 * Runs a claim: prepares its chunks, and works through them round by round and batch by batch, until each chunk has an
 * outcome.
 *
 * A round is one handler's share of the claim. It begins as one batch, and a batch is one transaction
 * (`transaction.ts`). When the batch commits, the round is done. When it fails, all of it is rolled back, and `split`
 * decides what follows: which chunks are charged an attempt, which are given back, and in which smaller batches the
 * others are tried next. Those come to the front of the list of batches, which keeps the order of the chunks.
 *
 * The way of a batch through the files: `step` (below) calls `attempt.ts`, which retries it while the database has
 * transient errors; that calls `transaction.ts`, which opens the transaction; that calls `runInTurn.ts`, which runs the
 * handler for one chunk after another. A failed batch comes back as a `BatchError` (`failure.ts`) to `afterFailure`
 * (below), which asks `split.ts` for the plan and has `settling.ts` carry it out.
 *
 * For example, five chunks `a b c d e` run one after another, and the handler fails for the third, `c`. `d` and `e` have
 * not run.
 *
 * - If `c` had sent something to the database, the transaction is rolled back, and no chunk is charged yet: `c` may
 *   have failed because of what `a` or `b` had written. The next batches are `a b`, then `d e`, then `c` alone. The
 *   first two commit. If `c` fails alone, it is charged one attempt: it is retried after its backoff, or is dead after
 *   its last attempt.
 * - If `c` had sent nothing, there is nothing to roll back, and neither `a` nor `b` can be the cause. The batch continues
 *   without `c`, commits `a b d e`, and `c` is charged.
 * - If `d` and `e` have the ordering key of `c`, they wait for it: they are not run, and are given back at no cost once
 *   `c` is charged.
 *
 * How `c` fails decides what its charge becomes (`failure.ts`), and whether there is one:
 *
 * - A typed error is charged as `failed`, a defect as `defect`. If the handler says that a typed error is permanent,
 *   `c` is dead at once.
 * - If its connection breaks, for example because the backend was killed, no chunk is charged yet (`BatchSuffered`), and
 *   `attempt` probes the database. If the database answers, all five are run once more. If the connection breaks in the
 *   run of `c` again, the others are tried without it, then `c` alone; when that has failed four times, `c` is charged.
 *   If the database does not answer, `attempt` retries with growing delays. After its last retry the claim fails with the
 *   database's error, and all five are given back at no cost.
 *
 * Three kinds of handlers differ. With `isolation: "transaction"` each chunk is a batch of its own, so only `c` fails. A
 * `persistMany` handler gets all five at once and does not say which one failed: `split` tries halves of halves until
 * the failing chunk is alone. The store persists the chunks of a declared handler without a claim: see `inside.ts`. After a
 * failure they are claimed, and their handler is a `persistMany`.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { Settlement } from "../ChunkStore.ts"
import { attempt } from "./attempt.ts"
import type { Engine } from "./engine.ts"
import type { BatchError } from "./failure.ts"
import type { Held } from "./held.ts"
import type { Lease } from "./lease.ts"
import { isPrepared, prepare, type Prepared, rounds } from "./prepare.ts"
import * as Settling from "./settling.ts"
import { type Batch, batchOf, split } from "./split.ts"

/** A running claim, and what its steps share. */
interface Running {
  readonly engine: Engine
  readonly held: Held
  readonly lease: Lease
  readonly settling: Settling.Settling
}

/** Runs a claim. Fails only when the database fails; then the chunks without an outcome are still held. */
export const run = Effect.fnUntraced(function*(engine: Engine, held: Held, lease: Lease) {
  const settling = yield* Settling.make(engine, held)
  const running: Running = { engine, held, lease, settling }
  engine.pulse.progress()
  const ready = yield* prepareAll(running)
  for (const first of firstBatches(running, ready)) {
    const work: Array<Batch> = [first]
    while (work.length > 0) work.unshift(...yield* step(running, work.shift()!))
    yield* settling.chargeDue
  }
})

/** A batch for each round, or one of all that should be one commit and may share a transaction. */
const firstBatches = ({ engine, held }: Running, ready: ReadonlyArray<Prepared>): ReadonlyArray<Batch> =>
  held.claim.inOneCommit === true && areSeveral(ready) &&
    ready.every(({ handler }) => engine.isolations.of(handler) !== "transaction")
    ? [{ ...batchOf(ready), isWhole: true }]
    : rounds(ready).map((round) => batchOf(round))

const areSeveral = (members: ReadonlyArray<Prepared>): boolean =>
  members.some(({ handler }) => handler !== members[0]?.handler)

/** Finds the handler of each chunk and decodes it. Settles the chunks for which no handler can run. */
const prepareAll = Effect.fnUntraced(function*({ engine, held, settling }: Running) {
  const ready: Array<Prepared> = []
  const aside: Array<Settlement> = []
  const prepareOne = prepare(engine.registry, held.claim.paused ?? engine.paused(), engine.settings.maxCrashes)
  for (const chunk of held.claim.chunks) {
    const now = prepareOne(chunk)
    const result = Effect.isEffect(now) ? yield* now : now
    if (isPrepared(result)) ready.push(result)
    else aside.push(result)
  }
  const isBury = Settlement.$is("Bury")
  yield* settling.settle(aside.filter((one) => !isBury(one)))
  // a chunk that another worker has persisted meanwhile must not become a dead letter
  yield* settling.settle(yield* settling.withoutPersisted(aside.filter(isBury)))
  return ready
})

/** Tries one batch. Returns the batches to try next, in this order. */
const step = Effect.fnUntraced(function*(running: Running, batch: Batch) {
  const { engine, settling } = running
  const members = yield* settling.withoutBlocked(batch.members)
  const [first] = members
  if (first === undefined) return []
  if (batch.isWhole !== true && areSeveral(members)) {
    return rounds(members).map((round) => batchOf(round, batch.isPart))
  }
  const isApart = engine.isolations.of(first.handler) === "transaction" && first.handler.run._tag === "One"
  if (isApart && members.length > 1) return members.map((one) => batchOf([one], batch.isPart))
  const tried = { ...batch, members }
  const result = yield* attempt(running, tried)
  if (Result.isFailure(result)) {
    return running.held.claim.isVoid?.() === true ? [] : yield* afterFailure(running, tried, result.failure)
  }
  if (result.success.persisted.length > 0) {
    for (const handler of batch.isWhole === true ? new Set(members.map((one) => one.handler)) : [first.handler]) {
      engine.unfit.succeeded(handler)
      engine.rests.end(handler)
    }
  }
  yield* settling.commit(result.success)
  return [batchOf(result.success.notRun, batch.isPart)]
})

/** After a rollback: charges chunks, gives chunks back, and returns the batches that `split` makes of the others. */
const afterFailure = Effect.fnUntraced(
  function*({ engine, lease, settling }: Running, batch: Batch, error: BatchError) {
    yield* lease.refresh
    if (error._tag === "NotShared") yield* engine.isolations.learn(error)
    // Whatever the error, a chunk in the ledger is persisted, and the others may succeed without it.
    const rest = yield* settling.withoutPersisted(batch.members)
    if (rest.length < batch.members.length) return [batchOf(rest, batch.isPart)]
    const plan = split(batch, error)
    for (const charge of plan.charge) yield* settling.charge(charge)
    yield* settling.releaseLater(plan.giveBackLater)
    yield* settling.release(plan.giveBack)
    return plan.next
  }
)
