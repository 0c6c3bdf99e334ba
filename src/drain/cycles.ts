/**
 * Runs cycles: a claim and its run, once, until nothing is due, or until a time is over.
 *
 * To understand the drain, read this folder in the order of a chunk's way: `cycles`, `inside` (what the store persists
 * without a claim), `claim` (takes chunks and holds them), `run` (what happens to them, with an example of a failure),
 * `prepare` (finds the handler and decodes), `attempt`, `transaction`, `runInTurn`, `split` and `settling`. The other
 * files are details of these.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import type { ChunkStoreError } from "../ChunkStore.ts"
import type { Claimed } from "./claim.ts"
import { CurrentSum } from "./inside.ts"
import { addReports, emptyReport } from "./Report.ts"

/** Makes a claim that is held for as long as a scope is open. */
type Claim = Effect.Effect<Claimed, ChunkStoreError, Scope>

/** Makes one claim and runs it. */
export const cycle = (claim: Claim) =>
  Effect.flatMap(claim, ({ run }) => run).pipe(
    Effect.tap((report) => report.claimed > 0 ? Effect.annotateCurrentSpan({ ...report }) : Effect.void),
    Effect.scoped,
    Effect.withSpan("Drain.cycle")
  )

/** Cycles until nothing is due. */
export const untilEmpty = (claim: Claim) =>
  Effect.gen(function*() {
    let total = emptyReport
    while (true) {
      const report = yield* cycle(claim)
      if (report.claimed === 0) return total
      total = addReports(total, report)
    }
  }).pipe(Effect.withSpan("Drain.untilEmpty"))

/** Cycles until nothing is due or the time is over. Then it interrupts running handlers and gives their chunks back. */
export const within = (claim: Claim) =>
  Effect.fn("Drain.within")(function*(duration: Duration.Input) {
    const clock = yield* Clock.Clock
    const began = clock.monotonicTimeNanosUnsafe()
    const limit = Duration.toMillis(Duration.fromInputUnsafe(duration))
    const timeLeft = () => Duration.millis(Math.max(0, limit - Number(clock.monotonicTimeNanosUnsafe() - began) / 1e6))
    let total = emptyReport
    while (Duration.isPositive(timeLeft())) {
      const { ends, report } = yield* cycleWithin(claim, timeLeft())
      total = addReports(total, report)
      if (ends) break
    }
    return total
  })

/**
 * One cycle with a deadline. Returns its report, even when it was interrupted, and whether it was the last: the time is
 * over, or nothing was due.
 */
export const cycleWithin = Effect.fnUntraced(function*(claim: Claim, limit: Duration.Duration) {
  let claimed: Claimed | undefined
  const sum = { report: emptyReport }
  const part = Effect.flatMap(claim, (made) => {
    claimed = made
    return made.run
  }).pipe(Effect.provideService(CurrentSum, sum))
  const done = yield* Effect.timeoutOption(Effect.scoped(part), limit)
  return claimed === undefined
    ? { report: sum.report, ends: true }
    : { report: claimed.report(), ends: Option.isNone(done) || claimed.isEmpty }
})
