/**
 * The handlers of the chat laboratory: what becomes of each kind of answer.
 *
 * There is no transaction here and no "was it persisted already": all a handler writes commits together with Sluice's
 * ledger, once for each chunk, or not at all.
 */
import { DomainObject, Handler } from "effect-sluice"
import * as Effect from "effect/Effect"
import { Messages, type NewMessage } from "./Messages.ts"
import { Metadata } from "./Metadata.ts"
import { Chatlab, type OutputItem, textOf } from "./outputs.ts"
import { Simulations } from "./Simulations.ts"

/** The types of the rows the handlers make, as the ledger and the events name them. */
export const MessageType = "chatlab.Message"
export const MetadataType = "chatlab.SimulationMetadata"

/** The key of a finding that brings none. */
export const defaultKey = "result"

/** Where the rows of a call belong. */
interface Source {
  readonly simulationId: string
  readonly callId: string
}

/** What a table is asked for at once becomes one statement; the order asked in is kept. */
const atOnce = { concurrency: "unbounded" } as const

/** The layer of the handlers, over the tables' repositories. */
export const ChatlabHandlers = Chatlab.toLayer(Effect.gen(function*() {
  const simulations = yield* Simulations
  const messages = yield* Messages
  const metadata = yield* Metadata

  /** The simulation a call belongs to, made if need be, and locked. */
  const open = Effect.fnUntraced(function*(call: Handler.HandlerCall) {
    const simulationId = yield* call.context("simulationId")
    yield* simulations.touch(simulationId)
    return { simulationId, callId: call.callId } satisfies Source
  })

  const say = (lines: ReadonlyArray<NewMessage>) =>
    Effect.forEach(
      lines,
      (line) => Effect.map(messages.insert(line), ({ id }) => DomainObject.make(MessageType, id)),
      atOnce
    )

  const note = (source: Source, items: ReadonlyArray<OutputItem>) =>
    Effect.forEach(items, (item) =>
      Effect.map(
        metadata.insert({ ...source, key: item.item_meta.key || defaultKey, value: textOf(item) }),
        ({ id }) => DomainObject.make(MetadataType, id)
      ), atOnce)

  return Chatlab.of({
    // written for one chunk, run for a hundred together: they send requests only, and their inserts become one
    "patient-initial": {
      isolation: "together",
      persist: Effect.fn("PatientInitial.persist")(function*({ output, call }) {
        const source = yield* open(call)
        const said = yield* say(linesOf(source, output.messages))
        const noted = yield* note(source, output.metadata)
        return [...said, ...noted]
      })
    },

    "patient-results": {
      isolation: "together",
      persist: Effect.fn("PatientResults.persist")(function*({ output, call }) {
        return yield* note(yield* open(call), output.metadata)
      })
    },

    // Of one simulation there may be many replies in a batch. A handler for one chunk would be run for them one after
    // another, to keep their order; asked for together they are one statement as well.
    "patient-reply": {
      persistMany: Effect.fn("PatientReply.persistMany")(function*(replies) {
        const sources = yield* Effect.forEach(replies, ({ call }) => open(call), atOnce)
        const lines = replies.map(({ output }, n) => linesOf(sources[n]!, output.messages, output.image_requested))
        const said = yield* say(lines.flat())
        return lines.map((own) => said.splice(0, own.length))
      })
    }
  })
}))

/** The messages of an answer. An image that was asked for goes with the last of them. */
const linesOf = (source: Source, items: ReadonlyArray<OutputItem>, imageRequested = false): ReadonlyArray<NewMessage> =>
  items.map((item, n) => ({
    ...source,
    role: item.role,
    content: textOf(item),
    imageRequested: imageRequested && n === items.length - 1
  }))
