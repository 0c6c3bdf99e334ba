/**
 * Declared handlers, on every store: whether a store persists the answers by itself or hands them out, the rows, the ledger
 * and the ends of the chunks are the same.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import * as CallRecorder from "../../CallRecorder.ts"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DomainEvents from "../../DomainEvents.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as Drain from "../../Drain.ts"
import * as HandlerPlugin from "../../HandlerPlugin.ts"
import * as HandlerRegistry from "../../HandlerRegistry.ts"
import * as Pauses from "../../Pauses.ts"
import type * as ServiceCall from "../../ServiceCall.ts"
import * as TableHandler from "../../TableHandler.ts"
import { Note, Order, Sign, Song } from "./declaredOutputs.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"
import { Rows, type Stage } from "./services.ts"

/** The drain of a ward, whose declared handlers write to the table of the stage. */
const ward = Effect.gen(function*() {
  const rows = yield* Rows
  const table = rows.table ?? ""
  const notes = HandlerPlugin.layer(
    "clinic",
    Note,
    TableHandler.make(Note, {
      version: 3,
      table,
      object: "clinic.Note",
      columns: ({ output }) => ({ text: output.text })
    })
  )
  const orders = HandlerPlugin.layer(
    "clinic",
    Order,
    TableHandler.make(Order, {
      table,
      object: "clinic.Item",
      each: ({ output }) => output.items,
      columns: ({ item }) => ({ text: item.name })
    })
  )
  const signs = HandlerPlugin.layer(
    "core",
    Sign,
    TableHandler.make(Sign, {
      table,
      object: "core.Sign",
      columns: ({ call }) => ({ text: call.context("sign") })
    })
  )
  const ownSigns = HandlerPlugin.layer(
    "triage",
    Sign,
    TableHandler.make(Sign, { table, object: "triage.Sign", columns: ({ call }) => ({ text: call.callId }) })
  )
  const songs = HandlerPlugin.layer("clinic", Song, {
    persist: ({ output: { text } }) => Effect.as(rows.add(text), DomainObject.make("clinic.Song", text))
  })
  const services = yield* Layer.build(
    Layer.fresh(Layer.merge(Drain.layer, CallRecorder.layer)).pipe(
      Layer.provide(
        HandlerRegistry.layer().pipe(
          Layer.provide(Layer.mergeAll(notes, orders, signs, ownSigns, songs)),
          Layer.fresh
        )
      ),
      Layer.provideMerge(Layer.fresh(DomainEvents.layer))
    )
  )
  const recorder = yield* Effect.provide(CallRecorder.CallRecorder, services)
  return {
    drain: yield* Effect.provide(Drain.Drain, services),
    events: yield* Effect.provide(DomainEvents.DomainEvents, services),
    record: (
      callId: string,
      output: ServiceCall.RecordedOutput,
      fields: Partial<ServiceCall.ServiceCall> = {}
    ) =>
      recorder.record({
        callId,
        namespace: "clinic",
        service: "services.clinic.ward.ask",
        outputs: [output],
        ...fields
      })
  }
})

/** Plays a scene where there is a table that a declaration can name. */
const onTable = (scene: Effect.Effect<unknown, unknown, Stage | Scope>) =>
  Effect.flatMap(Rows, (rows) => rows.table === undefined ? Effect.void : scene)

const note = (text: string) => Note.encode({ text })
const ledgerOf = (schemaIdentity: string, ...callIds: ReadonlyArray<string>) =>
  ChunkStore.ChunkStore.use((store) => store.ledger(callIds.map((callId) => ({ callId, schemaIdentity, part: "" }))))
const chunkOf = (callId: string) => Effect.map(inspect.call(callId), (view) => Option.getOrThrow(view).chunks[0])
const texts = Effect.flatMap(Rows, (rows) => Effect.map(rows.list, (list) => list.toSorted()))

