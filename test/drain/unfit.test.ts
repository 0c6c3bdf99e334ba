/**
 * A handler that asks for a service which nobody provided: the program's fault, and no chunk's.
 */
import { it } from "@effect/vitest"
import { Drain, HandlerPlugin, HandlerRegistry } from "effect-sluice"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/testing/TestClock"
import { describe, expect } from "vitest"
import { application, Note, note, record } from "../support/clinic.ts"
import { chunkOf, drainWith, untilEmpty } from "../support/drain.ts"

class Beds extends Context.Service<Beds, number>()("clinic/Beds") {}

/**
 * A registry whose handler asks for the beds when it is run, which no compiler sees where a module is loaded by its name.
 */
const registry = (when: (text: string) => boolean) =>
  HandlerRegistry.layer().pipe(
    Layer.provide(
      HandlerPlugin.layer("clinic", Note, ({ output }) =>
        when(output.text) ? Effect.asVoid(Beds) : Effect.void) as Layer.Layer<never>
    )
  )

describe("a handler whose service was not provided", () => {
  it.effect("costs no attempt: its chunks are parked, and the log says so once", () => {
    const lines: Array<string> = []
    return Effect.gen(function*() {
      yield* record(note("a"), note("b"))
      expect(yield* untilEmpty).toMatchObject({ parked: 2, retried: 0, dead: 0 })
      yield* record(note("c"))
      expect(yield* untilEmpty).toMatchObject({ parked: 1 })
      // it does not take up again what it cannot run
      yield* TestClock.adjust("1 minute")
      expect(yield* untilEmpty).toMatchObject({ claimed: 0 })
      for (const id of ["a", "b", "c"]) {
        expect(yield* chunkOf(id)).toMatchObject({
          state: "parked",
          parkedFor: "no-handler",
          attempts: 0,
          failures: []
        })
      }
      expect(lines).toEqual([
        expect.stringMatching(/^handler clinic\/note cannot run here: .* service clinic\/Beds, which/)
      ])

      // a program that has it takes them up
      const whole = drainWith().pipe(Layer.provide(Layer.fresh(registry(() => false))))
      expect(yield* Effect.provide(untilEmpty, whole as Layer.Layer<Drain.Drain>, { local: true })).toMatchObject({
        claimed: 3,
        parked: 0
      })
    }).pipe(
      Effect.provide(application({}, registry(() => true))),
      Effect.provide(Logger.layer([Logger.make(({ logLevel, message }) => {
        if (logLevel === "Error") lines.push(String(message))
      })]))
    )
  })

  it.effect("for some chunks only, after it did its work for others, fails with those like any bug", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      expect(yield* untilEmpty).toMatchObject({ nothingToCreate: 1 })
      yield* record(note("b", { text: "odd" }), note("c"))
      expect(yield* untilEmpty).toMatchObject({ nothingToCreate: 1, retried: 1, parked: 0 })
    }).pipe(Effect.provide(application({}, registry((text) => text === "odd")))))
})
