/**
 * The default way to run a batch: one chunk after another. The tables, the ledger and what each run reads are the same
 * as if each run had its own transaction. The first run that fails after it has sent something ends the batch.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Persisted } from "../ChunkStore.ts"
import { type BatchRun, carryOut, type Failures, runOf, type Runs, soundAfter, toPersisted } from "./batch.ts"
import { BatchFailed } from "./failure.ts"
import { orderingKeyOf } from "./orderingKey.ts"
import type { Prepared } from "./prepare.ts"

/** Runs the chunks of a batch one after another. */
export const runInTurn: Runs = Effect.fnUntraced(function*(run: BatchRun) {
  const { batch, handler, pulse, transaction } = run
  const clock = yield* Clock.Clock
  const began = clock.monotonicTimeNanosUnsafe()
  const isLong = () => Number(clock.monotonicTimeNanosUnsafe() - began) / 1e6 > Duration.toMillis(transaction.longest)
  const persisted: Array<Persisted> = []
  const failedUnsent: Failures = new Map()
  const notRun: Array<Prepared> = []
  const blocked = new Set<string>()
  for (const [index, one] of batch.entries()) {
    const orderingKey = orderingKeyOf(one.chunk)
    if (orderingKey !== undefined && blocked.has(orderingKey)) {
      notRun.push(one)
      continue
    }
    // locks are held until the commit, and the server may have its own time limit
    if (persisted.length > 0 && isLong()) {
      notRun.push(...batch.slice(index))
      break
    }
    const result = yield* carryOut(run, [one], runOf(handler, one))
    if (result._tag === "Done") {
      persisted.push(toPersisted(one, result.value))
      pulse.progress()
      continue
    }
    const { cause, isCutOff, sent } = result
    if (sent) {
      // fails when the database failed the run: then no chunk is charged yet
      if (!isCutOff) yield* soundAfter(run, cause, one)
      return yield* new BatchFailed({
        failed: new Map([[one, cause]]),
        maybeHarmed: new Set(),
        failedUnsent,
        notRun: [...notRun, ...batch.slice(index + 1)],
        asIfAlone: persisted.length === 0
      })
    }
    // Nothing was sent, so there is nothing to roll back: the batch continues without it. If it hangs, too: the transaction
    // is abandoned only with a statement under way.
    failedUnsent.set(one, cause)
    if (orderingKey !== undefined) blocked.add(orderingKey)
  }
  return { persisted, failedUnsent, notRun }
})
