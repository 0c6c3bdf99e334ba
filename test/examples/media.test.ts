/**
 * Images are attached by a durable subscription: a crash between commit and announcement loses none.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, DomainEvents, Drain, HandlerRegistry, ServiceCall, Settings } from "effect-sluice"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Pglite from "effect-sluice/store/Pglite"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { expect } from "vitest"
import { ChatlabHandlers } from "../../examples/chatlab/handlers.ts"
import { Media, MediaSubscriber } from "../../examples/chatlab/Media.ts"
import { Chatlab } from "../../examples/chatlab/outputs.ts"
import * as repositories from "../../examples/chatlab/repositories.ts"

/** The drain of a program that dies after its commits: nobody hears its announcements. */
const unheard = Drain.layer.pipe(
  Layer.provide(HandlerRegistry.layer(Chatlab)),
  Layer.provide(ChatlabHandlers),
  Layer.provide(DomainEvents.layer)
)

const reply = (n: number): ServiceCall.ServiceCall => ({
  callId: `call-${n}`,
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply",
  context: { simulationId: "knee" },
  outputs: [{
    schema: "schemas.chatlab.standardized_patient.patient-reply",
    version: 1,
    data: {
      image_requested: n % 2 === 0,
      messages: [{ role: "patient", content: [{ type: "output_text", text: String(n) }] }]
    }
  }]
})

const places = [
  [
    "memory",
    repositories.layerMemory.pipe(Layer.provideMerge(MemoryStore.layer), Layer.provideMerge(Settings.layer()))
  ],
  [
    "embedded",
    Layer.merge(PgStore.layer, repositories.layerPg).pipe(
      Layer.provide(Pglite.layer()),
      Layer.provideMerge(Settings.layer())
    )
  ]
] as const

for (const [name, place] of places) {
  const application = CallRecorder.layer.pipe(Layer.provideMerge(place), Layer.orDie)
  layer(application, { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    it.effect(
      "what was committed before the crash gets its image after it, once, and so does what comes",
      () =>
        Effect.gen(function*() {
          const recorder = yield* CallRecorder.CallRecorder
          const media = yield* Media
          const drained = Effect.provide(Drain.Drain.use((drain) => drain.untilEmpty), unheard)
          const attached = (images: number) =>
            Effect.repeat(media.count, { until: (count) => count.attached === images && count.missing === 0 })

          yield* recorder.recordMany([1, 2, 3, 4].map(reply))
          yield* drained
          expect(yield* media.count).toEqual({ attached: 0, missing: 2 })

          yield* Effect.provide(attached(2), MediaSubscriber)
          // run again, as the next program would
          yield* Effect.gen(function*() {
            yield* recorder.recordMany([5, 6].map(reply))
            yield* drained
            yield* attached(3)
          }).pipe(Effect.provide(MediaSubscriber))
        })
    )
  })
}
