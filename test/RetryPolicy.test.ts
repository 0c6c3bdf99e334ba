/**
 * A schedule replayed over the attempts on record.
 */
import { it } from "@effect/vitest"
import { RetryPolicy } from "effect-sluice"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"

const seconds = (schedule: RetryPolicy.RetrySchedule, attempts: ReadonlyArray<number>) =>
  Effect.forEach(
    attempts,
    (attempt) => Effect.map(RetryPolicy.delayAfter(schedule, attempt), (delay) => Duration.toMillis(delay) / 1000)
  )

describe("a retry policy", () => {
  const schedules: ReadonlyArray<readonly [string, Schedule.Schedule<unknown, unknown>, ReadonlyArray<number>]> = [
    ["the same each time", Schedule.spaced("10 seconds"), [10, 10, 10, 10, 10]],
    ["doubling", Schedule.exponential("1 second"), [1, 2, 4, 8, 16]],
    ["by Fibonacci", Schedule.fibonacci("1 second"), [1, 1, 2, 3, 5]],
    ["doubling up to a limit", Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("5 seconds")]), [
      1,
      2,
      4,
      5,
      5
    ]],
    // its end is not the end of the retries: that is maxAttempts' business
    ["one that ends", Schedule.upTo(Schedule.exponential("1 second"), { times: 3 }), [1, 2, 4, 4, 4]],
    ["one that ends by time", Schedule.upTo(Schedule.spaced("2 seconds"), { duration: "5 seconds" }), [2, 2, 2, 2, 2]],
    [
      "doubling for some time",
      Schedule.upTo(Schedule.exponential("1 second"), { duration: "5 seconds" }),
      [1, 2, 4, 4, 4]
    ],
    ["one that goes back in time", Schedule.spaced("-5 seconds"), [0, 0, 0, 0, 0]],
    ["one that goes back beyond all times", Schedule.spaced(-Infinity), [0, 0, 0, 0, 0]],
    ["one that never begins", Schedule.upTo(Schedule.spaced("1 second"), { times: 0 }), [0, 0, 0, 0, 0]],
    [
      "in two phases",
      Schedule.concat(Schedule.upTo(Schedule.spaced("1 second"), { times: 2 }), Schedule.spaced("1 minute")),
      [1, 1, 60, 60, 60]
    ]
  ]
  for (const [name, schedule, expected] of schedules) {
    it.effect(name, () =>
      Effect.gen(function*() {
        yield* TestClock.setTime(Date.UTC(2026, 2, 10, 2, 59))
        // each asked for anew, as another worker would after a restart
        expect(yield* seconds(schedule, [1, 2, 3, 4, 5])).toEqual(expected)
        expect(yield* seconds(schedule, [5])).toEqual(expected.slice(4))
      }))
  }

  const night = Schedule.cron("0 3 * * *", "UTC")
  it.effect("by the calendar: when the clock says so next, after any attempt", () =>
    Effect.gen(function*() {
      for (
        const [at, wait] of [["02:59:00", 60], ["02:59:59.500", 0.5], ["03:00:00", 86_400], [
          "03:00:30",
          86_370
        ]] as const
      ) {
        yield* TestClock.setTime(Date.parse(`2026-03-10T${at}Z`))
        expect(yield* seconds(night, [1, 2, 3, 10]), at).toEqual([wait, wait, wait, wait])
      }
      // whichever comes first
      yield* TestClock.setTime(Date.parse("2026-03-10T02:55:00Z"))
      const either = Schedule.min([Schedule.exponential("1 minute"), night])
      expect(yield* seconds(either, [1, 2, 3, 4])).toEqual([60, 120, 240, 300])
    }))

  it.effect("jittered: spread by a fifth around the delay of that attempt", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2026, 2, 10, 2, 59))
      const schedule = Schedule.jittered(Schedule.exponential("10 seconds"))
      for (const [attempt, middle] of [[1, 10], [2, 20], [5, 160]] as const) {
        const delays = (yield* Effect.forEach(Array.from({ length: 50 }), () => seconds(schedule, [attempt]))).flat()
        expect(new Set(delays).size).toBeGreaterThan(25)
        expect(Math.min(...delays)).toBeGreaterThanOrEqual(middle * 0.8)
        expect(Math.max(...delays)).toBeLessThanOrEqual(middle * 1.2)
      }
      const [delay = 0] = yield* seconds(Schedule.jittered(night), [4])
      expect(delay).toBeGreaterThanOrEqual(48)
      expect(delay).toBeLessThanOrEqual(72)
    }))

  it.effect("one that is none gives way to the standard", () =>
    Effect.gen(function*() {
      const [delay = 0] = yield* seconds(Schedule.cron("at night"), [1])
      expect(delay).toBeGreaterThanOrEqual(1.6)
      expect(delay).toBeLessThanOrEqual(2.4)
    }))

  it.effect.each([["does not answer", Effect.never], ["interrupts itself", Effect.interrupt]] as const)(
    "one that %s gives way to the standard",
    ([, step]) =>
      Effect.gen(function*() {
        const schedule = Schedule.spaced("1 hour").pipe(Schedule.tap(() => step))
        const waiting = yield* Effect.forkChild(seconds(schedule, [1]))
        yield* TestClock.adjust("1 second")
        const [delay = 0] = yield* Fiber.join(waiting)
        expect(delay).toBeGreaterThanOrEqual(1.6)
        expect(delay).toBeLessThanOrEqual(2.4)
      })
  )

  it.effect("the standard: from 2 seconds to 15 minutes, spread by a fifth; ten attempts take about an hour", () =>
    Effect.gen(function*() {
      const attempts = Array.from({ length: 12 }, (_, n) => n + 1)
      const middle = attempts.map((attempt) => Math.min(2 * 3 ** (attempt - 1), 900))
      const seed = yield* Random.nextIntBetween(0, 2 ** 31)
      const delays = yield* Effect.forEach(
        Array.from({ length: 200 }),
        () => seconds(RetryPolicy.standard, attempts)
      ).pipe(Random.withSeed(seed))
      const first = new Set<number>()
      for (const run of delays) {
        first.add(run[0]!)
        for (const [index, delay] of run.entries()) {
          expect.soft(delay, `seed ${seed}, attempt ${index + 1}`).toBeGreaterThanOrEqual(middle[index]! * 0.8)
          expect.soft(delay, `seed ${seed}, attempt ${index + 1}`).toBeLessThanOrEqual(middle[index]! * 1.2)
        }
      }
      // they do not all come back at once
      expect(first.size, `seed ${seed}`).toBeGreaterThan(100)
      const hour = middle.slice(0, 9).reduce((sum, delay) => sum + delay, 0) / 3600
      expect(hour).toBeGreaterThan(0.9)
      expect(hour).toBeLessThan(1.3)
    }))
})
