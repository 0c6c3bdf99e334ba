/**
 * What a declared handler may name, and what the compiler refuses.
 */
import { Output, OutputGroup, TableHandler } from "effect-sluice"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { describe, expect, test } from "tstyche"

class Finding extends Output.make("schemas.clinic.laboratory.finding", {
  schema: Schema.Struct({
    text: Schema.String,
    at: Schema.Date,
    maybe: Schema.optionalKey(Schema.NullOr(Schema.Struct({ word: Schema.String }))),
    either: Schema.Union([
      Schema.Struct({ kind: Schema.Literal("blood"), iron: Schema.Finite }),
      Schema.Struct({ kind: Schema.Literal("image"), place: Schema.String })
    ]),
    items: Schema.Array(Schema.Struct({ name: Schema.String, dose: Schema.FiniteFromString }))
  })
}) {}

class Report extends Output.make("schemas.clinic.laboratory.report", {
  schema: Schema.Struct({
    panels: Schema.Array(Schema.Struct({
      name: Schema.String,
      values: Schema.optionalKey(
        Schema.NullOr(Schema.Array(Schema.Struct({ code: Schema.String, level: Schema.FiniteFromString })))
      )
    }))
  })
}) {}

class Other extends Output.make("schemas.clinic.laboratory.other", {
  schema: Schema.Struct({ number: Schema.Int })
}) {}

const Laboratory = OutputGroup.make("clinic", Finding)
const base = { table: "finding", object: "clinic.Finding" }

describe("a declared handler", () => {
  test("names fields of the encoded answer, of its call, and constants", () => {
    const layer = Laboratory.toLayer({
      finding: TableHandler.make(Finding, {
        ...base,
        maxAttempts: 3,
        permanent: (error) => String(error).includes("23505"),
        each: ({ output }) => output.items,
        columns: ({ call, item, output, place }) => ({
          simulation: call.context("simulationId"),
          hint: call.optionalContext("hint"),
          text: output.text,
          at: output.at,
          word: output.maybe.word,
          kind: output.either.kind,
          iron: output.either.iron,
          place_of_image: output.either.place,
          all: output.items,
          name: item.name,
          place,
          source: "laboratory",
          checked: false,
          nobody: null
        })
      })
    })
    expect(layer).type.toBe<Layer.Layer<OutputGroup.ToHandlers<"clinic", typeof Finding>>>()
  })

  test("knows the type of each field, on the encoded side", () => {
    TableHandler.make(Finding, {
      ...base,
      each: ({ output }) => output.items,
      columns: ({ item, output }) => {
        expect(output.text).type.toBeAssignableTo<TableHandler.Field<string>>()
        expect(item.dose).type.toBeAssignableTo<TableHandler.Field<string>>()
        expect(output.text).type.not.toBeAssignableTo<TableHandler.Field<number>>()
        return { text: output.text }
      }
    })
  })

  test("an unknown field", () => {
    // @ts-expect-error Property 'txet' does not exist
    TableHandler.make(Finding, { ...base, columns: ({ output }) => ({ text: output.txet }) })
    TableHandler.make(Finding, {
      ...base,
      each: ({ output }) => output.items,
      // @ts-expect-error Property 'label' does not exist
      columns: ({ item }) => ({ name: item.label })
    })
  })

  test("each of what is no array", () => {
    TableHandler.make(Finding, {
      ...base,
      // @ts-expect-error is not assignable to type
      each: ({ output }) => output.text,
      columns: ({ output }) => ({ text: output.text })
    })
  })

  test("an item without each", () => {
    // @ts-expect-error Property 'name' does not exist on type
    TableHandler.make(Finding, { ...base, columns: ({ item }) => ({ name: item.name }) })
    // @ts-expect-error there is a place only with each
    TableHandler.make(Finding, { ...base, columns: ({ place }) => ({ place }) })
  })

  test("a program in place of a field", () => {
    // @ts-expect-error Property 'toUpperCase' does not exist
    TableHandler.make(Finding, { ...base, columns: ({ output }) => ({ text: output.text.toUpperCase() }) })
    // @ts-expect-error Type '() => string' is not assignable to type
    TableHandler.make(Finding, { ...base, columns: () => ({ text: () => "now" }) })
  })

  test("an option that does not exist", () => {
    // @ts-expect-error 'retries' does not exist in type
    TableHandler.make(Finding, { ...base, columns: ({ output }) => ({ text: output.text }), retries: 3 })
    // @ts-expect-error 'isolation' does not exist in type
    TableHandler.make(Finding, { ...base, columns: ({ output }) => ({ text: output.text }), isolation: "batch" })
  })

  test("the declaration of another output", () => {
    Laboratory.toLayer({
      // @ts-expect-error is not assignable to type
      finding: TableHandler.make(Other, { ...base, columns: ({ output }) => ({ number: output.number }) })
    })
  })
})

