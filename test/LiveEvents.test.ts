/**
 * Live events between processes, and what becomes of a stream while the database is away.
 */
import { describe, expect, it, layer } from "@effect/vitest"
import { EventLog, LiveEvents, WakeUp } from "effect-sluice"
import { ChunkStoreError } from "effect-sluice/ChunkStore"
import * as Settings from "effect-sluice/Settings"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as PgStore from "effect-sluice/store/PgStore"
import type { Stores } from "effect-sluice/store/Stores"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { call, record, settle } from "./contract/operators/dialogues.ts"
import * as Postgres from "./support/Postgres.ts"

class Url extends Context.Service<Url, string>()("test/Url") {}

const ground = Layer.effect(Url, Postgres.migratedDatabase())

/** A process: a store on a client of its own. It looks by itself once an hour. */
const start = (settings: Settings.Options = {}) =>
  Effect.flatMap(Url, (url) =>
    Effect.map(
      Layer.build(
        Layer.fresh(PgStore.layer).pipe(
          Layer.provideMerge(Layer.fresh(Postgres.client(url))),
          Layer.provideMerge(Settings.layer({ pollInterval: Duration.hours(1), ...settings }))
        )
      ),
      (context) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.provideContext(effect, context as Context.Context<Stores | Settings.Settings | SqlClient.SqlClient>)
    ))

const persist = (id: string) => Effect.andThen(record(call(id)), settle("persisted"))

layer(ground, { excludeTestServices: true, timeout: 60_000 })("between processes", (it) => {
  it.effect("what one process persists reaches the listeners of all others", () =>
    Effect.gen(function*() {
      const worker = yield* start()
      const pages = yield* Effect.all([start(), start()])
      const heard = yield* Effect.forEach(pages, (page) =>
        Effect.gen(function*() {
          const ids = yield* Queue.unbounded<string>()
          const stream = LiveEvents.tail({ after: yield* page(LiveEvents.now) })
          yield* Effect.forkScoped(page(Stream.runForEach(stream, ({ event }) => Queue.offer(ids, event.object.id))))
          return ids
        }))
      for (const id of ["a", "b", "c"]) {
        yield* worker(persist(id))
        for (const ids of heard) expect(yield* Queue.take(ids)).toBe(`message of ${id}`)
      }
    }).pipe(Effect.scoped), 60_000)

  it.effect(
    "events of a transaction with a lower id that commits later are sent later, and not skipped",
    () =>
      Effect.gen(function*() {
        const page = yield* start({ pollInterval: Duration.millis(100) })
        const worker = yield* start()
        const slow = yield* start()
        const stream = LiveEvents.tail({ after: yield* page(LiveEvents.now) })
        const reading = yield* Effect.forkScoped(page(Stream.runCollect(Stream.take(stream, 2))))
        yield* slow(Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* sql.withTransaction(Effect.gen(function*() {
            yield* persist("slow")
            yield* worker(persist("quick"))
          }))
        }))
        expect((yield* Fiber.join(reading)).map(({ event }) => event.object.id)).toEqual([
          "message of slow",
          "message of quick"
        ])
      }).pipe(Effect.scoped),
    60_000
  )
})

describe("while the database is away", () => {
  const memory = Layer.provideMerge(MemoryStore.layer, Settings.layer())
  const troubled = (transient: boolean) => {
    let times = 3
    const trouble = new ChunkStoreError({ operation: "eventLog.read", transient, reason: "the server is restarting" })
    return Layer.effect(
      EventLog.EventLog,
      Effect.map(EventLog.EventLog, (log) =>
        EventLog.EventLog.of({
          ...log,
          read: (after, options) => times-- > 0 ? Effect.fail(trouble) : log.read(after, options)
        }))
    ).pipe(Layer.merge(Layer.effect(WakeUp.WakeUp, WakeUp.WakeUp)))
  }

  it.effect("a stream waits, logs it once, and continues at its place", () => {
    const lines: Array<string> = []
    return Effect.gen(function*() {
      const after = yield* LiveEvents.now
      const reading = yield* Effect.forkChild(
        Stream.runCollect(Stream.take(LiveEvents.tail({ after }), 1)).pipe(
          Effect.provide(Layer.fresh(troubled(true)), { local: true })
        )
      )
      yield* persist("a")
      yield* TestClock.adjust("1 minute")
      expect((yield* Fiber.join(reading)).map(({ event }) => event.object.id)).toEqual(["message of a"])
      expect(lines).toEqual([expect.stringContaining("live events could not be read; reading continues")])
    }).pipe(
      Effect.provide(memory),
      Effect.provide(Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))]))
    )
  })

  it.effect("an error that is not transient ends the stream", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Stream.runCollect(LiveEvents.tail()).pipe(Effect.provide(Layer.fresh(troubled(false)), { local: true }))
      )
      expect(error).toMatchObject({ _tag: "ChunkStoreError", reason: "the server is restarting" })
    }).pipe(Effect.provide(memory)))
})
