/**
 * Recorded and persisted in one commit, on every store: what can be done at once is, and whatever cannot be is recorded all
 * the same.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as CallRecorder from "../../CallRecorder.ts"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DomainEvents from "../../DomainEvents.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as Drain from "../../Drain.ts"
import * as HandlerPlugin from "../../HandlerPlugin.ts"
import * as HandlerRegistry from "../../HandlerRegistry.ts"
import * as Output from "../../Output.ts"
import * as Pauses from "../../Pauses.ts"
import * as ServiceCall from "../../ServiceCall.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"
import { Rows, Time } from "./services.ts"

class Note extends Output.make("schemas.clinic.ward.note", {
  schema: Schema.Struct({
    text: Schema.String,
    trouble: Schema.optionalKey(Schema.Literals(["early", "late", "waits"]))
  })
}) {}
class Order extends Output.make("schemas.clinic.ward.order", { schema: Schema.Struct({ item: Schema.String }) }) {}

/** The drain, with handlers that count their runs. */
const ward = Effect.gen(function*() {
  const rows = yield* Rows
  const runs: Array<string> = []
  const begun = yield* Deferred.make<void>()
  const may = yield* Deferred.make<void>()
  const notes = HandlerPlugin.layer("clinic", Note, {
    retry: Schedule.spaced("10 seconds"),
    persist: Effect.fnUntraced(function*({ call, output: { text, trouble } }) {
      runs.push(call.callId)
      if (trouble === "early") return yield* Effect.fail(new Error("the ward is closed"))
      yield* rows.add(text)
      if (trouble === "late") return yield* Effect.fail(new Error("the ward is closed"))
      yield* Deferred.succeed(begun, undefined)
      if (trouble === "waits") yield* Deferred.await(may)
      return [DomainObject.make("clinic.Note", text)]
    })
  })
  const orders = HandlerPlugin.layer("clinic", Order, {
    persist: ({ output: { item } }) => Effect.as(rows.add(item), [DomainObject.make("clinic.Order", item)])
  })
  const services = yield* Layer.build(
    Layer.fresh(Layer.merge(Drain.layer, CallRecorder.layer)).pipe(
      Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(Layer.merge(notes, orders)), Layer.fresh)),
      Layer.provideMerge(Layer.fresh(DomainEvents.layer))
    )
  )
  const drain = yield* Effect.provide(Drain.Drain, services)
  const recorder = yield* Effect.provide(CallRecorder.CallRecorder, services)
  return { drain, recorder, runs, begun, may, events: yield* Effect.provide(DomainEvents.DomainEvents, services) }
})

const note = (text: string, trouble?: "early" | "late" | "waits") => ({
  schema: Note.identity,
  version: 1,
  data: { text, ...(trouble === undefined ? {} : { trouble }) }
})
const order = (item: string) => ({ schema: Order.identity, version: 1, data: { item } })
const call = (
  callId: string,
  outputs: ReadonlyArray<ServiceCall.RecordedOutput>,
  fields: Partial<ServiceCall.ServiceCall> = {}
): ServiceCall.ServiceCall => ({ callId, namespace: "clinic", service: "services.clinic.ward.ask", outputs, ...fields })
const chunks = (callId: string) => Effect.map(inspect.call(callId), (view) => Option.getOrThrow(view).chunks)
const states = (callId: string) => Effect.map(chunks(callId), (list) => list.map(({ state }) => state))

const tokenOf = (n: number) => `018f3d2a-7c1e-7000-8000-00000000000${n}`

/** Chunks like those of a call: those of another with its outputs, which stays held. */
const held = Effect.fnUntraced(function*(one: ServiceCall.ServiceCall, callId: string) {
  const store = yield* ChunkStore.ChunkStore
  yield* store.record([{ ...one, callId }])
  const { chunks } = yield* store.claim({
    token: tokenOf(9),
    worker: "w",
    limit: 10,
    maxBytes: 1e9,
    lease: Duration.minutes(1)
  })
  return chunks
})

