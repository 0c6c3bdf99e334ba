/**
 * Giving chunks back to a database that is away.
 */
import { describe, expect, it } from "@effect/vitest"
import { ChunkStore, ChunkStoreError } from "effect-sluice/ChunkStore"
import * as Settings from "effect-sluice/Settings"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as Releases from "../../src/drain/releases.ts"

describe("claims whose answer was not heard", () => {
  it.effect("in an outage the database is not asked more often the longer it lasts, and in the end all are given up", () =>
    Effect.gen(function*() {
      const memory = yield* ChunkStore
      let isAway = true
      let asked = 0
      const givenUp = new Set<string>()
      const releases = yield* Effect.provideService(Releases.make, ChunkStore, {
        ...memory,
        giveUp: (token) =>
          Effect.suspend(() => {
            asked++
            if (isAway) {
              return Effect.fail(new ChunkStoreError({ operation: "giveUp", transient: true, reason: "away" }))
            }
            givenUp.add(token)
            return Effect.void
          })
      })
      for (let minute = 0; minute < 10; minute++) {
        for (let claim = 0; claim < 60; claim++) {
          yield* releases.giveUp(`${minute}-${claim}`)
          yield* TestClock.adjust("1 second")
        }
        const before = asked
        yield* TestClock.adjust("1 minute")
        expect(asked - before).toBeLessThanOrEqual(61)
      }
      isAway = false
      yield* TestClock.adjust("2 seconds")
      expect(givenUp.size).toBe(600)
      // and the next at once
      yield* releases.giveUp("next")
      expect(givenUp.has("next")).toBe(true)
    }).pipe(Effect.scoped, Effect.provide(MemoryStore.layer.pipe(Layer.provide(Settings.layer())))))
})
