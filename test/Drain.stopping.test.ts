/**
 * A worker that is told to stop gives back what it holds before it is gone, though the database takes its time.
 */
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { expect } from "vitest"
import { application, note, record } from "./support/clinic.ts"
import { chunkOf, cycle, drainWith } from "./support/drain.ts"

it.effect("a worker that stops waits until its chunks are given back, and does not count as crashed", () =>
  Effect.gen(function*() {
    yield* record(note("a", { trouble: "hangs" }))
    const slow = drainWith((store) => ({
      settle: (token, settlements) => Effect.delay(store.settle(token, settlements), "100 millis")
    }))
    const worker = yield* Effect.forkChild(Effect.provide(cycle, slow, { local: true }))
    yield* TestClock.adjust("1 second")
    expect(yield* chunkOf("a")).toMatchObject({ state: "in-flight" })

    const stopped = yield* Effect.forkChild(Fiber.interrupt(worker))
    yield* TestClock.adjust("1 second")
    yield* Fiber.join(stopped)
    expect(yield* chunkOf("a")).toMatchObject({ state: "ready", attempts: 0, crashes: 0, leasedBy: null })
  }).pipe(Effect.provide(application())))
