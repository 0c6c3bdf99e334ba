/**
 * Callers that go away while a statement is under way: the client lets it end if that takes only a moment, so it may have
 * taken something that nobody knows of.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, DeadLetters } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { expect } from "vitest"
import { call, keyOf, record, settle } from "../contract/operators/dialogues.ts"
import * as Postgres from "../support/Postgres.ts"

const recorder = Layer.unwrap(
  Effect.sync(() => CallRecorder.layer.pipe(Layer.provideMerge(PgStore.layer), Layer.provideMerge(Postgres.layer())))
)

/** Interrupts an effect after so many turns of the event loop. Returns whether that was before its end. */
const interruptedAfter = Effect.fnUntraced(function*<A, E, R>(turns: number, effect: Effect.Effect<A, E, R>) {
  const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
  for (let turn = 0; turn < turns; turn++) yield* Effect.promise(() => new Promise(setImmediate))
  yield* Fiber.interrupt(fiber)
  return Exit.hasInterrupts(yield* Fiber.await(fiber))
})

layer(recorder, { excludeTestServices: true, timeout: 60_000 })("a caller that goes away", (it) => {
  it.effect("while its run begins, leaves a call that can be run again at once", () =>
    Effect.gen(function*() {
      const { find, run } = yield* CallRecorder.CallRecorder
      for (let turns = 0; turns < 40; turns++) {
        const { outputs, ...spec } = call(`run-${turns}`)
        yield* interruptedAfter(turns, run(spec, Effect.never))
        expect((yield* run(spec, Effect.succeed(outputs))).ran).toBe(true)
        expect(yield* find(spec.callId)).toMatchObject({ value: { status: "succeeded", attempts: [] } })
      }
    }))

  it.effect("while a repair begins, leaves a letter that can be repaired at once", () =>
    Effect.gen(function*() {
      const { beginRepair } = yield* DeadLetters.DeadLetters
      const ids = Array.from({ length: 60 }, (_, turns) => `letter-${turns}`)
      yield* record(...ids.map((id) => call(id)))
      yield* settle(({ key: { callId } }) =>
        callId.startsWith("letter") ? { dead: "rejected", message: "the patient has no knee" } : "released"
      )
      for (const [turns, id] of ids.entries()) {
        const begin = beginRepair(keyOf(id), { most: 1, lease: Duration.minutes(1) })
        const isInterrupted = yield* interruptedAfter(turns, begin)
        expect(yield* begin).toMatchObject({ _tag: isInterrupted ? "Some" : "None" })
      }
    }))
})
