/**
 * When a drain counts as fallen silent.
 */
import { it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import * as Pulse from "../../src/drain/pulse.ts"

const lease = Duration.seconds(1)
const longestRun = Duration.seconds(5)
const silent = (pulse: Pulse.Pulse) => Effect.map(pulse.health, ({ silent }) => silent)

describe("the pulse of a drain", () => {
  it.effect("counts a beat's silence from when the next one was to be, which may be many leases away", () =>
    Effect.gen(function*() {
      const pulse = yield* Pulse.make({ lease, longestRun, beatInterval: Duration.seconds(10) })
      expect(yield* silent(pulse)).toBe(undefined)
      pulse.beat(undefined)
      yield* TestClock.adjust("13 seconds")
      expect(yield* silent(pulse)).toBe(undefined)
      yield* TestClock.adjust("1 second")
      expect(yield* silent(pulse)).toBe("no beat has ended for 14s")
      pulse.beat(undefined)
      expect(yield* silent(pulse)).toBe(undefined)
    }))

  it.effect("of one that beats at its cycles only is not silent between them", () =>
    Effect.gen(function*() {
      const pulse = yield* Pulse.make({ lease, longestRun, beatInterval: Duration.zero })
      pulse.beat(undefined)
      yield* TestClock.adjust("1 day")
      expect(yield* silent(pulse)).toBe(undefined)
    }))

  it.effect("is silent when a cycle comes no further for three leases and the longest run, and not while it idles", () =>
    Effect.gen(function*() {
      const pulse = yield* Pulse.make({ lease, longestRun, beatInterval: Duration.seconds(10) })
      yield* TestClock.adjust("1 day")
      expect(yield* silent(pulse)).toBe(undefined)
      yield* Effect.forkChild(pulse.watch("run", Effect.never), { startImmediately: true })
      yield* TestClock.adjust("8 seconds")
      pulse.progress()
      yield* TestClock.adjust("8 seconds")
      expect(yield* silent(pulse)).toBe(undefined)
      yield* TestClock.adjust("1 second")
      expect(yield* silent(pulse)).toBe("no cycle has come further for 9s")
    }))
})
