/**
 * When a failed chunk is tried again: a `Schedule`, replayed over the attempt count the database remembers, so that the
 * delays go on where they were after a restart, on any worker.
 */
import * as Clock from "effect/Clock"
import type * as Cron from "effect/Cron"
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

/** A schedule of retries. One by `cron` may not parse; then it breaks. */
export type RetrySchedule = Schedule.Schedule<unknown, unknown, Cron.CronParseError>

/**
 * The delay after the `attempts`-th failure (from 1), which happened now. A schedule that ends keeps its last delay: how often a chunk is
 * tried is `maxAttempts`' business alone. One that breaks gives way to the {@link standard}: it must not stop the drain.
 */
export const delayAfter = (schedule: RetrySchedule, attempts: number): Effect.Effect<Duration.Duration> => {
  const otherwise = (problem: unknown) =>
    Effect.andThen(
      Effect.logWarning("a retry schedule failed; the standard one is used", problem),
      replay(standard, attempts)
    )
  return replay(schedule, attempts).pipe(
    Effect.catch(otherwise),
    Effect.catchDefect(otherwise),
    Effect.map((delay) => Duration.min(delay, longest))
  )
}

/**
 * Most schedules look only at the time that has passed since the first failure, but those by the calendar look at the clock:
 * the latest failure is now, and the earlier ones were as long ago as the schedule itself says.
 */
const replay = Effect.fnUntraced(function*<E>(schedule: Schedule.Schedule<unknown, unknown, E>, attempts: number) {
  const now = yield* Clock.currentTimeMillis
  const { elapsed } = yield* walk(schedule, attempts - 1, now)
  return (yield* walk(schedule, attempts, now - elapsed, now)).delay
})

/** Steps through a schedule from `start`; the last step is at `end`, if that is known. */
const walk = Effect.fnUntraced(function*<E>(
  schedule: Schedule.Schedule<unknown, unknown, E>,
  attempts: number,
  start: number,
  end?: number
) {
  const step = yield* Schedule.toStep(schedule)
  let elapsed = 0
  let delay = Duration.zero
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const at = attempt === attempts && end !== undefined ? end : start + elapsed
    const next = yield* Pull.catchDone(step(at, attempt), () => Effect.undefined)
    if (next === undefined) break
    delay = next[1]
    elapsed += Duration.toMillis(Duration.min(delay, longest))
  }
  return { delay, elapsed }
})
