/**
 * A cycle with a deadline.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import type { Claimed } from "./claim.ts"
import { emptyReport, reportOf } from "./Report.ts"

/**
 * Claims and runs what is due, for so long at most. At the deadline what runs is interrupted and given back. Tells what it
 * came to in either case, and whether to end: the time is over, or nothing was due.
 */
export const cycleWithin = Effect.fnUntraced(
  function*<E, R>(claim: Effect.Effect<Claimed, E, R | Scope>, limit: Duration.Duration) {
    // what was claimed is known also when its run is cut short
    let found: Claimed | undefined
    const part = Effect.gen(function*() {
      found = yield* claim
      yield* found.run
    })
    const done = yield* Effect.timeoutOption(Effect.scoped(part), limit)
    return found === undefined
      ? { report: emptyReport, ends: true }
      : { report: reportOf(found.chunks, found.outcomes), ends: Option.isNone(done) || found.chunks.length === 0 }
  }
)
