/**
 * A schema of the application may decode by an effect. That may hang: it costs its own chunk an attempt, and holds up
 * nobody. Or it may take long and then fail: the chunk is dead like any that does not decode.
 */
import { it } from "@effect/vitest"
import {
  CallRecorder,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Inspector,
  Output,
  Settings
} from "effect-sluice"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as TestClock from "effect/testing/TestClock"
import { expect } from "vitest"
import { chunkOf, untilEmpty } from "../support/drain.ts"

const Checked = Schema.String.pipe(Schema.decodeTo(Schema.String, {
  decode: SchemaGetter.transformEffect((text: string) =>
    text === "hangs" ? Effect.uninterruptible(Effect.never) : Effect.as(Effect.yieldNow, text)
  ),
  encode: SchemaGetter.passthrough()
}))

class Checkup extends Output.make("schemas.clinic.ward.checkup", {
  version: 1,
  schema: Schema.Struct({ text: Checked })
}) {}

const handler = HandlerPlugin.layer("clinic", Checkup, {
  timeout: "1 second",
  persist: ({ call }) => Effect.succeed(DomainObject.make("clinic.Checkup", call.callId))
})

const application = Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
  Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handler))),
  Layer.provide(DomainEvents.layer),
  Layer.provideMerge(MemoryStore.layer),
  Layer.provideMerge(Settings.layer())
)

it.live(
  "an output whose decoding never ends is charged as a timeout, and its mates are persisted",
  () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      for (const [callId, text] of [["first", "fine"], ["hangs", "hangs"], ["last", "fine"]] as const) {
        yield* recorder.record({
          callId,
          namespace: "clinic",
          service: "services.clinic.ward.examine",
          outputs: [{ schema: Checkup.identity, version: 1, data: { text } }]
        })
      }
      expect(yield* untilEmpty).toMatchObject({ claimed: 3, persisted: 2, retried: 1 })
      const view = Option.getOrThrow(yield* (yield* Inspector.Inspector).call("hangs"))
      expect(view.chunks[0]?.failures).toMatchObject([{ kind: "timeout" }])
    }).pipe(Effect.provide(application)),
  30_000
)

const Slow = Schema.String.pipe(Schema.decodeTo(Schema.Literals(["fine", "good"]), {
  decode: SchemaGetter.transformEffect((text: string) => Effect.as(Effect.sleep("2 seconds"), text as "fine")),
  encode: SchemaGetter.passthrough()
}))

class Referral extends Output.make("schemas.clinic.ward.referral", {
  version: 1,
  schema: Schema.Struct({ text: Slow })
}) {}

const many = HandlerPlugin.layer("clinic", Referral, {
  timeout: "1 minute",
  persistMany: (inputs) => Effect.succeed(inputs.map(({ call }) => DomainObject.make("clinic.Referral", call.callId)))
})

const one = HandlerPlugin.layer("clinic", Referral, {
  timeout: "1 minute",
  persist: ({ call }) => Effect.succeed(DomainObject.make("clinic.Referral", call.callId))
})

for (const [name, layer] of [["a handler", one], ["a persistMany", many]] as const) {
  it.effect(`an output of ${name} that takes long and then does not decode is dead at once, and no attempt is charged`, () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      for (const [callId, text] of [["first", "fine"], ["bad", "illegible"], ["last", "good"]] as const) {
        yield* recorder.record({
          callId,
          namespace: "clinic",
          service: "services.clinic.ward.examine",
          outputs: [{ schema: Referral.identity, version: 1, data: { text } }]
        })
      }
      const draining = yield* Effect.forkChild(untilEmpty)
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(draining)).toMatchObject({ claimed: 3, persisted: 2, dead: 1, retried: 0 })
      expect(yield* chunkOf("bad")).toMatchObject({
        state: "dead",
        attempts: 0,
        death: { reason: "undecodable", message: expect.stringContaining("at [\"text\"]") }
      })
    }).pipe(Effect.provide(
      Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
        Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(layer))),
        Layer.provide(DomainEvents.layer),
        Layer.provideMerge(MemoryStore.layer),
        Layer.provideMerge(Settings.layer())
      )
    )))
}
