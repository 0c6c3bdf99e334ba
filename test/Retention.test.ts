/**
 * Retention that runs by itself.
 */
import { it } from "@effect/vitest"
import { Retention } from "effect-sluice"
import { ChunkStoreError } from "effect-sluice/ChunkStore"
import * as RetentionModule from "effect-sluice/Retention"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/testing/TestClock"
import { expect } from "vitest"

const nothing = { payloads: 0, discarded: 0, failures: 0, answers: 0, ends: 0 }

it.effect("prunes at the start and after each interval, and goes on after a failure, which it logs", () => {
  const policies: Array<unknown> = []
  const lines: Array<string> = []
  const log = Logger.make(({ logLevel, message }) => {
    lines.push(`${logLevel} ${String(message)}`)
  })
  const store = Layer.succeed(
    Retention.Retention,
    Retention.Retention.of({
      prune: (policy) =>
        Effect.suspend(() => {
          policies.push(policy)
          return policies.length === 2
            ? Effect.fail(new ChunkStoreError({ operation: "prune", transient: true, reason: "no server" }))
            : Effect.succeed(nothing)
        }),
      preview: () => Effect.succeed(nothing),
      rollUp: Effect.succeed(0)
    })
  )
  return Effect.gen(function*() {
    yield* Layer.build(
      RetentionModule.layer({ payloads: "90 days", interval: "1 day" }).pipe(Layer.provide(store))
    )
    yield* TestClock.adjust(0)
    expect(policies).toMatchObject([{ payloads: "90 days" }])
    yield* TestClock.adjust("2 days")
    expect(policies).toHaveLength(3)
    expect(lines).toEqual([expect.stringMatching(/^Warn.*nothing was pruned; trying again later: .*no server/)])
  }).pipe(Effect.scoped, Effect.provide(Logger.layer([log])))
})
