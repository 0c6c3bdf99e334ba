/**
 * The second phase of the demo: so many drains persist what was recorded.
 */
import { Drain, Inspector } from "effect-sluice"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"

/**
 * Drains by so many drains at once, each as if it were a process of its own, until nothing is due within `patience`.
 * That is time enough for the lease of a run that was killed to end, and for a failed chunk's first retries. Tells
 * after every cycle how many chunks have been persisted so far, and gives back how many were in the end.
 */
export const drain = Effect.fnUntraced(function*(options: {
  readonly workers: number
  readonly patience: Duration.Duration
  readonly progress: (persisted: number) => Effect.Effect<void>
}) {
  const inspector = yield* Inspector.Inspector
  let persisted = 0
  let lastClaim = yield* DateTime.now
  const worker = Effect.gen(function*() {
    const drain = yield* Drain.Drain
    while (true) {
      const report = yield* drain.cycle
      if (report.claimed === 0) return
      lastClaim = yield* DateTime.now
      persisted += report.persisted + report.nothingToCreate
      yield* options.progress(persisted)
    }
  }).pipe(
    // fresh, or all of them would share one
    Effect.provide(Layer.fresh(Drain.layer))
  )
  while (true) {
    yield* Effect.all(Array.from({ length: options.workers }, () => worker), { concurrency: "unbounded" })
    const next = yield* inspector.nextDue
    const now = yield* DateTime.now
    const deadline = DateTime.addDuration(lastClaim, options.patience)
    if (Option.isNone(next) || DateTime.isGreaterThan(next.value, deadline) || DateTime.isGreaterThan(now, deadline)) {
      return persisted
    }
    yield* Effect.sleep(Duration.max(DateTime.distance(now, next.value), Duration.millis(100)))
  }
})
