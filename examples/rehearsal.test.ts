/**
 * Shows how an application tests its handlers against the faults of production. The rehearsal kills workers at every
 * boundary and delivers calls twice; the tables must be those of a clean run.
 */
import { expect, it } from "@effect/vitest"
import { DomainObject, HandlerPlugin, HandlerRegistry } from "effect-sluice"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import { exactlyOnce, layerMemory, sampleCall } from "effect-sluice/testing"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { ChatlabHandlers } from "./chatlab/handlers.ts"
import { Messages } from "./chatlab/Messages.ts"
import { Chatlab, PatientReply } from "./chatlab/outputs.ts"
import * as repositories from "./chatlab/repositories.ts"

const reply = (callId: string, text: string) =>
  sampleCall(
    PatientReply,
    {
      messages: [{ role: "patient", content: [{ type: "output_text", text }], item_meta: {} }],
      image_requested: false,
      llm_conditions_check: []
    },
    { callId, context: { simulationId: "knee-1" } }
  )
const calls = Effect.all([reply("call-1", "It hurts."), reply("call-2", "On the inside.")])

it.live("the handlers of the chat laboratory", () =>
  Effect.gen(function*() {
    yield* exactlyOnce({
      application: layerMemory(HandlerRegistry.layer(Chatlab).pipe(Layer.provide(ChatlabHandlers))).pipe(
        Layer.provideMerge(repositories.layerMemory),
        Layer.provideMerge(MemoryDatabase.layer)
      ),
      calls: yield* calls,
      tables: Effect.map(
        Effect.flatMap(Messages, (messages) => messages.list),
        (messages) => messages.map(({ content, order }) => [order, content])
      )
    })
  }))

/** A mailbox. A rollback does not remove its content. */
class Mailbox extends Context.Service<Mailbox, Array<string>>()("Mailbox") {
  static readonly layer = Layer.sync(Mailbox, (): Array<string> => [])
}

it.live("a handler that writes where no transaction reaches is caught", () =>
  Effect.gen(function*() {
    const careless = HandlerPlugin.layer(
      "chatlab",
      PatientReply,
      Effect.fnUntraced(function*({ call }) {
        const mailbox = yield* Mailbox
        mailbox.push(call.callId)
        return DomainObject.make("chatlab.Mail", call.callId)
      })
    )
    const error = yield* Effect.flip(exactlyOnce({
      application: layerMemory(HandlerRegistry.layer().pipe(Layer.provide(careless))).pipe(
        Layer.provideMerge(Mailbox.layer)
      ),
      calls: yield* calls,
      tables: Mailbox
    }))
    expect(error.message).toContain("Does a handler write outside its transaction?")
    expect(error.message).toContain(`tables has "call-1" too much`)
  }))