export const recordNow = topic("recordNow", (test) => {
  test("recordNow records and persists a call, and returns the objects in the order of the outputs", () =>
    Effect.gen(function*() {
      const { drain, runs } = yield* ward
      const one = call("a", [{ ...note("first"), part: "1" }, order("x-ray"), { ...note("second"), part: "2" }])
      const objects = yield* drain.recordNow(one)
      expect(objects.map(({ id }) => id)).toEqual(["first", "x-ray", "second"])
      expect(yield* states("a")).toEqual(["persisted", "persisted", "persisted"])
      expect((yield* (yield* Rows).list).toSorted()).toEqual(["first", "second", "x-ray"])
      expect(runs).toEqual(["a", "a"])
      expect(yield* drain.cycle).toMatchObject({ claimed: 0 })
    }))

  test("recordNow of a call that is recorded already runs no handler again; with other content it is a conflict", () =>
    Effect.gen(function*() {
      const { drain, recorder, runs } = yield* ward
      const objects = yield* drain.recordNow(call("a", [note("a")]))
      expect(yield* drain.recordNow(call("a", [note("a")]))).toEqual(objects)
      expect(yield* recorder.record(call("a", [note("a")]))).toBe("unchanged")
      expect(yield* Effect.flip(drain.recordNow(call("a", [note("b")])))).toMatchObject({ _tag: "CallConflict" })
      // recorded, and not yet persisted
      yield* recorder.record(call("b", [note("b")]))
      expect(yield* drain.recordNow(call("b", [note("b")]))).toMatchObject([{ id: "b" }])
      expect(runs).toEqual(["a", "b"])
      expect(yield* Effect.flip(drain.recordNow(call("", [note("c")])))).toMatchObject({ _tag: "CallRefused" })
    }))

  test("recordNow records a call whose handler fails, and charges one attempt", () =>
    Effect.gen(function*() {
      const { drain, runs } = yield* ward
      for (const trouble of ["early", "late"] as const) {
        expect(yield* Effect.flip(drain.recordNow(call(trouble, [note(trouble, trouble)])))).toMatchObject({
          _tag: "HandlerFailed",
          attempt: 1,
          reason: expect.stringMatching(/the ward is closed/)
        })
        expect(yield* chunks(trouble)).toMatchObject([{ state: "scheduled", attempts: 1 }])
      }
      expect(runs).toEqual(["early", "late"])
      expect(yield* (yield* Rows).list).toEqual([])
      // the others of its outputs are persisted
      const error = yield* Effect.flip(drain.recordNow(call("both", [note("n", "late"), order("x-ray")])))
      expect(error).toMatchObject({ _tag: "HandlerFailed", schemaIdentity: Note.identity })
      expect(yield* states("both")).toEqual(["scheduled", "persisted"])
      expect(runs).toEqual(["early", "late", "both"])
    }))

  test("recordNow parks outputs that are paused or have no handler, and buries one that does not decode", () =>
    Effect.gen(function*() {
      const { drain, runs } = yield* ward
      const pauses = yield* Pauses.Pauses
      yield* pauses.pause({ namespace: "clinic", schemaIdentity: Note.identity }, "the ward is full")
      expect(yield* Effect.flip(drain.recordNow(call("paused", [note("a")])))).toMatchObject({ _tag: "ChunkBusy" })
      expect(yield* states("paused")).toEqual(["parked"])
      yield* pauses.resume({ namespace: "clinic", schemaIdentity: Note.identity })
      const unknown = { ...note("a"), schema: "schemas.clinic.ward.unknown" }
      expect(yield* Effect.flip(drain.recordNow(call("none", [unknown])))).toMatchObject({ _tag: "HandlerNotFound" })
      expect(yield* states("none")).toEqual(["parked"])
      const odd = { ...note("a"), data: { words: 1 } }
      expect(yield* Effect.flip(drain.recordNow(call("odd", [odd])))).toMatchObject({ _tag: "ChunkDead" })
      expect(runs).toEqual([])
    }))

  test("recordNow leaves a paused call alone, even if an output of it does not decode", () =>
    Effect.gen(function*() {
      const { drain, runs } = yield* ward
      const pauses = yield* Pauses.Pauses
      yield* pauses.pause({ namespace: "clinic", schemaIdentity: Note.identity }, "the ward is full")
      const odd = { ...note("odd"), part: "odd", data: { words: 1 } }
      expect(yield* Effect.flip(drain.recordNow(call("a", [note("a"), odd])))).toMatchObject({ _tag: "ChunkBusy" })
      expect(runs).toEqual([])
      expect(yield* states("a")).toEqual(["parked", "parked"])
      yield* pauses.resume({ namespace: "clinic", schemaIdentity: Note.identity })
      yield* drain.untilEmpty
      expect(yield* states("a")).toEqual(["persisted", "dead"])
    }))

  test("a call of recordNow goes before later calls of its ordering key that are recorded meanwhile", () =>
    Effect.gen(function*() {
      const { begun, drain, may, recorder, runs } = yield* ward
      const keyed = { orderingKey: "knee" }
      const first = yield* Effect.forkChild(drain.recordNow(call("k1", [note("k1", "waits")], keyed)))
      yield* Deferred.await(begun)
      // where one connection is all there is, this waits for the end of the first
      const second = yield* Effect.forkChild(
        Effect.andThen(recorder.record(call("k2", [note("k2")], keyed)), drain.cycle)
      )
      yield* Effect.yieldNow
      expect(runs).toEqual(["k1"])
      yield* Deferred.succeed(may, undefined)
      expect(yield* Fiber.join(first)).toHaveLength(1)
      yield* Fiber.join(second)
      yield* drain.untilEmpty
      expect(runs).toEqual(["k1", "k2"])
      expect(yield* (yield* Rows).list).toEqual(["k1", "k2"])
      expect(yield* states("k2")).toEqual(["persisted"])
    }))

  test("recordNow leaves a call for the drain that is behind another of its ordering key, or not due yet", () =>
    Effect.gen(function*() {
      const { drain, recorder, runs } = yield* ward
      expect(yield* drain.recordNow(call("k1", [note("k1")], { orderingKey: "knee" }))).toHaveLength(1)
      yield* recorder.record(call("k2", [note("k2", "early")], { orderingKey: "knee" }))
      yield* drain.cycle
      const last = yield* Effect.forkChild(drain.recordNow(call("k3", [note("k3")], { orderingKey: "knee" })))
      yield* Effect.repeat(inspect.call("k3"), { until: Option.isSome })
      expect(runs).toEqual(["k1", "k2"])
      yield* Fiber.interrupt(last)
      expect(yield* (yield* Rows).list).toEqual(["k1"])
    }))

  test("recordNow is rolled back with the caller's transaction", () =>
    Effect.gen(function*() {
      const { drain } = yield* ward
      const rows = yield* Rows
      yield* Effect.flip(rows.transaction(Effect.andThen(drain.recordNow(call("a", [note("a")])), Effect.fail("back"))))
      expect(yield* inspect.call("a")).toEqual(Option.none())
      expect(yield* rows.list).toEqual([])
    }))

  test("recordNow is committed with the caller's transaction", () =>
    Effect.gen(function*() {
      const { drain } = yield* ward
      const rows = yield* Rows
      expect(yield* rows.transaction(drain.recordNow(call("b", [note("b")])))).toMatchObject([{ id: "b" }])
      expect(yield* states("b")).toEqual(["persisted"])
    }))

  test("of two concurrent recordNow one persists the call, and both receive the objects", () =>
    Effect.gen(function*() {
      const { drain } = yield* ward
      const time = yield* Time
      const both = yield* Effect.forkChild(
        Effect.all([1, 2].map(() => drain.recordNow(call("a", [note("a")]))), { concurrency: 2 })
      )
      yield* Effect.repeat(time.pass("10 millis"), { until: () => both.pollUnsafe() !== undefined })
      const [one, two] = yield* Fiber.join(both)
      expect(one).toEqual(two)
      expect(yield* (yield* Rows).list).toEqual(["a"])
    }))

  test("an interrupted recordNow has recorded its call, and gives the chunks back", () =>
    Effect.gen(function*() {
      const { begun, drain, may } = yield* ward
      const cut = yield* Effect.forkChild(drain.recordNow(call("a", [note("a", "waits")])))
      yield* Deferred.await(begun)
      yield* Fiber.interrupt(cut)
      expect(yield* chunks("a")).toMatchObject([{ state: "ready", attempts: 0, crashes: 0 }])
      expect(yield* (yield* Rows).list).toEqual([])
      yield* Deferred.succeed(may, undefined)
      expect(yield* drain.cycle).toMatchObject({ persisted: 1 })
    }))

  test("recordNow announces its objects after the commit", () =>
    Effect.gen(function*() {
      const { drain, events } = yield* ward
      const stream = yield* events.subscribe
      yield* drain.recordNow(call("a", [note("a")], { context: { ward: "west" } }))
      expect(yield* Stream.runCollect(Stream.take(stream, 1)))
        .toMatchObject([{ object: { id: "a" }, context: { ward: "west" } }])
    }))

  test("with a recordWithin of 0 recordNow records the call before its handlers run", () =>
    Effect.gen(function*() {
      const { drain } = yield* ward
      const store = yield* ChunkStore.ChunkStore
      expect(yield* drain.recordNow(call("a", [note("a")]))).toMatchObject([{ id: "a" }])
      expect(yield* store.isNew("a")).toMatchObject({ isNew: false })
      expect(yield* states("a")).toEqual(["persisted"])
    }), { recordWithin: Duration.zero })

  test("recordHeld records nothing of a call whose ordering key has something outstanding", () =>
    Effect.gen(function*() {
      const { drain, recorder } = yield* ward
      const store = yield* ChunkStore.ChunkStore
      const hold = (n: number) => ({ token: tokenOf(n), worker: "w", lease: Duration.minutes(1) })
      const keyed = { orderingKey: "knee" }
      expect(yield* store.recordHeld(call("a", [note("a")], keyed), hold(1))).toHaveLength(1)
      expect(yield* store.recordHeld(call("b", [note("b")], keyed), hold(2))).toBeUndefined()
      expect(yield* inspect.call("b")).toEqual(Option.none())
      // another namespace has keys of its own
      expect(yield* store.recordHeld({ ...call("c", [note("c")], keyed), namespace: "lab" }, hold(3))).toHaveLength(1)
      yield* store.giveUp(hold(1).token)
      yield* drain.untilEmpty
      expect(yield* store.recordHeld(call("b", [note("b")], keyed), hold(2))).toHaveLength(1)
      // a dead letter holds its key as well
      const dead = call("d", [{ ...note("d"), data: { words: 1 } }], { orderingKey: "hip" })
      yield* recorder.record(dead)
      yield* drain.untilEmpty
      expect(yield* states("d")).toEqual(["dead"])
      expect(yield* store.recordHeld(call("e", [note("e")], { orderingKey: "hip" }), hold(4))).toBeUndefined()
    }))

  test("persist records a new call: persisted outputs in the ledger, the others held; it leaves a known call alone", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      const hold = { token: tokenOf(1), worker: "w", lease: Duration.minutes(1) }
      const one = call("a", [{ ...note("1"), part: "1" }, { ...note("2"), part: "2" }])
      let seqs: ReadonlyArray<bigint> = []
      let isKnown = false
      const atEnd = Effect.succeed({
        call: one,
        hold,
        recorded: (given: ReadonlyArray<bigint>) => {
          seqs = given
        }
      })
      const chunk = (yield* held(one, "model"))[1]!
      const line = {
        chunk: { ...chunk, key: { ...chunk.key, callId: "a" } },
        handler: "clinic/note",
        handlerVersion: 1,
        objects: [DomainObject.make("clinic.Note", "2")]
      }
      const notNew = () => {
        isKnown = true
      }
      const persist = store.persist(hold.token, () => Effect.as(rows.add("2"), [line]), undefined, {
        call: one,
        notNew,
        atEnd
      })
      yield* persist
      expect(seqs).toHaveLength(2)
      expect((yield* chunks("a")).map(({ key, ledger, state }) => [key.part, state, ledger?.objects.length])).toEqual([
        ["1", "in-flight", undefined],
        ["2", "persisted", 1]
      ])
      const claim = { worker: "other", limit: 10, maxBytes: 1e9, lease: Duration.minutes(1) }
      expect((yield* store.claim(claim)).chunks).toEqual([])
      // the handlers of what is still held may run
      expect(yield* Effect.flip(persist)).toMatchObject({ _tag: "LeaseLost" })
      expect(isKnown).toBe(false)
      yield* store.giveUp(hold.token)
      expect(yield* Effect.flip(persist)).toMatchObject({ _tag: "LeaseLost" })
      expect(isKnown).toBe(true)
      expect(yield* rows.list).toEqual(["2"])
      expect((yield* store.claim(claim)).chunks.map(({ seq }) => seq)).toEqual([seqs[0]])
    }))

  test("persist settles a call to record that its own claim has recorded, although the answer was lost", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const hold = { token: tokenOf(1), worker: "w", lease: Duration.minutes(1) }
      const one = call("a", [note("1")], { orderingKey: "knee" })
      const seqs = yield* store.recordHeld(one, hold)
      const [model] = yield* held(call("model", [note("1")]), "model")
      // as it is before its number is known
      const chunk = { ...model!, seq: -1n, key: { ...model!.key, callId: "a" } }
      const recorded = (numbers: ReadonlyArray<bigint>) => void (chunk.seq = numbers[0]!)
      const toRecord = { call: one, notNew: () => undefined, atEnd: Effect.succeed({ call: one, hold, recorded }) }
      const line = { chunk, handler: "clinic/note", handlerVersion: 1, objects: [] }
      yield* store.persist(hold.token, () => Effect.succeed([line]), undefined, toRecord)
      expect([chunk.seq]).toEqual(seqs)
      expect(yield* chunks("a")).toMatchObject([{ ledger: { handler: "clinic/note" } }])
    }))

  test("persist runs nothing of a call to record whose kind is paused, even if its claim has recorded it", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const hold = { token: tokenOf(1), worker: "w", lease: Duration.minutes(1) }
      const one = call("a", [note("a")])
      expect(yield* store.recordHeld(one, hold)).toHaveLength(1)
      yield* Pauses.Pauses.use((pauses) =>
        pauses.pause({ namespace: "clinic", schemaIdentity: "*" }, "the ward is full")
      )
      let told = 0
      let runs = 0
      const work = Effect.sync(() => {
        runs++
        return []
      })
      const toRecord = { call: one, notNew: () => void told++, atEnd: Effect.undefined }
      const error = yield* Effect.flip(store.persist(hold.token, () => work, undefined, toRecord))
      expect(error).toMatchObject({ _tag: "LeaseLost" })
      expect([told, runs]).toEqual([1, 0])
    }))

  test("recordHeld claims what it records, under its own token", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const hold = { token: tokenOf(1), worker: "w", lease: Duration.minutes(1) }
      const one = call("a", [{ ...note("1"), part: "1" }, { ...note("2"), part: "2" }])
      expect(yield* store.isNew("a")).toEqual({ isNew: true, paused: [] })
      const seqs = yield* store.recordHeld(one, hold)
      expect(seqs).toHaveLength(2)
      expect(seqs![0]! < seqs![1]!).toBe(true)
      // after a lost answer it is sent again
      expect(yield* store.recordHeld(one, hold)).toEqual(seqs)
      expect(yield* store.recordHeld(one, { ...hold, token: tokenOf(2) })).toBeUndefined()
      const claim = { worker: "other", limit: 10, maxBytes: 1e9, lease: Duration.minutes(1) }
      expect((yield* store.claim(claim)).chunks).toEqual([])
      yield* store.giveUp(hold.token)
      expect(yield* store.recordHeld(one, hold)).toBeUndefined()
      expect((yield* store.claim(claim)).chunks.map(({ seq }) => seq)).toEqual(seqs)
      expect(Exit.isSuccess(yield* Effect.exit(store.giveUp(hold.token)))).toBe(true)
    }))
})
