/**
 * Runs under a time limit: only time in which the process went on counts, and a run that cannot be interrupted is given
 * up.
 */
import { it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { expect } from "vitest"
import * as Supervisor from "../../src/drain/supervisor.ts"

const nobody = () => Effect.void
const supervised = <A, E>(limit: Duration.Input, run: Effect.Effect<A, E>) =>
  Effect.scoped(Effect.flatMap(Supervisor.make(Duration.fromInputUnsafe(limit)), (it) => it.run(run, nobody)))

it.effect("a run that ends in time ends as it does", () =>
  Effect.gen(function*() {
    expect(yield* supervised("1 second", Effect.succeed(7))).toMatchObject({ _tag: "Ended", exit: { value: 7 } })
    const failing = yield* supervised("1 second", Effect.fail("no"))
    expect(failing).toMatchObject({ _tag: "Ended", exit: { _tag: "Failure" } })
    const later = yield* Effect.forkChild(supervised("1 second", Effect.delay(Effect.succeed(8), "900 millis")))
    yield* TestClock.adjust("900 millis")
    expect(yield* Fiber.join(later)).toMatchObject({ _tag: "Ended", exit: { value: 8 } })
  }))

for (const limit of ["100 millis", "3 seconds", "30 seconds", "1 hour"] as const) {
  it.effect(`a run of ${limit} is interrupted when they are over, and not before`, () =>
    Effect.gen(function*() {
      let interrupted = false
      const fiber = yield* Effect.forkChild(supervised(
        limit,
        Effect.onInterrupt(Effect.never, () =>
          Effect.sync(() => {
            interrupted = true
          }))
      ))
      yield* TestClock.adjust(Duration.toMillis(Duration.fromInputUnsafe(limit)) - 1)
      expect(interrupted).toBe(false)
      yield* TestClock.adjust(1)
      expect(yield* Fiber.join(fiber)).toEqual({ _tag: "TimedOut" })
      expect(interrupted).toBe(true)
    }))
}

it.effect("each of several runs has its own time", () =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(Effect.scoped(Effect.gen(function*() {
      const { run } = yield* Supervisor.make(Duration.seconds(10))
      const first = yield* run(Effect.sleep("9 seconds"), nobody)
      const second = yield* run(Effect.sleep("9 seconds"), nobody)
      const third = yield* run(Effect.never, nobody)
      return [first._tag, second._tag, third._tag]
    })))
    yield* TestClock.adjust("27999 millis")
    expect(fiber.pollUnsafe()).toBeUndefined()
    yield* TestClock.adjust("1 millis")
    expect(yield* Fiber.join(fiber)).toEqual(["Ended", "Ended", "TimedOut"])
  }))

it.effect("a run that continues after it was interrupted is abandoned, and its end is reported", () =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(supervised("10 seconds", Effect.uninterruptible(Effect.sleep("1 minute"))))
    yield* TestClock.adjust("10999 millis")
    expect(fiber.pollUnsafe()).toBeUndefined()
    yield* TestClock.adjust("1 millis")
    const ended = yield* Fiber.join(fiber)
    if (ended._tag !== "Hangs") return expect(ended._tag).toBe("Hangs")
    const after = yield* Effect.forkChild(ended.ended)
    yield* TestClock.adjust("48 seconds")
    expect(after.pollUnsafe()).toBeUndefined()
    yield* TestClock.adjust("2 seconds")
    expect(after.pollUnsafe()).toBeDefined()
  }))

it.effect("interrupted itself it interrupts the run, and waits for that a moment only", () =>
  Effect.gen(function*() {
    let hangs = 0
    const fiber = yield* Effect.forkChild(Effect.scoped(Effect.flatMap(
      Supervisor.make(Duration.minutes(1)),
      (it) => it.run(Effect.uninterruptible(Effect.never), () => Effect.sync(() => hangs++))
    )))
    yield* TestClock.adjust("1 second")
    const ending = yield* Effect.forkChild(Fiber.interrupt(fiber))
    yield* TestClock.adjust("2 seconds")
    expect(ending.pollUnsafe()).toBeDefined()
    expect(hangs).toBe(1)
  }))

it.live("time in which the process stood still does not count", () =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    let frozen = 0n
    // the process stands still for a minute in the middle of a run, and its timers with it
    const jumping: Clock.Clock = {
      ...clock,
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe() + frozen,
      sleep: (duration) => clock.sleep(duration)
    }
    const run = Effect.gen(function*() {
      yield* Effect.sleep("100 millis")
      frozen = 60_000_000_000n
      yield* Effect.sleep("100 millis")
    })
    const ended = yield* Effect.provideService(supervised("1 second", run), Clock.Clock, jumping)
    expect(ended._tag).toBe("Ended")
  }))
