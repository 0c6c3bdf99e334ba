/**
 * The handlers of the chat laboratory: they turn each kind of answer into rows.
 *
 * A handler has no transaction code and does not check whether a chunk is persisted already: its writes commit together with
 * Sluice's ledger, once for each chunk, or not at all.
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

/** The key of a finding that has none. */
export const defaultKey = "result"

/** The call and the simulation that rows belong to. */
interface Source {
  readonly simulationId: string
  readonly callId: string
}

/** Concurrent requests to a table become one statement, in the order of the requests. */
const atOnce = { concurrency: "unbounded" } as const

/** The layer of the handlers, over the tables' repositories. */
export const ChatlabHandlers = Chatlab.toLayer(Effect.gen(function*() {
  const simulations = yield* Simulations
  const messages = yield* Messages
  const metadata = yield* Metadata

  /** The simulation of a call: makes it if it does not exist, and locks it. */
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
    // written for one chunk, run for a hundred together: it sends requests only, and their inserts become one statement
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

    // A batch may hold many replies of one simulation. A handler for one chunk would run for them in sequence, to keep their
    // order. This handler takes them together, and their inserts become one statement as well.
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

/** The messages of an answer. A requested image belongs to the last of them. */
const linesOf = (source: Source, items: ReadonlyArray<OutputItem>, imageRequested = false): ReadonlyArray<NewMessage> =>
  items.map((item, n) => ({
    ...source,
    role: item.role,
    content: textOf(item),
    imageRequested: imageRequested && n === items.length - 1
  }))
