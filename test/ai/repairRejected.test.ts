/**
 * Answers that a handler rejected are asked for again, as often as is allowed and paid for once each, whatever dies in
 * between; in memory and on Postgres.
 */
import { it } from "@effect/vitest"
import {
  CallRecorder,
  DeadLetters,
  DomainEvents,
  DomainObject,
  Drain,
  Handler,
  HandlerRegistry,
  Inspector,
  OutputGroup,
  Settings
} from "effect-sluice"
import * as Answer from "effect-sluice/ai"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as PgStore from "effect-sluice/store/PgStore"
import * as AiError from "effect/ai/AiError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { describe, expect } from "vitest"
import { untilEmpty } from "../support/drain.ts"
import * as Postgres from "../support/Postgres.ts"
import { callOf, mockModel, PatientReply } from "./mockModel.ts"

const Chatlab = OutputGroup.make("chatlab", PatientReply)
const handlers = Chatlab.toLayer({
  "patient-reply": ({ call, output }) =>
    output.pain > 5
      ? new Handler.HandlerRejected({ reason: `a pain of ${output.pain} is not in the case: at most 5` })
      : Effect.succeed([DomainObject.make("chatlab.Answer", `${call.callId}: ${output.pain}`)])
})
const services = Layer.mergeAll(CallRecorder.layer, Drain.layer).pipe(
  Layer.provide(HandlerRegistry.layer(Chatlab)),
  Layer.provide(handlers),
  Layer.provide(DomainEvents.layer)
)
const settings = Settings.layer({ lease: Duration.seconds(1) })
const stores = {
  memory: services.pipe(Layer.provideMerge(MemoryStore.layer), Layer.provideMerge(settings)),
  Postgres: services.pipe(
    Layer.provideMerge(PgStore.layer),
    Layer.provideMerge(settings),
    Layer.provide(Layer.unwrap(Effect.sync(() => Postgres.layer())))
  )
}

const saying = (pain: unknown) => ({ text: JSON.stringify({ text: "My knee", pain }) })
const prompt = "Where does it hurt?"
const call = callOf("visit-7")
const found = Effect.flatMap(
  CallRecorder.CallRecorder,
  (recorder) => Effect.map(recorder.find("visit-7"), Option.getOrThrow)
)
/** The request: answered with a pain that the handler rejects. */
const request = Answer.generateObject(PatientReply, { call, prompt, input: "prompt" })
/** Asks again for what the handler has rejected, with its message, at most twice for each answer. */
const repairs = Answer.repairRejected(PatientReply, { most: 2 }).pipe(Effect.repeat(Schedule.spaced("1 minute")))
const repaired = (most: number) => Answer.repairRejected(PatientReply, { most })
const created = Inspector.Inspector.use((inspector) =>
  Effect.map(
    inspector.call("visit-7"),
    (view) => Option.getOrThrow(view).chunks[0]?.ledger?.objects.map(({ id }) => id)
  )
)