describe("an array within each element", () => {
  test("knows the outer and the inner element, and both places", () => {
    TableHandler.make(Report, {
      ...base,
      each: ({ output }) => output.panels,
      inner: ({ item }) => item.values,
      columns: ({ inner, innerPlace, item, place }) => {
        expect(item.name).type.toBeAssignableTo<TableHandler.Field<string>>()
        expect(inner.level).type.toBeAssignableTo<TableHandler.Field<string>>()
        expect(innerPlace).type.toBe<TableHandler.Field<number>>()
        return { place, inner_place: innerPlace, name: item.name, code: inner.code }
      }
    })
  })

  test("is one, of an element, and its fields are known", () => {
    TableHandler.make(Report, {
      ...base,
      each: ({ output }) => output.panels,
      // @ts-expect-error is not assignable to type
      inner: ({ item }) => item.name,
      columns: ({ item }) => ({ name: item.name })
    })
    TableHandler.make(Report, {
      ...base,
      each: ({ output }) => output.panels,
      inner: ({ item }) => item.values,
      // @ts-expect-error Property 'label' does not exist
      columns: ({ inner }) => ({ name: inner.label })
    })
    TableHandler.make(Report, {
      ...base,
      each: ({ output }) => output.panels,
      // @ts-expect-error there is an inner place only with inner
      columns: ({ innerPlace }) => ({ place: innerPlace })
    })
  })
})

describe("the children of a declared handler", () => {
  test("have the parent's id, and an each of their own", () => {
    const layer = OutputGroup.make("clinic", Report).toLayer({
      report: TableHandler.make(Report, {
        ...base,
        columns: ({ call }) => ({ call_id: call.callId }),
        children: ({ child }) => [
          child({
            table: "panel",
            object: "clinic.Panel",
            each: ({ output }) => output.panels,
            columns: ({ item, parent, place }) => ({ report: parent, place, name: item.name }),
            key: ["report", "place"]
          }),
          child({
            table: "value",
            object: "clinic.Value",
            each: ({ output }) => output.panels,
            inner: ({ item }) => item.values,
            columns: ({ inner, item, parent }) => ({ report: parent, panel: item.name, code: inner.code })
          }),
          child({ table: "log", object: "clinic.Log", columns: ({ parent }) => ({ report: parent }) })
        ]
      })
    })
    expect(layer).type.toBe<Layer.Layer<OutputGroup.ToHandlers<"clinic", typeof Report>>>()
  })

  test("are of the parent's element, where it has one", () => {
    TableHandler.make(Report, {
      ...base,
      each: ({ output }) => output.panels,
      columns: ({ item }) => ({ name: item.name }),
      children: ({ child }) => [
        child({
          table: "value",
          object: "clinic.Value",
          inner: ({ item }) => item.values,
          columns: ({ inner, item, parent }) => ({ panel: parent, name: item.name, code: inner.code })
        }),
        child({
          table: "log",
          object: "l",
          // @ts-expect-error 'each' does not exist in type
          each: () => undefined,
          columns: ({ parent }) => ({ p: parent })
        })
      ]
    })
  })

  test("know their fields", () => {
    TableHandler.make(Report, {
      ...base,
      columns: ({ call }) => ({ call_id: call.callId }),
      children: ({ child }) => [
        child({
          table: "p",
          object: "p",
          each: ({ output }) => output.panels,
          // @ts-expect-error Property 'label' does not exist
          columns: ({ item }) => ({ n: item.label })
        }),
        // @ts-expect-error there is a place only with each
        child({ table: "p", object: "p", columns: ({ place }) => ({ place }) })
      ]
    })
    TableHandler.make(Report, {
      ...base,
      // @ts-expect-error Property 'parent' does not exist on type
      columns: ({ parent }) => ({ parent })
    })
  })

  test("are none of rows with inner", () => {
    TableHandler.make(Report, {
      ...base,
      each: ({ output }) => output.panels,
      inner: ({ item }) => item.values,
      columns: ({ inner }) => ({ code: inner.code }),
      // @ts-expect-error This expression is not callable
      children: ({ child }) => [child({ table: "p", object: "p", columns: () => ({ a: 1 }) })]
    })
  })
})