export const declared = topic("declared", (test) => {
  test("answers become rows, ledger rows that name them, and events", () =>
    onTable(Effect.gen(function*() {
      const { drain, events, record } = yield* ward
      const stream = yield* events.subscribe
      const heard = yield* Effect.forkChild(Stream.runCollect(Stream.take(stream, 4)))
      yield* record("a", yield* note("first"), { correlationId: "visit", context: { bed: "1" } })
      yield* record("b", yield* note("second"))
      yield* record("c", yield* Order.encode({ items: [{ name: "iron" }, { name: "zinc" }] }))
      yield* record("d", yield* Order.encode({ items: [] }))
      expect(yield* drain.untilEmpty).toMatchObject({ claimed: 4, persisted: 3, nothingToCreate: 1 })
      expect(yield* texts).toEqual(["first", "iron", "second", "zinc"])
      const lines = [...yield* ledgerOf(Note.identity, "a", "b"), ...yield* ledgerOf(Order.identity, "c", "d")]
      const objects = new Map(lines.map(({ key, objects }) => [key.callId, objects]))
      expect(lines.find(({ key }) => key.callId === "a")).toMatchObject({
        namespace: "clinic",
        schemaVersion: 2,
        handler: "clinic/note",
        handlerVersion: 3,
        objects: [{ type: "clinic.Note" }]
      })
      expect(objects.get("c")).toMatchObject([{ type: "clinic.Item" }, { type: "clinic.Item" }])
      expect(objects.get("d")).toEqual([])
      const told = yield* Fiber.join(heard)
      expect(told.map(({ object }) => object.id).toSorted()).toEqual(
        lines.flatMap(({ objects }) => objects.map(({ id }) => id)).toSorted()
      )
      expect(told.find(({ key }) => key.callId === "a")).toMatchObject({
        object: objects.get("a")?.[0],
        namespace: "clinic",
        handler: "clinic/note",
        service: "services.clinic.ward.ask",
        correlationId: "visit",
        context: { bed: "1" }
      })
      expect(yield* drain.cycle).toMatchObject({ claimed: 0 })
    })))

  test("answers that must be claimed are persisted as well: older versions, JSON by hand, ordering keys, retries", () =>
    onTable(Effect.gen(function*() {
      const { drain, record } = yield* ward
      yield* record("encoded", yield* note("encoded"))
      yield* record("old", { schema: Note.identity, version: 1, data: { words: "old" } })
      yield* record("by hand", { schema: Note.identity, version: 2, data: { text: "by hand" } })
      yield* record("misfit", { schema: Note.identity, version: 2, data: { text: 4 } })
      yield* record("key 1", yield* note("key 1"), { orderingKey: "k" })
      yield* record("key 2", yield* note("key 2"), { orderingKey: "k" })
      yield* record("song", yield* Song.encode({ text: "song" }))
      yield* record("last", yield* note("last"))
      expect(yield* drain.untilEmpty).toMatchObject({ claimed: 8, persisted: 7, dead: 1 })
      expect(yield* texts).toEqual(["by hand", "encoded", "key 1", "key 2", "last", "old", "song"])
      const list = yield* (yield* Rows).list
      expect(list.indexOf("key 1")).toBeLessThan(list.indexOf("key 2"))
      expect(yield* chunkOf("misfit")).toMatchObject({ state: "dead", death: { reason: "undecodable" } })
    })))

  test("a handler of core serves namespaces without their own; an answer without its context is a dead letter", () =>
    onTable(Effect.gen(function*() {
      const { drain, record } = yield* ward
      const sign = yield* Sign.encode({ text: "sign" })
      yield* record("a", sign, { namespace: "clinic", context: { sign: "of clinic" } })
      yield* record("b", sign, { namespace: "ward", context: { sign: "of ward" } })
      yield* record("c", sign, { namespace: "triage", context: { sign: "of triage" } })
      yield* record("d", sign, { namespace: "ward", context: { sign: 4 } })
      expect(yield* drain.untilEmpty).toMatchObject({ claimed: 4, persisted: 3, dead: 1 })
      expect(yield* texts).toEqual(["c", "of clinic", "of ward"])
      const lines = yield* ledgerOf(Sign.identity, "a", "b", "c")
      expect(Object.fromEntries(lines.map((line) => [line.key.callId, [line.namespace, line.handler]]))).toEqual({
        a: ["clinic", "core/sign"],
        b: ["ward", "core/sign"],
        c: ["triage", "triage/sign"]
      })
      expect(yield* chunkOf("d")).toMatchObject({ state: "dead", death: { reason: "rejected" } })
    })))

  test("chunks of a paused kind are parked, in one namespace or in all", () =>
    onTable(Effect.gen(function*() {
      const { drain, record } = yield* ward
      const pauses = yield* Pauses.Pauses
      const sign = yield* Sign.encode({ text: "sign" })
      yield* pauses.pause({ namespace: "clinic", schemaIdentity: Note.identity }, "the table is being moved")
      yield* pauses.pause({ namespace: "ward", schemaIdentity: "*" }, "the ward is closed")
      yield* record("a", yield* note("note"))
      yield* record("b", sign, { namespace: "ward", context: { sign: "of ward" } })
      yield* record("c", sign, { namespace: "clinic", context: { sign: "of clinic" } })
      yield* record("d", yield* Order.encode({ items: [{ name: "iron" }] }))
      expect(yield* drain.untilEmpty).toMatchObject({ claimed: 4, persisted: 2, parked: 2 })
      expect(yield* texts).toEqual(["iron", "of clinic"])
      expect(yield* chunkOf("a")).toMatchObject({ state: "parked", attempts: 0 })
      expect(yield* chunkOf("b")).toMatchObject({ state: "parked", attempts: 0 })
    })))

  test(
    "chunks of a higher priority are persisted first, whatever their handlers are",
    () =>
      onTable(Effect.gen(function*() {
        const { drain, record } = yield* ward
        yield* record("a", yield* note("late note"))
        yield* record("b", yield* Song.encode({ text: "late song" }))
        yield* record("c", yield* Song.encode({ text: "soon song" }), { priority: 1000 })
        yield* record("d", yield* note("soon note"), { priority: 1000 })
        yield* drain.untilEmpty
        const list = yield* (yield* Rows).list
        expect(list.slice(0, 2).toSorted()).toEqual(["soon note", "soon song"])
        expect(list.slice(2).toSorted()).toEqual(["late note", "late song"])
      })),
    { batchSize: 2 }
  )
})
