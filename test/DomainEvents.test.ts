/**
 * What is told of created rows within the process: after the commit, of what was committed only, and never in the
 * drain's way.
 */
import { it } from "@effect/vitest"
import {
  CallRecorder,
  ChunkStore,
  DomainEvents,
  DomainObject,
  Drain,
  Handler,
  HandlerPlugin,
  HandlerRegistry
} from "effect-sluice"
import { capacity } from "effect-sluice/DomainEvents"
import type { DomainObjectCreated } from "effect-sluice/DomainObject"
import { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as PgStore from "effect-sluice/store/PgStore"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { describe, expect } from "vitest"
import { application, keyOf, Note, note, record, written } from "./support/clinic.ts"
import * as Postgres from "./support/Postgres.ts"

const cycle = Effect.flatMap(Drain.Drain, (drain) => drain.cycle)
const eventOf = (callId: string, n = 1): DomainObjectCreated => ({
  object: DomainObject.make("clinic.Note", n),
  key: keyOf(callId),
  namespace: "clinic",
  handler: "clinic/note",
  service: "services.clinic.ward.take-notes",
  correlationId: callId,
  context: {}
})

describe("domain events", () => {
  it.effect("are not lost to a listener that keeps up, however many rows a batch creates", () =>
    Effect.gen(function*() {
      const events = yield* DomainEvents.DomainEvents
      const heard = yield* events.subscribe
      const many = Array.from({ length: 3 * capacity + 1 }, (_, n) => eventOf("a", n))
      const listening = yield* Effect.forkChild(Stream.runCollect(Stream.take(heard, many.length)), {
        startImmediately: true
      })
      yield* events.publish(many)
      yield* events.publish([eventOf("b")])
      const ids = (yield* Fiber.join(listening)).map(({ key, object }) => `${key.callId} ${object.id}`)
      expect(ids).toEqual(many.map(({ object }) => `a ${object.id}`))
    }).pipe(Effect.provide(DomainEvents.layer)))

  it.effect("tell of each created row: what, from which chunk, by which handler, with the call's context", () =>
    Effect.gen(function*() {
      const heard = yield* (yield* DomainEvents.DomainEvents).subscribe
      yield* record(
        note("a", { rows: 2 }, { context: { bed: "7" }, correlationId: "thread" }),
        note("b", { trouble: "nothing", early: true })
      )
      yield* cycle
      const events = yield* Stream.runCollect(Stream.take(heard, 2))
      expect(events).toMatchObject([
        {
          object: { type: "clinic.Note", id: "1" },
          key: keyOf("a"),
          namespace: "clinic",
          handler: "clinic/note",
          service: "services.clinic.ward.take-notes",
          correlationId: "thread",
          context: { bed: "7" }
        },
        { object: { id: "2" }, key: keyOf("a") }
      ])
      expect(events.every(DomainEvents.from(Note))).toBe(true)
      const another = { ...eventOf("a"), key: { ...keyOf("a"), schemaIdentity: "schemas.clinic.ward.other" } }
      expect(DomainEvents.from(Note)(another as DomainObjectCreated)).toBe(false)
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("come after the commit: whoever hears one finds the row and the ledger's line", () =>
    Effect.gen(function*() {
      const found: Array<unknown> = []
      const outside = yield* Effect.context<ChunkStore.ChunkStore>()
      // looks at the moment of the announcement, with the eyes of another: from outside of any transaction
      const looking = Layer.effect(
        DomainEvents.DomainEvents,
        Effect.map(DomainEvents.DomainEvents, (events) =>
          DomainEvents.DomainEvents.of({
            ...events,
            publish: (list) => {
              const look = ChunkStore.ChunkStore.use((store) =>
                Effect.orDie(store.ledger(list.map((event) => event.key)))
              )
              return Effect.map(Fiber.join(Effect.runForkWith(outside)(look)), (lines) => {
                found.push({ told: list.map((event) => event.key.callId), lines: lines.length })
              })
            }
          }))
      )
      yield* record(note("a"), note("b", { trouble: "fails" }), note("c"))
      yield* Effect.provide(cycle, Layer.fresh(Drain.layer).pipe(Layer.provide(Layer.fresh(looking))))
      // what stands before a failure and what comes after it are two transactions
      expect(found).toEqual([{ told: ["a"], lines: 1 }, { told: ["c"], lines: 1 }])
      expect(yield* written).toHaveLength(2)
    }).pipe(Effect.provide(application())))

  it.effect("tell nothing of what was rolled back, and each row once, over retries and redeliveries", () =>
    Effect.gen(function*() {
      const heard = yield* (yield* DomainEvents.DomainEvents).subscribe
      // all of them in one transaction, which is rolled back at first
      yield* record(note("a"), note("bad", { trouble: "fails" }), note("b"))
      yield* cycle
      yield* record(note("a"))
      yield* cycle
      yield* (yield* Drain.Drain).persistNow("a")
      yield* (yield* DomainEvents.DomainEvents).publish([eventOf("last")])
      const events = yield* Stream.runCollect(Stream.takeUntil(heard, (event) => event.key.callId === "last"))
      expect(events.map((event) => event.key.callId)).toEqual(["a", "b", "last"])
    }).pipe(Effect.scoped, Effect.provide(application())))

  /** Persists inline, within a transaction of the caller's that ends well, and within one that does not. */
  const withinTransactions = (
    transaction: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, unknown, R>
  ) =>
    Effect.gen(function*() {
      const told: Array<string> = []
      const stream = yield* (yield* DomainEvents.DomainEvents).subscribe
      yield* Effect.forkScoped(Stream.runForEach(stream, (event) => Effect.sync(() => told.push(event.key.callId))))
      const soFar = Effect.as(Effect.forEach([1, 2, 3], () => Effect.yieldNow), told)
      const drain = yield* Drain.Drain
      yield* record(note("a"), note("b"), note("c"))
      yield* Effect.exit(transaction(Effect.gen(function*() {
        yield* drain.persistNow("a")
        return yield* Effect.fail("the visit is cancelled")
      })))
      expect(yield* soFar).toEqual([])
      yield* transaction(Effect.gen(function*() {
        yield* drain.persistNow("a")
        yield* drain.cycle
        expect(yield* soFar).toEqual([])
      }))
      expect(yield* soFar).toEqual(["a", "b", "c"])
    })

  it.effect("of what is persisted within a caller's transaction come after its commit, and none after its rollback", () =>
    Effect.gen(function*() {
      const db = yield* MemoryDatabase
      yield* withinTransactions(db.transaction)
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.live("the same on Postgres", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* withinTransactions(sql.withTransaction)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        Layer.merge(Drain.layer, CallRecorder.layer).pipe(
          Layer.provide(HandlerRegistry.layer()),
          Layer.provide(HandlerPlugin.layer("clinic", Note, ({ call }: Handler.HandlerInput<unknown>) =>
            Effect.succeed([DomainObject.make("clinic.Note", call.callId)]))),
          Layer.provideMerge(DomainEvents.layer),
          Layer.provide(PgStore.layer),
          Layer.provideMerge(Postgres.layer())
        )
      )
    ))

  it.effect("reach every listener; one that comes later hears what comes later", () =>
    Effect.gen(function*() {
      const events = yield* DomainEvents.DomainEvents
      const first = yield* events.subscribe
      yield* events.publish([eventOf("a")])
      const second = yield* events.subscribe
      yield* events.publish([eventOf("b")])
      const ids = (stream: typeof first, count: number) =>
        Effect.map(Stream.runCollect(Stream.take(stream, count)), (list) => list.map((event) => event.key.callId))
      expect(yield* ids(first, 2)).toEqual(["a", "b"])
      expect(yield* ids(second, 1)).toEqual(["b"])
    }).pipe(Effect.scoped, Effect.provide(DomainEvents.layer)))

  it.effect("hold up nobody: a listener that does not listen loses the oldest", () =>
    Effect.gen(function*() {
      const events = yield* DomainEvents.DomainEvents
      const slow = yield* events.subscribe
      const many = capacity + 10
      for (let n = 0; n < many; n++) yield* events.publish([eventOf("a", n)])
      const [oldest] = yield* Stream.runCollect(Stream.take(slow, 1))
      expect(oldest?.object.id).toBe("10")
    }).pipe(Effect.scoped, Effect.provide(DomainEvents.layer)))

  it.effect("of a time are told in the order of recording", () =>
    Effect.gen(function*() {
      const heard = yield* (yield* DomainEvents.DomainEvents).subscribe
      const ids = Array.from({ length: 20 }, (_, n) => `call-${n}`)
      const now = yield* DateTime.now
      // claimed by rank: the urgent ones first
      yield* record(...ids.map((id, n) => note(id, {}, { priority: n % 7, finishedAt: now })))
      yield* cycle
      const events = yield* Stream.runCollect(Stream.take(heard, ids.length))
      expect(events.map((event) => event.key.callId)).toEqual(ids)
    }).pipe(Effect.scoped, Effect.provide(application())))
})
