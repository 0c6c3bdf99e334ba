/**
 * Calls of a declared shape: what is recorded of them, and what handlers are given.
 */
import { describe, expect, it } from "@effect/vitest"
import { CallRecorder, CallShape, DomainObject, Drain, HandlerRegistry, Output, OutputGroup } from "effect-sluice"
import { layerMemory, runHandler, sampleInput } from "effect-sluice/testing"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

class Note extends Output.make("schemas.clinic.ward.note", { schema: Schema.Struct({ text: Schema.String }) }) {}
class Chart extends Output.make("schemas.clinic.ward.chart", { schema: Schema.Struct({ at: Schema.DateTimeUtc }) }) {}
const Clinic = OutputGroup.make("clinic", Note, Chart)

const ClinicCall = CallShape.make(Clinic, {
  services: ["services.clinic.ward.take-notes"],
  context: { ward: Schema.String, admitted: Schema.DateTimeUtc, bed: Schema.optionalKey(Schema.Int) }
})

const admitted = DateTime.makeUnsafe("2026-03-01T08:00:00Z")
const call = (callId: string, context: { readonly ward: string; readonly bed?: number }) =>
  ClinicCall.make({
    callId,
    service: "services.clinic.ward.take-notes",
    orderingKey: context.ward,
    context: { admitted, ...context },
    outputs: [[Note, { text: "slept well" }], [Chart, { at: admitted }, { part: "first" }]]
  })

const seen: Array<unknown> = []
const handlers = Clinic.toLayer(Effect.succeed(Clinic.of({
  "note": ({ call }) =>
    Effect.map(ClinicCall.context(call), (context) => {
      seen.push(context)
      return DomainObject.make("clinic.Note", context.bed ?? 0)
    }),
  "chart": ({ output }) => Effect.sync(() => void seen.push(output.at))
})))

describe("a call of a shape", () => {
  it.effect("is recorded as JSON, under the group's namespace", () =>
    Effect.gen(function*() {
      expect(yield* call("call-1", { ward: "east" })).toEqual({
        callId: "call-1",
        namespace: "clinic",
        service: "services.clinic.ward.take-notes",
        orderingKey: "east",
        context: { ward: "east", admitted: "2026-03-01T08:00:00.000Z" },
        outputs: [
          { schema: Note.identity, version: 1, data: { text: "slept well" } },
          { schema: Chart.identity, version: 1, part: "first", data: { at: "2026-03-01T08:00:00.000Z" } }
        ]
      })
    }))

  it.effect("gives its handlers the context with its types", () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      yield* recorder.record(yield* call("call-1", { ward: "east", bed: 7 }))
      yield* recorder.record(yield* call("call-2", { ward: "west" }))
      expect(yield* (yield* Drain.Drain).untilEmpty).toMatchObject({ persisted: 2, nothingToCreate: 2, retried: 0 })
      expect(seen).toEqual([{ ward: "east", admitted, bed: 7 }, { ward: "west", admitted }, admitted, admitted])
    }).pipe(Effect.provide(layerMemory(HandlerRegistry.layer(Clinic).pipe(Layer.provide(handlers))))))

  it.effect("that was recorded without a key of its shape is refused, and the key is named", () =>
    Effect.gen(function*() {
      const problemOf = (context: { readonly [key: string]: Schema.Json }) =>
        Effect.flip(ClinicCall.context(sampleInput(Note, { text: "a" }, { context }).call))
      expect((yield* problemOf({ ward: "east" })).message).toMatch(/^context "admitted" of call sample is missing/)
      expect((yield* problemOf({ ward: 7 })).message).toMatch(/^context "ward" of call sample does not decode/)
      expect((yield* problemOf({ ward: "east", admitted: "2026-03-01T08:00:00Z", bed: "7" })).message)
        .toMatch(/^context "bed" of call sample does not decode/)
      expect(yield* Effect.flip(Effect.provide(runHandler(Clinic, Note, { text: "a" }), handlers)))
        .toMatchObject({ _tag: "ContextMissing", key: "ward" })
    }))
})