for (const [name, store] of Object.entries(stores)) {
  describe(`on ${name}`, () => {
    it.live(
      "with the handler's reason; the chunk goes on with the new answer, an attempt more of the same call",
      () => {
        const model = mockModel(saying(8), saying(3))
        return Effect.gen(function*() {
          yield* request
          expect(yield* untilEmpty).toMatchObject({ dead: 1 })
          const repairing = yield* Effect.forkChild(repairs)
          const letters = yield* DeadLetters.DeadLetters
          yield* Effect.repeat(Effect.delay(letters.count({}), 20), { until: (counts) => counts.length === 0 })
          yield* Fiber.interrupt(repairing)
          expect(yield* repaired(2)).toEqual({ repaired: 0, failed: 0 })
          const turns = model.asked[1]?.prompt.content.map(({ content, role }) => [role, JSON.stringify(content)])
          expect(turns?.map(([role]) => role)).toEqual(["user", "assistant", "user"])
          expect(turns?.[0]?.[1]).toContain(prompt)
          expect(turns?.[1]?.[1]).toContain("pain\\\":8")
          expect(turns?.[2]?.[1]).toContain("a pain of 8 is not in the case: at most 5")
          expect(yield* untilEmpty).toMatchObject({ persisted: 1 })
          expect(yield* created).toEqual(["visit-7: 3"])
          expect(yield* found).toMatchObject({
            status: "succeeded",
            attempts: [
              { ...saying(8), facts: { inputTokens: 100 } },
              { ...saying(3), outcome: "succeeded", facts: { inputTokens: 100, outputTokens: 20 } }
            ]
          })
          const again = yield* request
          expect([again.ran, again.value.pain]).toEqual([false, 3])
          expect(model.asked).toHaveLength(2)
          const inspector = yield* Inspector.Inspector
          expect(yield* inspector.usage({ by: "model" })).toMatchObject([
            { calls: 1, failed: 0, invalid: 0, attempts: 2, inputTokens: 200, outputTokens: 40 }
          ])
        }).pipe(Effect.provide(model.layer), Effect.provide(store, { local: true }))
      },
      60_000
    )

    it.live("never more often than allowed, whether the answers are rejected or do not fit", () => {
      const model = mockModel(
        saying(8),
        { fail: new AiError.InternalProviderError({ description: "down" }) },
        saying("seven"),
        saying(9),
        saying(1)
      )
      return Effect.gen(function*() {
        yield* request
        yield* untilEmpty
        expect(yield* repaired(0)).toEqual({ repaired: 0, failed: 0 })
        // without an answer nothing was paid for
        expect(yield* repaired(2)).toEqual({ repaired: 0, failed: 1 })
        expect(yield* repaired(2)).toEqual({ repaired: 0, failed: 1 })
        expect((yield* found).attempts.map(({ outcome }) => outcome)).toEqual(["succeeded", "invalid"])
        expect(yield* repaired(2)).toEqual({ repaired: 1, failed: 0 })
        expect(yield* untilEmpty).toMatchObject({ dead: 1 })
        expect(yield* repaired(2)).toEqual({ repaired: 0, failed: 0 })
        expect(model.asked).toHaveLength(4)
        const never = Answer.repairRejected(PatientReply, { most: 9, when: ({ message }) => !message.includes("pain") })
        expect(yield* never).toEqual({ repaired: 0, failed: 0 })
        const letters = yield* DeadLetters.DeadLetters
        expect(yield* letters.list({}, { limit: 9 })).toMatchObject([{ message: expect.stringContaining("pain of 9") }])
      }).pipe(Effect.provide(model.layer), Effect.provide(store, { local: true }))
    }, 60_000)

    it.live("when a process dies with it: before its answer is recorded once more, afterwards not again", () => {
      const model = mockModel(saying(8), saying(2), saying(4))
      return Effect.gen(function*() {
        yield* request
        yield* untilEmpty
        const letters = yield* DeadLetters.DeadLetters
        // it dies with the answer in its hands
        const dying = DeadLetters.DeadLetters.of({ ...letters, endRepair: () => Effect.die("killed") })
        yield* Effect.exit(Effect.provideService(repaired(1), DeadLetters.DeadLetters, dying))
        expect(model.asked).toHaveLength(2)
        // nobody asks while it may live; its lease ends
        const later = yield* Effect.repeat(Effect.delay(repaired(1), 50), { until: ({ repaired }) => repaired > 0 })
        expect(later).toEqual({ repaired: 1, failed: 0 })
        expect(model.asked).toHaveLength(3)
        yield* untilEmpty
        expect(yield* created).toEqual(["visit-7: 4"])
        expect((yield* found).attempts).toHaveLength(2)
      }).pipe(Effect.provide(model.layer), Effect.provide(store, { local: true }))
    }, 60_000)

    it.live("when a process dies after the commit: it was paid for once, and the chunk goes on", () => {
      const model = mockModel(saying(8), saying(2), saying(4))
      return Effect.gen(function*() {
        yield* request
        yield* untilEmpty
        const letters = yield* DeadLetters.DeadLetters
        const dying = DeadLetters.DeadLetters.of({
          ...letters,
          endRepair: (...args) => Effect.andThen(letters.endRepair(...args), Effect.die("killed"))
        })
        const exit = yield* Effect.exit(Effect.provideService(repaired(1), DeadLetters.DeadLetters, dying))
        expect(Exit.isSuccess(exit) && exit.value).toEqual({ repaired: 0, failed: 1 })
        expect(yield* repaired(1)).toEqual({ repaired: 0, failed: 0 })
        yield* untilEmpty
        expect(yield* created).toEqual(["visit-7: 2"])
        expect(model.asked).toHaveLength(2)
        expect((yield* found).attempts).toHaveLength(2)
      }).pipe(Effect.provide(model.layer), Effect.provide(store, { local: true }))
    }, 60_000)

    it.live("not without a prompt, nor twice at the same time", () => {
      const model = mockModel(saying(8), saying(2), saying(4))
      return Effect.gen(function*() {
        yield* Answer.generateObject(PatientReply, { call, prompt })
        yield* untilEmpty
        expect(yield* repaired(1)).toEqual({ repaired: 0, failed: 1 })
        expect(model.asked).toHaveLength(1)
        const asked = Answer.repairRejected(PatientReply, { most: 1, prompt: () => Effect.succeed(prompt) })
        const both = yield* Effect.all([asked, asked], { concurrency: 2 })
        expect(both.map(({ repaired }) => repaired).sort()).toEqual([0, 1])
        expect(model.asked).toHaveLength(2)
      }).pipe(Effect.provide(model.layer), Effect.provide(store, { local: true }))
    }, 60_000)
  })
}
