/**
 * A batch of the chat laboratory is a handful of statements, however many chunks are in it.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, DomainEvents, Drain, HandlerRegistry, ServiceCall, Settings } from "effect-sluice"
import * as Pglite from "effect-sluice/store/Pglite"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Tracer from "effect/Tracer"
import { expect } from "vitest"
import { ChatlabHandlers } from "../../examples/chatlab/handlers.ts"
import { Messages } from "../../examples/chatlab/Messages.ts"
import { Metadata } from "../../examples/chatlab/Metadata.ts"
import { Chatlab, type PatientInitial, type PatientReply, type PatientResults } from "../../examples/chatlab/outputs.ts"
import * as repositories from "../../examples/chatlab/repositories.ts"

const application = Layer.mergeAll(CallRecorder.layer, Drain.layer).pipe(
  Layer.provide(HandlerRegistry.layer(Chatlab)),
  Layer.provide(ChatlabHandlers),
  Layer.provideMerge(repositories.layerPg),
  Layer.provide([PgStore.layer, DomainEvents.layer]),
  Layer.provide(Pglite.layer()),
  Layer.provide(Settings.layer({ batchSize: 1000 }))
)

/** Runs an effect and gives back the text of every statement it sent, and how many transactions it made. */
const traced = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const result = yield* Effect.withTracer(effect, tracer)
  const statements = spans.flatMap((span) => {
    const text = span.attributes.get("db.query.text")
    return typeof text === "string" ? [text] : []
  })
  return { result, statements, transactions: spans.filter((span) => span.name === "sql.transaction").length }
})

const item = (text: string, key?: string) => ({
  role: "patient",
  content: [{ type: "output_text", text }],
  item_meta: key === undefined ? {} : { key }
})

type Kind =
  | typeof PatientInitial["shortName"]
  | typeof PatientReply["shortName"]
  | typeof PatientResults["shortName"]

/** Every answer makes two messages, two metadata rows, or both. */
const answers: { readonly [K in Kind]: (n: number) => ServiceCall.RecordedOutput["data"] } = {
  "patient-initial": (n) => ({
    messages: [item(`${n}a`), item(`${n}b`)],
    metadata: [item("54", "age"), item("none", "allergies")]
  }),
  "patient-reply": (n) => ({ image_requested: false, messages: [item(`${n}a`), item(`${n}b`)] }),
  "patient-results": () => ({ metadata: [item("healthy"), item("tired")] })
}

const calls = (kind: Kind, name: string, count: number, simulationOf: (n: number) => string) =>
  Array.from({ length: count }, (_, n): ServiceCall.ServiceCall => ({
    callId: `${name}-${n}`,
    namespace: "chatlab",
    service: "services.chatlab.standardized_patient.generate",
    context: { simulationId: simulationOf(n) },
    orderingKey: simulationOf(n),
    outputs: [{ schema: `schemas.chatlab.standardized_patient.${kind}`, version: 1, data: answers[kind](n) }]
  }))

/** Records calls and drains them in one cycle; counts what the cycle sent. */
const statementsOf = Effect.fnUntraced(function*(batch: ReadonlyArray<ServiceCall.ServiceCall>) {
  const drain = yield* Drain.Drain
  // now, so that the worker's sign of life is not counted
  yield* drain.cycle
  yield* (yield* CallRecorder.CallRecorder).recordMany(batch)
  const { result, statements, transactions } = yield* traced(drain.cycle)
  expect(result).toMatchObject({ claimed: batch.length, persisted: batch.length })
  return {
    chatlab: statements.filter((text) => text.includes("chatlab.")).length,
    // begin and commit are none of the client's statements
    all: statements.length + 2 * transactions
  }
})

layer(application, { excludeTestServices: true, timeout: 60_000 })("statements of a batch", (it) => {
  for (
    const [kind, chatlab] of [
      // the simulations; the messages; the taken keys and the metadata
      ["patient-initial", 4],
      ["patient-reply", 2],
      ["patient-results", 3]
    ] as const
  ) {
    it.effect(`${kind}: as many for 100 simulations as for 10`, () =>
      Effect.gen(function*() {
        const [ten, hundred] = yield* Effect.forEach([10, 100], (count) => {
          const name = `${kind}-${count}`
          return statementsOf(calls(kind, name, count, (n) => `${name}-${n}`))
        })
        expect(hundred).toEqual(ten)
        expect(hundred!.chatlab).toBe(chatlab)
        // besides: the claim, begin, ledger and settlement, who waited for the keys, commit
        expect(hundred!.all).toBeLessThanOrEqual(chatlab + 8)
      }))
  }

  it.effect("replies of one simulation: as many for 100 as for 10, in order", () =>
    Effect.gen(function*() {
      for (const count of [10, 100]) {
        const name = `one-${count}`
        const { chatlab } = yield* statementsOf(calls("patient-reply", name, count, () => name))
        expect(chatlab).toBe(2)
        const said = (yield* (yield* Messages).list).filter((message) => message.simulationId === name)
        expect(said.map(({ order }) => order)).toEqual(said.map((_, index) => index + 1))
        expect(said.map(({ content }) => content)).toEqual(
          Array.from({ length: count }, (_, n) => [`${n}a`, `${n}b`]).flat()
        )
      }
    }))

  it.effect("a key that several findings of a batch bring is numbered, none is lost", () =>
    Effect.gen(function*() {
      yield* statementsOf(calls("patient-results", "keys", 3, () => "keys"))
      const found = (yield* (yield* Metadata).list).filter((row) => row.simulationId === "keys")
      expect(found.map(({ key }) => key)).toEqual([
        "result",
        "result-2",
        "result-3",
        "result-4",
        "result-5",
        "result-6"
      ])
    }))
})
