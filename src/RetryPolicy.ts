/**
 * When a failed chunk is tried again: a `Schedule`, replayed over the attempt count the database remembers, so that the
 * delays go on where they were after a restart, on any worker.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"

/**
 * The policy of handlers that bring none: 2 s, 6 s, 18 s, … at most 15 minutes, each ×0.8 to ×1.2. Ten attempts take
 * about an hour, so that an outage of that length exhausts nobody.
 */
export const standard: Schedule.Schedule<unknown, unknown> = Schedule.min([
  Schedule.exponential("2 seconds", 3),
  Schedule.spaced("15 minutes")
]).pipe(Schedule.jittered)

/** Longer than anybody waits, and a time that every database can tell. */
const longest = Duration.days(365)

/**
 * The delay after the `attempts`-th failure (from 1). A schedule that ends keeps its last delay: how often a chunk is
 * tried is `maxAttempts`' business alone. One that breaks gives way to the {@link standard}: it must not stop the drain.
 */
export const delayAfter = (schedule: Schedule.Schedule<unknown, unknown>, attempts: number) =>
  replay(schedule, attempts).pipe(
    Effect.catchDefect((defect) =>
      Effect.andThen(
        Effect.logWarning("a retry schedule failed; the standard one is used", defect),
        replay(standard, attempts)
      )
    ),
    Effect.map((delay) => Duration.min(delay, longest))
  )

const replay = Effect.fnUntraced(function*(schedule: Schedule.Schedule<unknown, unknown>, attempts: number) {
  const step = yield* Schedule.toStep(schedule)
  let elapsed = 0
  let delay = Duration.zero
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const next = yield* Pull.catchDone(step(elapsed, attempt), () => Effect.undefined)
    if (next === undefined) break
    delay = next[1]
    elapsed += Duration.toMillis(delay)
  }
  return delay
})
