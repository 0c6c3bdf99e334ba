/**
 * What of a recorded call, and of its context in a handler, must not compile.
 */
import { CallShape, Handler, Output, OutputGroup, ServiceCall } from "effect-sluice"
import type { ContextMissing } from "effect-sluice/Handler"
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describe, expect, test } from "tstyche"

class Note extends Output.make("schemas.clinic.ward.note", { schema: Schema.Struct({ text: Schema.String }) }) {}
class Chart extends Output.make("schemas.clinic.ward.chart", { schema: Schema.Struct({ bed: Schema.Int }) }) {}
class Bill extends Output.make("schemas.clinic.office.bill", { schema: Schema.Struct({ text: Schema.String }) }) {}
const Clinic = OutputGroup.make("clinic", Note, Chart)

const ClinicCall = CallShape.make(Clinic, {
  services: ["services.clinic.ward.take-notes", "services.clinic.ward.draw-chart"],
  context: { ward: Schema.String, admitted: Schema.DateTimeUtc, bed: Schema.optionalKey(Schema.Int) }
})
declare const admitted: DateTime.Utc
declare const call: Handler.HandlerCall
const good = { callId: "a", service: "services.clinic.ward.take-notes", context: { ward: "east", admitted } } as const

describe("a recorded call", () => {
  test("complete", () => {
    expect(ClinicCall.make({ ...good, outputs: [[Note, { text: "a" }], [Chart, { bed: 1 }, { part: "b" }]] }))
      .type.toBe<Effect.Effect<ServiceCall.ServiceCall, Schema.SchemaError>>()
  })

  test("of a service that is misspelt", () => {
    expect(ClinicCall.make).type.not.toBeCallableWith({
      ...good,
      service: "services.clinic.ward.take-note",
      outputs: []
    })
  })

  test("whose context lacks a key, or has one of another type or one too many", () => {
    expect(ClinicCall.make).type.not.toBeCallableWith({ ...good, context: { admitted }, outputs: [] })
    expect(ClinicCall.make).type.not.toBeCallableWith({ ...good, context: { ward: 7, admitted }, outputs: [] })
    expect(ClinicCall.make).type.not.toBeCallableWith({
      callId: "a",
      service: "services.clinic.ward.take-notes",
      context: { ward: "east", admitted, wrad: "east" },
      outputs: []
    })
  })

  test("with an output of another group, or a value of another output", () => {
    expect(ClinicCall.make).type.not.toBeCallableWith({ ...good, outputs: [[Bill, { text: "a" }]] })
    expect(ClinicCall.make).type.not.toBeCallableWith({ ...good, outputs: [[Chart, { text: "a" }]] })
  })

  test("under another namespace", () => {
    expect(ClinicCall.make).type.not.toBeCallableWith({
      callId: "a",
      namespace: "office",
      service: "services.clinic.ward.take-notes",
      context: { ward: "east", admitted },
      outputs: []
    })
  })
})

test("the context in a handler", () => {
  expect(ClinicCall.context(call)).type.toBe<
    Effect.Effect<
      { readonly ward: string; readonly admitted: DateTime.Utc; readonly bed?: number },
      ContextMissing
    >
  >()
})

test("a service that is no identity", () => {
  expect(CallShape.make).type.not.toBeCallableWith(Clinic, { services: ["take-notes"], context: {} })
})
