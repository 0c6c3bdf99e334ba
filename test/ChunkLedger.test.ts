/**
 * A chunk persisted by hand: once, whoever does it, and told of after the commit. What each store does at its key is in
 * `test/contract/persisting.test.ts`.
 */
import { it, layer } from "@effect/vitest"
import { CallRecorder, ChunkLedger, ChunkStore, DomainEvents, DomainObject, Drain } from "effect-sluice"
import { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { describe, expect } from "vitest"
import { application, keyOf, note, record, rows, written } from "./support/clinic.ts"
import * as inspect from "./support/inspect.ts"
import * as Postgres from "./support/Postgres.ts"

const one = [DomainObject.make("clinic.Note", 1)]
const once = <E, R>(callId: string, effect: Effect.Effect<ReadonlyArray<DomainObject.DomainObject>, E, R>) =>
  Effect.flatMap(ChunkLedger.ChunkLedger, (ledger) => ledger.once(keyOf(callId), { namespace: "clinic" }, effect))
const onceOne = (callId: string) => once(callId, Effect.succeed(one))
const insert = (id: string) =>
  Effect.flatMap(MemoryDatabase, (db) => db.use((access) => access.set(rows, id, { id, callId: id, text: "" })))

/** Listens from now on; `soFar` are the events heard by then, taken without waiting. */
const listening = Effect.gen(function*() {
  const heard: Array<string> = []
  const stream = yield* (yield* DomainEvents.DomainEvents).subscribe
  yield* Effect.forkScoped(Stream.runForEach(stream, (event) => Effect.sync(() => heard.push(event.key.callId))))
  return { soFar: Effect.as(Effect.forEach([1, 2, 3], () => Effect.yieldNow), heard) }
})

describe("once", () => {
  it.effect("creates, and afterwards gives back what was created", () =>
    Effect.gen(function*() {
      expect(yield* onceOne("a")).toEqual({ created: true, objects: one })
      expect(yield* once("a", Effect.die("run again"))).toEqual({ created: false, objects: one })
      const ledger = yield* ChunkLedger.ChunkLedger
      expect(yield* ledger.find([keyOf("a"), keyOf("b")])).toMatchObject([
        { key: keyOf("a"), namespace: "clinic", handler: "once", objects: [{ type: "clinic.Note", id: "1" }] }
      ])
    }).pipe(Effect.provide(application())))

  it.effect("creates nothing and remembers that too", () =>
    Effect.gen(function*() {
      expect(yield* once("a", Effect.succeed([]))).toEqual({ created: true, objects: [] })
      expect(yield* once("a", Effect.die("run again"))).toEqual({ created: false, objects: [] })
    }).pipe(Effect.provide(application())))

  it.effect("that fails, is a bug, or is interrupted leaves no trace; the next may", () =>
    Effect.gen(function*() {
      const reached = yield* Deferred.make<void>()
      const ends = [
        Effect.fail("closed" as const),
        Effect.die("a bug"),
        Effect.andThen(Deferred.succeed(reached, undefined), Effect.never)
      ]
      for (const end of ends) {
        const fiber = yield* Effect.forkChild(once("a", Effect.andThen(insert("a"), end)))
        if (end === ends[2]) {
          yield* Deferred.await(reached)
          yield* Fiber.interrupt(fiber)
        } else yield* Fiber.await(fiber)
        expect(yield* written).toEqual([])
        expect(yield* (yield* ChunkLedger.ChunkLedger).find([keyOf("a")])).toEqual([])
      }
      expect(yield* onceOne("a")).toMatchObject({ created: true })
    }).pipe(Effect.provide(application())))

  it.effect("of two at once, one creates and the other waits for it", () =>
    Effect.gen(function*() {
      const may = yield* Deferred.make<void>()
      let ran = 0
      const effect = Effect.as(Effect.andThen(Effect.sync(() => ran++), Deferred.await(may)), one)
      const both = yield* Effect.forkChild(Effect.all([once("a", effect), once("a", effect)], { concurrency: 2 }))
      yield* Effect.yieldNow
      yield* Deferred.succeed(may, undefined)
      expect((yield* Fiber.join(both)).map(({ created }) => created).sort()).toEqual([false, true])
      expect(ran).toBe(1)
    }).pipe(Effect.provide(application())))

  it.effect("is enough for the drain: what is outstanding is done with", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      yield* onceOne("a")
      expect(yield* (yield* Drain.Drain).untilEmpty).toMatchObject({ claimed: 0 })
      expect(yield* (yield* Drain.Drain).persistNow("a")).toEqual(one)
      expect(yield* written).toEqual([])
    }).pipe(Effect.provide(application())))

  it.effect("and what the drain has done is enough for it", () =>
    Effect.gen(function*() {
      yield* record(note("a"))
      const objects = yield* (yield* Drain.Drain).persistNow("a")
      expect(yield* once("a", Effect.die("run again"))).toEqual({ created: false, objects })
    }).pipe(Effect.provide(application())))

  it.effect("tells of what it created after the commit, once", () =>
    Effect.gen(function*() {
      const heard = yield* listening
      const db = yield* MemoryDatabase
      yield* db.transaction(Effect.gen(function*() {
        yield* onceOne("a")
        expect(yield* heard.soFar).toEqual([])
      }))
      expect(yield* heard.soFar).toEqual(["a"])
      yield* onceOne("a")
      yield* Effect.exit(once("b", Effect.fail("closed")))
      yield* Effect.exit(db.transaction(Effect.andThen(onceOne("c"), Effect.fail("rolled back"))))
      expect(yield* heard.soFar).toEqual(["a"])
      // and what was rolled back may be created again
      expect(yield* onceOne("c")).toMatchObject({ created: true })
      expect(yield* heard.soFar).toEqual(["a", "c"])
    }).pipe(Effect.scoped, Effect.provide(application())))
})

