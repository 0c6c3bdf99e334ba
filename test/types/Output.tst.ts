/**
 * What of the elements of an answer must not compile.
 */
import { Output, type ServiceCall } from "effect-sluice"
import * as Schema from "effect/Schema"
import { describe, expect, test } from "tstyche"

class Finding extends Output.make("schemas.clinic.ward.finding", {
  schema: Schema.Struct({ code: Schema.NumberFromString, text: Schema.String })
}) {}
class Note extends Output.make("schemas.clinic.ward.note", { schema: Schema.String }) {}
declare const elements: ReadonlyArray<Schema.Json>

describe("the elements of an answer", () => {
  test("with the part by index, by a property, by a function", () => {
    expect(Finding.each(elements)).type.toBe<ReadonlyArray<ServiceCall.RecordedOutput>>()
    expect(Finding.each).type.toBeCallableWith(elements, { part: "code" as const })
    expect(Note.each).type.toBeCallableWith(elements, { part: (_: Schema.Json, index: number) => index })
  })

  test("that are not JSON, or with the part by a property that there is not", () => {
    expect(Finding.each).type.not.toBeCallableWith([undefined])
    expect(Finding.each).type.not.toBeCallableWith(elements, { part: "codes" as const })
    expect(Note.each).type.not.toBeCallableWith(elements, { part: "codes" as const })
  })
})
