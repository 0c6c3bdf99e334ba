/**
 * A schema of the application may decode by an effect, and that may hang: it costs its own chunk an attempt, and holds up
 * nobody.
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
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { expect } from "vitest"
import { untilEmpty } from "../support/drain.ts"

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