const onPostgres = ChunkLedger.layer.pipe(
  Layer.provideMerge(CallRecorder.layer),
  Layer.provideMerge(DomainEvents.layer),
  Layer.provideMerge(PgStore.layer),
  Layer.provideMerge(Layer.unwrap(Effect.sync(() => Postgres.layer())))
)
layer(onPostgres, { excludeTestServices: true, timeout: 60_000 })("on Postgres", (it) => {
  it.effect("the caller's transaction decides: rows, ledger and event come with its commit or not at all", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const store = yield* ChunkStore.ChunkStore
      const heard = yield* listening
      yield* sql`create table visit (id text primary key)`
      const visit = (id: string) =>
        Effect.as(sql`insert into visit ${sql.insert({ id })}`, [DomainObject.make("clinic.Visit", id)])
      const visits = sql`select id from visit order by id`
      yield* record(note("a"), note("b"))

      yield* Effect.exit(
        sql.withTransaction(Effect.andThen(once("a", visit("a")), Effect.fail("the visit is cancelled")))
      )
      expect(yield* visits).toEqual([])
      expect(yield* store.ledger([keyOf("a")])).toEqual([])
      expect(yield* heard.soFar).toEqual([])

      yield* sql.withTransaction(Effect.gen(function*() {
        expect(yield* once("a", visit("a"))).toMatchObject({ created: true })
        // an error of the second's leaves the first untouched
        yield* Effect.flip(once("b", Effect.andThen(sql`insert into visit values ('a')`, visit("b"))))
        expect(yield* heard.soFar).toEqual([])
      }))
      expect(yield* visits).toEqual([{ id: "a" }])
      expect(yield* heard.soFar).toEqual(["a"])
      expect(Option.getOrThrow(yield* inspect.call("a")).chunks).toMatchObject([{ state: "persisted" }])
      expect(Option.getOrThrow(yield* inspect.call("b")).chunks).toMatchObject([{ state: "ready", attempts: 0 }])
    }).pipe(Effect.scoped))
})
