/**
 * Messages stand in the order of their calls, also when one has to be tried again.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, DomainEvents, Drain, HandlerRegistry, ServiceCall } from "effect-sluice"
import * as Settings from "effect-sluice/Settings"
import * as Pglite from "effect-sluice/store/Pglite"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SchemaError } from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import { expect } from "vitest"
import { ChatlabHandlers } from "../../examples/chatlab/handlers.ts"
import { Messages } from "../../examples/chatlab/Messages.ts"
import { Chatlab } from "../../examples/chatlab/outputs.ts"
import * as repositories from "../../examples/chatlab/repositories.ts"
import * as inspect from "../support/inspect.ts"

let refusing = true

/** The messages' table on a bad day: refuses call 0's message for as long as `refusing`. */
const refusingMessages = Layer.effect(
  Messages,
  Effect.map(Messages, (messages) =>
    Messages.of({
      ...messages,
      insert: (message) =>
        refusing && message.callId === "call-0"
          ? Effect.fail(new SchemaError(new SchemaIssue.InvalidValue()))
          : messages.insert(message)
    }))
)

const application = Layer.mergeAll(CallRecorder.layer, Drain.layer).pipe(
  Layer.provide(HandlerRegistry.layer(Chatlab)),
  Layer.provide(ChatlabHandlers),
  Layer.provide(refusingMessages),
  Layer.provideMerge(repositories.layerPg),
  Layer.provideMerge(PgStore.layer),
  Layer.provide([DomainEvents.layer, Pglite.layer()]),
  Layer.provide(Settings.layer())
)

const reply = (n: number): ServiceCall.ServiceCall => ({
  callId: `call-${n}`,
  namespace: "chatlab",
  service: "services.chatlab.standardized_patient.generate-reply",
  context: { simulationId: "knee" },
  orderingKey: "knee",
  outputs: [{
    schema: "schemas.chatlab.standardized_patient.patient-reply",
    version: 1,
    data: {
      image_requested: false,
      messages: [{ role: "patient", content: [{ type: "output_text", text: String(n) }] }]
    }
  }]
})

layer(application, { excludeTestServices: true, timeout: 60_000 })("order", (it) => {
  it.effect("a reply that was tried again still comes before the later ones", () =>
    Effect.gen(function*() {
      const drain = yield* Drain.Drain
      yield* (yield* CallRecorder.CallRecorder).recordMany([0, 1, 2, 3].map(reply))
      expect(yield* drain.cycle).toMatchObject({ retried: 1, persisted: 0 })
      refusing = false
      // nobody looks until the retry is due: the claim then finds it together with the later ones
      const isDue = inspect.status.pipe(
        Effect.map(([kind]) => kind !== undefined && kind.scheduled === 1 && kind.due === 4)
      )
      yield* Effect.repeat(Effect.delay(isDue, "50 millis"), { until: (due) => due })
      yield* drain.untilEmpty
      const said = yield* (yield* Messages).list
      expect(said.map(({ content, order }) => `${order}: ${content}`)).toEqual(["1: 0", "2: 1", "3: 2", "4: 3"])
    }))
})
