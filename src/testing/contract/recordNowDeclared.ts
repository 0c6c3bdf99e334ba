/**
 * Recorded and persisted in one commit by a declared handler, on every store: whether the store does it by itself or runs
 * the handler, rows, ledger and the ends of the chunks are the same.
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
import { Rows, type Stage, Time } from "./services.ts"

/** The drain of a ward, whose declared handlers write to the table of the stage. */
const ward = Effect.gen(function*() {
  const rows = yield* Rows
  const table = rows.table ?? ""
  const notes = TableHandler.make(Note, {
    version: 3,
    table,
    object: "clinic.Note",
    columns: ({ output }) => ({ text: output.text })
  })
  const orders = TableHandler.make(Order, {
    table,
    object: "clinic.Item",
    each: ({ output }) => output.items,
    columns: ({ item }) => ({ text: item.name })
  })
  const signs = TableHandler.make(Sign, {
    table,
    object: "core.Sign",
    columns: ({ call }) => ({ text: call.context("sign") })
  })
  const songs = HandlerPlugin.layer("clinic", Song, {
    persist: ({ output: { text } }) => Effect.as(rows.add(text), DomainObject.make("clinic.Song", text))
  })
  const handlers = Layer.mergeAll(
    HandlerPlugin.layer("clinic", Note, notes),
    HandlerPlugin.layer("clinic", Order, orders),
    HandlerPlugin.layer("core", Sign, signs),
    songs
  )
  const services = yield* Layer.build(
    Layer.fresh(Layer.merge(Drain.layer, CallRecorder.layer)).pipe(
      Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handlers), Layer.fresh)),
      Layer.provideMerge(Layer.fresh(DomainEvents.layer))
    )
  )
  const drain = yield* Effect.provide(Drain.Drain, services)
  return {
    drain,
    recorder: yield* Effect.provide(CallRecorder.CallRecorder, services),
    events: yield* Effect.provide(DomainEvents.DomainEvents, services),
    recordNow: (...args: Parameters<typeof call>) => drain.recordNow(call(...args))
  }
})

/** Plays a scene where there is a table that a declaration can name. */
const onTable = (scene: Effect.Effect<unknown, unknown, Stage | Scope>) =>
  Effect.flatMap(Rows, (rows) => rows.table === undefined ? Effect.void : scene)

const note = (text: string) => Note.encode({ text })
const items = (...names: ReadonlyArray<string>) => Order.encode({ items: names.map((name) => ({ name })) })
const call = (
  callId: string,
  outputs: ReadonlyArray<ServiceCall.RecordedOutput>,
  fields: Partial<ServiceCall.ServiceCall> = {}
): ServiceCall.ServiceCall => ({ callId, namespace: "clinic", service: "services.clinic.ward.ask", outputs, ...fields })
const chunks = (callId: string) => Effect.map(inspect.call(callId), (view) => Option.getOrThrow(view).chunks)
const states = (callId: string) => Effect.map(chunks(callId), (list) => list.map(({ state }) => state))
const texts = Effect.flatMap(Rows, (rows) => rows.list)

