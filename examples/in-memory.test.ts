/**
 * Shows how an application tests its handlers: in memory, in milliseconds, with nothing to install or to clean up.
 */
import { expect, layer } from "@effect/vitest"
import { CallRecorder, DomainEvents, Drain, HandlerRegistry, ServiceCall, Settings } from "effect-sluice"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { ChatlabHandlers } from "./chatlab/handlers.ts"
import { Messages } from "./chatlab/Messages.ts"
import { Chatlab, PatientReply } from "./chatlab/outputs.ts"
import * as repositories from "./chatlab/repositories.ts"

const application = Layer.mergeAll(CallRecorder.layer, Drain.layer).pipe(
  Layer.provide(HandlerRegistry.layer(Chatlab)),
  Layer.provide(ChatlabHandlers),
  Layer.provide(DomainEvents.layer),
  Layer.provideMerge(repositories.layerMemory),
  Layer.provideMerge(MemoryStore.layer),
  Layer.provideMerge(Settings.layer())
)

/** A recorded reply. `encode` fails for an answer that the schema does not allow, like it does in production. */
const reply = Effect.fnUntraced(function*(callId: string, text: string, context: { readonly simulationId?: string }) {
  const output = yield* PatientReply.encode({
    image_requested: false,
    messages: [{ role: "patient", content: [{ type: "output_text", text }], item_meta: {} }],
    llm_conditions_check: []
  })
  return {
    callId,
    namespace: "chatlab",
    service: "services.chatlab.standardized_patient.generate-reply",
    context,
    outputs: [output]
  } satisfies ServiceCall.ServiceCall
})

layer(application)("the handlers of the chat laboratory", (it) => {
  it.effect("a reply becomes a message, once", () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      const drain = yield* Drain.Drain
      const call = yield* reply("call-1", "It hurts on the inside.", { simulationId: "knee-1" })

      expect(yield* recorder.record(call)).toBe("recorded")
      expect(yield* drain.untilEmpty).toMatchObject({ persisted: 1 })
      // a redelivery changes nothing
      expect(yield* recorder.record(call)).toBe("unchanged")
      expect(yield* drain.untilEmpty).toMatchObject({ claimed: 0 })

      expect(yield* (yield* Messages).list).toMatchObject([
        { simulationId: "knee-1", order: 1, content: "It hurts on the inside." }
      ])
    }))

  it.effect("a reply to no simulation is a dead letter that says so", () =>
    Effect.gen(function*() {
      yield* (yield* CallRecorder.CallRecorder).record(yield* reply("call-2", "Hello?", {}))
      const error = yield* Effect.flip((yield* Drain.Drain).persistNow("call-2"))
      expect(error).toMatchObject({ _tag: "ChunkDead", reason: "rejected" })
      expect(error.message).toContain("simulationId")
    }))
})
