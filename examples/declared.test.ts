/**
 * Shows how an application tests a declared handler in memory: what its tables hold after a drain.
 */
import { expect, it } from "@effect/vitest"
import { CallRecorder, Drain, HandlerRegistry, Output, OutputGroup, TableHandler } from "effect-sluice"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import { layerMemory, sampleCall } from "effect-sluice/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

class Plan extends Output.make("schemas.clinic.ward.plan", {
  version: 1,
  schema: Schema.Struct({ title: Schema.String, drugs: Schema.Array(Schema.Struct({ name: Schema.String })) })
}) {}

const Clinic = OutputGroup.make("clinic", Plan)

const ClinicHandlers = Clinic.toLayer({
  plan: TableHandler.make(Plan, {
    table: "plan",
    object: "clinic.Plan",
    columns: ({ call, output }) => ({ bed: call.context("bed"), title: output.title }),
    children: ({ child }) => [
      child({
        table: "drug",
        object: "clinic.Drug",
        each: ({ output }) => output.drugs,
        columns: ({ item, parent }) => ({ plan: parent, name: item.name })
      })
    ]
  })
})

const application = layerMemory(HandlerRegistry.layer(Clinic).pipe(Layer.provide(ClinicHandlers)))

/** The rows of a table that a declaration has written. */
const rowsOf = (table: string) =>
  Effect.flatMap(
    MemoryDatabase.MemoryDatabase,
    (db) => db.use((access) => access.values(MemoryDatabase.table(table)))
  )

it.effect("a plan becomes a row, and each of its drugs a row of its own", () =>
  Effect.gen(function*() {
    const plan = { title: "After the fall", drugs: [{ name: "ibuprofen" }, { name: "paracetamol" }] }
    yield* (yield* CallRecorder.CallRecorder).record(yield* sampleCall(Plan, plan, { context: { bed: "7" } }))
    expect(yield* (yield* Drain.Drain).untilEmpty).toMatchObject({ persisted: 1 })
    expect(yield* rowsOf("plan")).toMatchObject([{ bed: "7", title: "After the fall" }])
    expect(yield* rowsOf("drug")).toMatchObject([{ name: "ibuprofen" }, { name: "paracetamol" }])
  }).pipe(Effect.provide(application)))
