/**
 * The handlers of the chat laboratory. Each is written for one chunk; that a hundred of them become one statement, that
 * they commit together with the ledger, and that none is persisted twice is Sluice's business.
 */
import { DomainObject, type HandlerCall } from "effect-sluice"
import * as Effect from "effect/Effect"
import { Messages } from "./Messages.ts"
import { Metadata } from "./Metadata.ts"
import { Chatlab, type OutputItem, textOf } from "./outputs.ts"
import { Simulations } from "./Simulations.ts"

/** The key of a finding that brings none. */
export const defaultKey = "result"

/** The types of the rows the handlers make, as the ledger and the events name them. */
export const MessageType = "chatlab.Message"
export const MetadataType = "chatlab.SimulationMetadata"

/** The layer of the handlers, over the tables' repositories. */
export const ChatlabHandlers = Chatlab.toLayer(Effect.gen(function*() {
  const simulations = yield* Simulations
  const messages = yield* Messages
  const metadata = yield* Metadata

  /** The simulation a call belongs to, made and locked. */
  const open = Effect.fnUntraced(function*(call: HandlerCall) {
    const simulationId = yield* call.context("simulationId")
    yield* simulations.touch(simulationId)
    return { simulationId, callId: call.callId }
  })

  // Concurrently, because only what is asked for at once becomes one statement; the order asked for is kept.
  const writeMessages = (
    to: { readonly simulationId: string; readonly callId: string },
    items: ReadonlyArray<OutputItem>,
    imageRequested: boolean
  ) =>
    Effect.forEach(
      items,
      (item, index) =>
        Effect.map(
          messages.insert({
            ...to,
            role: item.role,
            content: textOf(item),
            // one image a reply, at its last message
            imageRequested: imageRequested && index === items.length - 1
          }),
          (row) => DomainObject.make(MessageType, row.id)
        ),
      { concurrency: "unbounded" }
    )

  const writeMetadata = (
    to: { readonly simulationId: string; readonly callId: string },
    items: ReadonlyArray<OutputItem>
  ) =>
    Effect.forEach(
      items,
      (item) =>
        Effect.map(
          metadata.insert({ ...to, key: item.item_meta.key || defaultKey, value: textOf(item) }),
          (row) => DomainObject.make(MetadataType, row.id)
        ),
      { concurrency: "unbounded" }
    )

  return Chatlab.of({
    "patient-initial": Effect.fn("PatientInitial.persist")(function*({ output, call }) {
      const to = yield* open(call)
      const said = yield* writeMessages(to, output.messages, false)
      const found = yield* writeMetadata(to, output.metadata)
      return [...said, ...found]
    }),
    "patient-reply": Effect.fn("PatientReply.persist")(function*({ output, call }) {
      return yield* writeMessages(yield* open(call), output.messages, output.image_requested)
    }),
    "patient-results": Effect.fn("PatientResults.persist")(function*({ output, call }) {
      return yield* writeMetadata(yield* open(call), output.metadata)
    })
  })
}))
