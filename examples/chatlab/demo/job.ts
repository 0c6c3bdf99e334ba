/**
 * The second phase of the demo: several drains persist the recorded calls.
 */
import { Drain, Inspector } from "effect-sluice"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"

/**
 * Runs several drains concurrently, each like a separate process, until nothing is due within `patience`. That is long
 * enough for the lease of a killed run to end, and for the first retries of a failed chunk. Reports after every cycle how
 * many chunks are persisted so far, and returns the total.
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
    // without `fresh`, all would share one drain
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