export const recordNowDeclared = topic("recordNow", (test) => {
  test("by a declared handler: answers become rows, ledger rows that name them, and events", () =>
    onTable(Effect.gen(function*() {
      const { drain, events, recordNow } = yield* ward
      const stream = yield* events.subscribe
      const parts = [{ ...yield* note("first"), part: "1" }, { ...yield* note("second"), part: "2" }]
      const objects = yield* recordNow("a", parts, { correlationId: "visit", context: { bed: "1" } })
      expect(objects.map(({ type }) => type)).toEqual(["clinic.Note", "clinic.Note"])
      expect(yield* texts).toEqual(["first", "second"])
      const store = yield* ChunkStore.ChunkStore
      const key = (part: string) => ({ callId: "a", schemaIdentity: Note.identity, part })
      const lines = yield* store.ledger([key("1"), key("2")])
      expect(lines.toSorted((a, b) => a.key.part < b.key.part ? -1 : 1)).toMatchObject(
        objects.map((object) => ({
          namespace: "clinic",
          schemaVersion: 2,
          handler: "clinic/note",
          handlerVersion: 3,
          objects: [object]
        }))
      )
      expect(yield* Stream.runCollect(Stream.take(stream, 2))).toMatchObject(
        objects.map((object) => ({ object, correlationId: "visit", context: { bed: "1" }, handler: "clinic/note" }))
      )
      expect(yield* drain.cycle).toMatchObject({ claimed: 0 })
    })))

  test("by a declared handler: a row for each element, and none without any", () =>
    onTable(Effect.gen(function*() {
      const { recordNow } = yield* ward
      expect(yield* recordNow("a", [yield* items("iron", "zinc")])).toHaveLength(2)
      expect(yield* recordNow("b", [yield* items()])).toEqual([])
      expect(yield* texts).toEqual(["iron", "zinc"])
      expect([yield* states("a"), yield* states("b")]).toEqual([["persisted"], ["nothing-to-create"]])
    })))

  test("by a declared handler: a call that is recorded already makes no row again; with other content it is a conflict", () =>
    onTable(Effect.gen(function*() {
      const { recorder, recordNow } = yield* ward
      const objects = yield* recordNow("a", [yield* note("a")])
      expect(yield* recordNow("a", [yield* note("a")])).toEqual(objects)
      expect(yield* recorder.record(call("a", [yield* note("a")]))).toBe("unchanged")
      expect(yield* Effect.flip(recordNow("a", [yield* note("b")]))).toMatchObject({ _tag: "CallConflict" })
      // recorded, and not yet persisted
      yield* recorder.record(call("b", [yield* note("b")]))
      expect(yield* recordNow("b", [yield* note("b")])).toHaveLength(1)
      expect(yield* texts).toEqual(["a", "b"])
    })))

  test("by a declared handler: of two concurrent recordNow one persists the call, and both receive the objects", () =>
    onTable(Effect.gen(function*() {
      const { recordNow } = yield* ward
      const time = yield* Time
      const one = yield* note("a")
      const both = yield* Effect.forkChild(
        Effect.all([recordNow("a", [one]), recordNow("a", [one])], { concurrency: 2 })
      )
      yield* Effect.repeat(time.pass("10 millis"), { until: () => both.pollUnsafe() !== undefined })
      const [left, right] = yield* Fiber.join(both)
      expect(left).toEqual(right)
      expect(yield* texts).toEqual(["a"])
    })))

  test("by a declared handler: a call of a paused kind is recorded and parked, and none of its rows is written", () =>
    onTable(Effect.gen(function*() {
      const { drain, recordNow } = yield* ward
      const pauses = yield* Pauses.Pauses
      yield* pauses.pause({ namespace: "clinic", schemaIdentity: Note.identity }, "the table is being moved")
      expect(yield* Effect.flip(recordNow("a", [yield* note("a")]))).toMatchObject({ _tag: "ChunkBusy" })
      expect(yield* states("a")).toEqual(["parked"])
      expect(yield* recordNow("b", [yield* items("iron")])).toHaveLength(1)
      yield* pauses.pause({ namespace: "*", schemaIdentity: "*" }, "the clinic is closed")
      expect(yield* Effect.flip(recordNow("c", [yield* items("zinc")]))).toMatchObject({ _tag: "ChunkBusy" })
      expect(yield* texts).toEqual(["iron"])
      yield* pauses.resume({ namespace: "*", schemaIdentity: "*" })
      yield* pauses.resume({ namespace: "clinic", schemaIdentity: Note.identity })
      yield* drain.untilEmpty
      expect((yield* texts).toSorted()).toEqual(["a", "iron", "zinc"])
    })))

  test("by a declared handler: answers that must be claimed are persisted as well; one without its context is dead", () =>
    onTable(Effect.gen(function*() {
      const { recordNow } = yield* ward
      const old = { schema: Note.identity, version: 1, data: { words: "old" } }
      expect(yield* recordNow("old", [old])).toHaveLength(1)
      expect(yield* recordNow("hand", [{ schema: Note.identity, version: 2, data: { text: "by hand" } }])).toHaveLength(
        1
      )
      expect(yield* recordNow("key", [yield* note("key")], { orderingKey: "k" })).toHaveLength(1)
      const mixed = [yield* note("note"), yield* Song.encode({ text: "song" })]
      expect((yield* recordNow("mixed", mixed)).map(({ type }) => type)).toEqual(["clinic.Note", "clinic.Song"])
      const sign = [yield* Sign.encode({ text: "sign" })]
      expect(yield* recordNow("sign", sign, { context: { sign: "of the ward" } })).toMatchObject([{
        type: "core.Sign"
      }])
      expect(yield* texts).toEqual(["old", "by hand", "key", "note", "song", "of the ward"])
      expect(yield* Effect.flip(recordNow("lacks", sign, { context: { sign: 4 } }))).toMatchObject({
        _tag: "ChunkDead"
      })
      expect(yield* chunks("lacks")).toMatchObject([{ state: "dead", attempts: 1 }])
      expect(yield* texts).toHaveLength(6)
    })))

  test("by a declared handler: it is part of the caller's transaction", () =>
    onTable(Effect.gen(function*() {
      const { recordNow } = yield* ward
      const rows = yield* Rows
      const gone = Effect.andThen(recordNow("a", [yield* note("a")]), Effect.fail("back"))
      yield* Effect.flip(rows.transaction(gone))
      expect(yield* inspect.call("a")).toEqual(Option.none())
      expect(yield* texts).toEqual([])
      expect(yield* rows.transaction(recordNow("b", [yield* note("b")]))).toHaveLength(1)
      expect(yield* states("b")).toEqual(["persisted"])
      expect(yield* texts).toEqual(["b"])
    })))
})
