/**
 * Computes when a failed chunk is retried: a `Schedule`, replayed over the attempt count in the database, so the delays
 * continue after a restart, on any worker.
 */
import * as Clock from "effect/Clock"
import type * as Cron from "effect/Cron"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import { soon } from "./internal/soon.ts"

/**
 * The policy of handlers without one: 2 s, 6 s, 18 s, … at most 15 minutes, each ×0.8 to ×1.2. Ten attempts take about
 * an hour, so an outage of that length exhausts no chunk.
 */
export const standard: Schedule.Schedule<unknown, unknown> = Schedule.min([
  Schedule.exponential("2 seconds", 3),
  Schedule.spaced("15 minutes")
]).pipe(Schedule.jittered)

/** The limits of a delay: every database can add it to a time. */
const limits = { minimum: Duration.zero, maximum: Duration.days(365) }

/** A schedule of retries. A `cron` schedule fails when its expression does not parse. */
export type RetrySchedule = Schedule.Schedule<unknown, unknown, Cron.CronParseError>

/**
 * The delay after the `attempts`-th failure (from 1), which happened now. A schedule that ends keeps its last delay:
 * only `maxAttempts` limits the number of attempts. A negative delay is none. If the schedule fails, or does not answer
 * soon, the {@link standard} one is used: it must not stop the drain.
 */
export const delayAfter = (schedule: RetrySchedule, attempts: number): Effect.Effect<Duration.Duration> => {
  const otherwise = (problem: unknown) =>
    Effect.andThen(
      Effect.logWarning("a retry schedule failed; the standard one is used", problem),
      replay(standard, attempts)
    )
  const answer = Effect.flatMap(
    soon(replay(schedule, attempts)),
    (exit) =>
      Option.isNone(exit)
        ? Effect.fail(new Error("it does not answer"))
        // its interruption is not the drain's
        : Exit.hasInterrupts(exit.value)
        ? Effect.fail(new Error("it was interrupted"))
        : exit.value
  )
  return answer.pipe(
    Effect.catch(otherwise),
    Effect.catchDefect(otherwise)
  )
}

/**
 * Replays a schedule. Most schedules depend only on the time since the first failure, but calendar schedules depend on
 * the clock: the latest failure is now, and the earlier ones were as long ago as the schedule's own delays.
 */
const replay = Effect.fnUntraced(function*<E>(schedule: Schedule.Schedule<unknown, unknown, E>, attempts: number) {
  const now = yield* Clock.currentTimeMillis
  const { elapsed } = yield* walk(schedule, attempts - 1, now)
  return (yield* walk(schedule, attempts, now - elapsed, now)).delay
})

/** Steps through a schedule from `start`; the last step is at `end`, if given. Times are in milliseconds. */
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
    delay = Duration.clamp(next[1], limits)
    elapsed += Duration.toMillis(delay)
  }
  return { delay, elapsed }
})
