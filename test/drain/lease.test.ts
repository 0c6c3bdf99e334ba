/**
 * What a claim notices of its lease.
 */
import { expect, it } from "@effect/vitest"
import { ChunkStore } from "effect-sluice/ChunkStore"
import * as Settings from "effect-sluice/Settings"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Lease from "../../src/drain/lease.ts"

/** What is logged while a lease of 30 seconds is renewed, by timers that are late by this much. */
const logged = (late: Duration.Input) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const store = yield* ChunkStore
    let passed = 0n
    let renewals = 0
    const jumping: Clock.Clock = {
      currentTimeMillisUnsafe: () => 0,
      currentTimeMillis: Effect.succeed(0),
      currentTimeNanosUnsafe: () => 0n,
      currentTimeNanos: Effect.succeed(0n),
      monotonicTimeNanosUnsafe: () => passed,
      monotonicTimeNanos: Effect.sync(() => passed),
      sleep: (duration) =>
        Effect.suspend(() => {
          if (renewals > 3) return Effect.never
          passed += BigInt(Duration.toMillis(Duration.sum(duration, Duration.fromInputUnsafe(late)))) * 1_000_000n
          return Effect.void
        })
    }
    const counted = { ...store, renew: () => Effect.sync(() => (renewals++, [])) }
    const keeping = Effect.flatMap(Lease.make("token", Duration.seconds(30), () => []), ({ keep }) =>
      Effect.raceFirst(keep, Effect.repeat(Effect.yieldNow, { until: () => renewals > 3 })))
    yield* keeping.pipe(
      Effect.provideService(ChunkStore, counted),
      Effect.provideService(Clock.Clock, jumping),
      Effect.provide(Logger.layer([Logger.make(({ message }) =>
        void lines.push(String(message))
      )]))
    )
    return lines
  }).pipe(Effect.provide(MemoryStore.layer.pipe(Layer.provide(Settings.layer()))))

it.effect("a process that was stopped for longer than its lease logs that once; one that was only slow does not", () =>
  Effect.gen(function*() {
    const [line, ...others] = yield* logged("5 minutes")
    expect(line).toContain("this process stood still for 5m 10s, longer than its lease")
    expect(others).toEqual([])
    expect(yield* logged("20 seconds")).toEqual([])
  }))
