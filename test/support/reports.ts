/**
 * Declared handlers that write rows of several tables, their tables, and what is recorded for them.
 */
import {
  CallRecorder,
  DomainEvents,
  Drain,
  HandlerRegistry,
  Output,
  OutputGroup,
  Settings,
  TableHandler
} from "effect-sluice"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { Store } from "./declared.ts"

const schema = Schema.Struct({
  patient: Schema.String,
  panels: Schema.Array(Schema.Struct({
    name: Schema.String,
    values: Schema.optionalKey(Schema.NullOr(Schema.Array(
      Schema.Struct({ code: Schema.String, level: Schema.NullOr(Schema.Finite) })
    )))
  })),
  notes: Schema.optionalKey(Schema.NullOr(Schema.Array(Schema.String)))
})

/** A report: one row, with a row for each panel, each value and each note. */
export class Report extends Output.make("schemas.clinic.laboratory.report", { schema }) {}

/** The same answer as a row for each panel, with the rows of its values. */
export class Panels extends Output.make("schemas.clinic.laboratory.panels", { schema }) {}

/** The same answer as a row for each value of each panel. */
export class Values extends Output.make("schemas.clinic.laboratory.values", { schema }) {}

/** The outputs. */
export const Reports = OutputGroup.make("clinic", Report, Panels, Values)

/** One row for each report, with children of every kind. */
export const report = TableHandler.make(Report, {
  maxAttempts: 1,
  table: "report",
  object: "clinic.Report",
  id: "number",
  columns: ({ call, output }) => ({ number: call.callId, patient: output.patient }),
  children: ({ child }) => [
    child({
      table: "report_panel",
      object: "clinic.Panel",
      each: ({ output }) => output.panels,
      columns: ({ call, item, parent, place }) => ({ call_id: call.callId, report: parent, place, name: item.name })
    }),
    child({
      table: "report_value",
      object: "clinic.Value",
      each: ({ output }) => output.panels,
      inner: ({ item }) => item.values,
      columns: ({ inner, innerPlace, item, parent, place }) => ({
        report: parent,
        place,
        inner_place: innerPlace,
        panel: item.name,
        code: inner.code,
        level: inner.level
      })
    }),
    // one for each patient, whichever report came last
    child({
      table: "latest_report",
      object: "clinic.LatestReport",
      columns: ({ call, output, parent }) => ({
        patient: output.patient,
        report: parent,
        ward: call.context("ward"),
        panels: output.panels
      }),
      key: ["patient"]
    })
  ]
})

/** One row for each panel, which its values belong to. */
export const panels = TableHandler.make(Panels, {
  maxAttempts: 1,
  table: "panel",
  object: "clinic.Panel",
  each: ({ output }) => output.panels,
  columns: ({ call, item, place }) => ({ call_id: call.callId, place, name: item.name }),
  children: ({ child }) => [
    child({
      table: "panel_value",
      object: "clinic.Value",
      inner: ({ item }) => item.values,
      columns: ({ inner, innerPlace, parent }) => ({ panel: parent, place: innerPlace, code: inner.code })
    }),
    child({
      table: "panel_sign",
      object: "clinic.Sign",
      columns: ({ output, parent, place }) => ({ panel: parent, place, patient: output.patient, signed: false })
    })
  ]
})

/** One row for each value. */
export const values = TableHandler.make(Values, {
  maxAttempts: 1,
  table: "loose_value",
  object: "clinic.Value",
  each: ({ output }) => output.panels,
  inner: ({ item }) => item.values,
  columns: ({ call, inner, innerPlace, item, output, place }) => ({
    call_id: call.callId,
    place,
    inner_place: innerPlace,
    patient: output.patient,
    panel: item.name,
    code: inner.code,
    level: inner.level
  })
})

/** The tables. The ids of the panels are made so that they are not in the order of the rows. */
export const tables = [
  "create table report (number text primary key, patient text not null check (patient <> 'bad'))",
  `create table report_panel (
    id bigint generated always as identity primary key, call_id text, report text not null references report,
    place int not null, name text not null
  )`,
  `create table report_value (
    id bigint generated always as identity primary key, report text not null references report, place int not null,
    inner_place int not null, panel text not null, code varchar(8) not null, level numeric
  )`,
  `create table latest_report (
    id bigint generated always as identity primary key, patient text unique, report text references report, ward text,
    panels jsonb
  )`,
  "create table panel (id uuid primary key default gen_random_uuid(), call_id text, place int, name text not null)",
  `create table panel_value (
    id bigint generated always as identity primary key, panel uuid not null references panel, place int, code varchar(8)
  )`,
  `create table panel_sign (
    id bigint generated always as identity primary key, panel uuid not null references panel, place int, patient text,
    signed boolean
  )`,
  `create table loose_value (
    id bigint generated always as identity primary key, call_id text, place int, inner_place int, patient text, panel text,
    code varchar(8), level numeric
  )`
]

/** Recorder and drain, over a store. */
export const application = (store: Store) =>
  Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
    Layer.provideMerge(HandlerRegistry.layer(Reports)),
    Layer.provide(Reports.toLayer({ report, panels, values })),
    Layer.provideMerge(DomainEvents.layer),
    Layer.provideMerge(store),
    Layer.provideMerge(Settings.layer())
  )

/** An answer with two panels of two and one values, one without and one with null. */
export const answer = (patient: string): typeof schema.Type => ({
  patient,
  panels: [
    { name: "blood", values: [{ code: "Fe", level: 12.5 }, { code: "Zn", level: null }] },
    { name: "urine", values: [] },
    { name: "blood", values: [{ code: "Fe", level: 13 }] },
    { name: "skin" },
    { name: "hair", values: null }
  ]
})
