/**
 * Hints between processes: two stores with clients of their own on one database stand for two processes.
 */
import { PgConnection } from "@effect/sql-pg"
import { describe, expect, it, layer } from "@effect/vitest"
import {
  ChunkStore,
  DeadLetters,
  DomainEvents,
  Drain,
  DrainWorker,
  HandlerRegistry,
  Output,
  OutputGroup,
  Pauses,
  WakeUp
} from "effect-sluice"
import * as Settings from "effect-sluice/Settings"
import { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as PgStore from "effect-sluice/store/PgStore"
import type { Stores } from "effect-sluice/store/Stores"
import type { Topic } from "effect-sluice/WakeUp"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { call, keyOf, record, reply, settle } from "./contract/operators/dialogues.ts"
import { startProxy } from "./faults/proxy.ts"
import * as Postgres from "./support/Postgres.ts"
import { untilIt } from "./support/until.ts"

/** All hints heard from now on. */
const hearing = Effect.gen(function*() {
  const heard = yield* Queue.unbounded<Topic>()
  for (const topic of ["chunks", "events"] as const) {
    const hints = yield* WakeUp.WakeUp.use((wakeUp) => wakeUp.hear(topic))
    yield* Effect.forkScoped(Stream.runForEach(hints, () => Queue.offer(heard, topic)))
  }
  return heard
})

class PatientReply extends Output.make(reply, { version: 1, schema: Schema.Struct({ text: Schema.String }) }) {}
const Chatlab = OutputGroup.make("chatlab", PatientReply)
const worker = (options?: DrainWorker.Options) =>
  DrainWorker.layer(options).pipe(
    Layer.provide(Drain.layer),
    Layer.provide(HandlerRegistry.layer(Chatlab)),
    Layer.provide(Chatlab.toLayer(Effect.succeed(Chatlab.of({ "patient-reply": () => Effect.void })))),
    Layer.provide(DomainEvents.layer)
  )

describe("within a process", () => {
  const settled = TestClock.adjust(0)

  it.effect("a store hints after what it has committed, and only then", () =>
    Effect.gen(function*() {
      const db = yield* MemoryDatabase
      const letters = yield* DeadLetters.DeadLetters
      const heard = yield* hearing
      const given = Effect.andThen(settled, Queue.clear(heard))
      yield* settled

      const abandoned = Effect.andThen(record(call("never")), Effect.fail("rolled back"))
      yield* Effect.ignore(db.transaction(abandoned))
      expect(yield* given).toEqual([])
      yield* db.transaction(Effect.gen(function*() {
        yield* record(call("a"), call("b"))
        expect(yield* given).toEqual([])
      }))
      expect(yield* given).toEqual(["chunks"])
      yield* record(call("a"))
      expect(yield* given).toEqual([])

      yield* settle((chunk) => chunk.key.callId === "a" ? "persisted" : { dead: "exhausted" })
      expect(yield* given).toEqual(["events"])
      yield* letters.redrive({})
      expect(yield* given).toEqual(["chunks"])
      yield* letters.redrive({})
      expect(yield* given).toEqual([])
      yield* settle("nothing")
      expect(yield* given).toEqual([])
    }).pipe(Effect.provide(Layer.provideMerge(MemoryStore.layer, Settings.layer()))))

  it.effect("an idle worker starts at once; one with a schedule keeps to it, unless it is to hear as well", () =>
    Effect.gen(function*() {
      const persistedAfter = (wait: Duration.Input) =>
        DrainWorker.DrainWorker.use(({ report }) =>
          Effect.andThen(TestClock.adjust(wait), Effect.map(report, ({ nothingToCreate }) => nothingToCreate))
        )
      const hourly = Schedule.spaced("1 hour")
      for (
        const [options, atOnce] of [[{}, 1], [{ schedule: hourly }, 0], [{ schedule: hourly, hints: true }, 1]] as const
      ) {
        yield* Effect.gen(function*() {
          yield* settled
          yield* record(call(JSON.stringify(options)))
          expect(yield* persistedAfter(0)).toBe(atOnce)
          expect(yield* persistedAfter("1 hour")).toBe(1)
        }).pipe(Effect.provide(worker(options)))
      }
    }).pipe(Effect.provide(Layer.provideMerge(MemoryStore.layer, Settings.layer()))))
})

class Url extends Context.Service<Url, string>()("test/Url") {}

const ground = Layer.provideMerge(
  Layer.unwrap(Effect.map(Url, (url) => Postgres.client(url))),
  Layer.effect(Url, Postgres.migratedDatabase())
)

/** A process: a store on a client of its own. */
const process = (settings: Partial<Settings.Values> = {}, maxConnections = 5) =>
  Layer.unwrap(Effect.map(Url, (url) =>
    Layer.fresh(PgStore.layer).pipe(
      Layer.provideMerge(Settings.layer(settings)),
      Layer.provideMerge(Layer.fresh(Postgres.client(url, { maxConnections })))
    )))

const start = (settings?: Partial<Settings.Values>, maxConnections?: number) =>
  Effect.map(
    Layer.build(process(settings, maxConnections)),
    (context) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.provideContext(effect, context as Context.Context<Stores | SqlClient.SqlClient>)
  )

/** The server's processes that listen. */
const listeners = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql<{ pid: number }>`select pid from pg_stat_activity
      where datname = current_database() and application_name = 'effect-sluice listener'`,
    (rows) => rows.map((row) => row.pid)
  ))

/** Every hint given on the channel, also by those who do not listen themselves. */
const eavesdrop = Effect.gen(function*() {
  const connection = yield* PgConnection.make({ url: Redacted.make(yield* Url) })
  const said = yield* connection.listen("sluice_wake_up")
  const hints = yield* Queue.unbounded<PgConnection.Notification>()
  // whoever begins to listen proves that it hears
  yield* Effect.forkScoped(
    Effect.forever(
      Effect.flatMap(
        Queue.take(said),
        (notification) =>
          notification.payload.startsWith("proof ") ? Effect.void : Effect.asVoid(Queue.offer(hints, notification))
      )
    )
  )
  return hints
})

/** Starts a process that hears, and waits until it does: it then hints at everything once. */
const startHearing = Effect.gen(function*() {
  const on = yield* start()
  const heard = yield* on(hearing)
  yield* Queue.takeN(heard, 2)
  return { on, heard }
})

layer(ground, { excludeTestServices: true, timeout: 60_000 })("between processes", (it) => {
  it.effect("what one records the other hears of, once", () =>
    Effect.gen(function*() {
      const one = yield* startHearing
      const other = yield* startHearing
      yield* one.on(record(call("a")))
      expect(yield* Queue.take(other.heard)).toBe("chunks")
      expect(yield* Queue.take(one.heard)).toBe("chunks")
      yield* one.on(settle("persisted"))
      expect(yield* Queue.take(other.heard)).toBe("events")
      // it has not heard itself a second time
      expect(yield* Queue.take(one.heard)).toBe("events")
      yield* other.on(record(call("b")))
      expect(yield* Queue.take(one.heard)).toBe("chunks")
      expect(yield* Queue.size(one.heard)).toBe(0)
      yield* other.on(settle("nothing"))
    }).pipe(Effect.scoped))

  it.effect("an idle worker of another process drains at once what is recorded", () =>
    Effect.gen(function*() {
      const recorder = yield* start()
      const drainer = yield* start({ pollInterval: Duration.hours(1) })
      const heard = yield* drainer(hearing)
      yield* Queue.takeN(heard, 2)
      yield* Effect.gen(function*() {
        const { report } = yield* DrainWorker.DrainWorker
        for (const n of [1, 2, 3]) {
          yield* recorder(record(call(`woken-${n}`)))
          yield* untilIt(report, ({ nothingToCreate }) => nothingToCreate === n)
        }
      }).pipe(Effect.provide(worker()), Effect.provide(Settings.layer({ pollInterval: Duration.hours(1) })), drainer)
    }).pipe(Effect.scoped))

  it.effect(
    "a pause and its end are heard by the workers of another process, whose next beat would be in an hour",
    () =>
      Effect.gen(function*() {
        const doctor = yield* start()
        const drainer = yield* start({ pollInterval: Duration.hours(1) })
        const heard = yield* drainer(hearing)
        yield* Queue.takeN(heard, 2)
        // a longer interval than a setting may have
        const hour = Duration.hours(1)
        const rarely = Layer.succeed(
          Settings.Settings,
          { ...Settings.defaults, beatInterval: hour, pollInterval: hour }
        )
        const pauses = yield* doctor(Pauses.Pauses)
        yield* Effect.gen(function*() {
          const { report } = yield* DrainWorker.DrainWorker
          yield* doctor(record(call("before")))
          yield* untilIt(report, ({ nothingToCreate }) => nothingToCreate === 1)
          yield* pauses.pause({ namespace: "*", schemaIdentity: "*" }, "")
          let n = 0
          const recordAndLook = Effect.andThen(Effect.suspend(() => doctor(record(call(`paused-${n++}`)))), report)
          const { parked } = yield* untilIt(recordAndLook, ({ parked }) => parked > 0)
          yield* pauses.resume({ namespace: "*", schemaIdentity: "*" })
          yield* untilIt(report, ({ nothingToCreate }) => nothingToCreate > parked)
        }).pipe(Effect.provide(worker()), Effect.provide(rarely), drainer)
      }).pipe(Effect.scoped)
  )

  it.effect(
    "a listener whose connection is killed listens again; meanwhile everything else works",
    () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { heard, on } = yield* startHearing
        const other = yield* start({ listen: false })
        const [pid] = yield* untilIt(listeners, (now) => now.length === 1)

        yield* sql`select pg_terminate_backend(${pid}::int)`
        yield* on(record(call("meanwhile")))
        expect(yield* Queue.take(heard)).toBe("chunks")
        yield* untilIt(listeners, (now) => now.length === 1 && now[0] !== pid)
        // whatever it missed
        expect((yield* Queue.takeN(heard, 2)).sort()).toEqual(["chunks", "events"])

        yield* other(
          Effect.flatMap(SqlClient.SqlClient, (client) => client`select pg_notify('sluice_wake_up', 'events x')`)
        )
        expect(yield* Queue.take(heard)).toBe("events")
        yield* on(settle("nothing"))
      }).pipe(Effect.scoped)
  )

  it.effect("an unknown message on the channel is ignored", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { heard } = yield* startHearing
      for (const payload of ["", "chunks", "nonsense x", "x".repeat(7000), "events x"]) {
        yield* sql`select pg_notify('sluice_wake_up', ${payload})`
      }
      // "chunks" says no sender, but what it is about
      expect(yield* Queue.takeN(heard, 2)).toEqual(["chunks", "events"])
    }).pipe(Effect.scoped))

  it.effect(
    "without SLUICE_NOTIFY nothing is sent, without SLUICE_LISTEN nobody listens; so both are on a pool of one connection",
    () =>
      Effect.gen(function*() {
        const said = yield* eavesdrop
        const silent = yield* start({ notify: false, listen: false })
        const single = yield* start({}, 1)
        for (const on of [silent, single]) {
          const heard = yield* on(hearing)
          yield* on(record(call(`silent-${on === single}`)))
          expect(yield* Queue.take(heard)).toBe("chunks")
        }
        yield* untilIt(listeners, (now) => now.length === 0)
        // had they said anything, it would come before this
        const loud = yield* start()
        yield* loud(settle("persisted"))
        expect((yield* Queue.take(said)).payload).toMatch(/^events /)
      }).pipe(Effect.scoped)
  )

  it.effect(
    "ten thousand hints are a few notifications, none of them in the caller's transaction",
    () =>
      Effect.gen(function*() {
        const said = yield* eavesdrop
        const on = yield* start()
        const began = performance.now()
        yield* on(Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const { hint } = yield* WakeUp.WakeUp
          yield* Effect.ignore(sql.withTransaction(Effect.gen(function*() {
            yield* Effect.replicateEffect(hint("chunks"), 10_000, { discard: true })
            // heard though the transaction is not over, and though it never commits
            expect((yield* Queue.take(said)).payload).toMatch(/^chunks /)
            return yield* Effect.fail("rolled back")
          })))
          yield* hint("events")
        }))
        let count = 1
        while (!(yield* Queue.take(said)).payload.startsWith("events ")) count++
        // the gap between them grows from 2 ms to 50 within six
        expect(count).toBeLessThanOrEqual(6 + Math.ceil((performance.now() - began) / 50))
      }).pipe(Effect.scoped)
  )

  it.effect(
    "a process that does not listen can send hints, and one that does not send can receive them",
    () =>
      Effect.gen(function*() {
        const { heard } = yield* startHearing
        const deaf = yield* start({ listen: false })
        yield* deaf(WakeUp.WakeUp.use(({ hint }) => hint("events")))
        expect(yield* Queue.take(heard)).toBe("events")
        const mute = yield* start({ notify: false })
        const hears = yield* mute(hearing)
        yield* Queue.takeN(hears, 2)
        yield* deaf(WakeUp.WakeUp.use(({ hint }) => hint("chunks")))
        expect(yield* Queue.take(hears)).toBe("chunks")
      }).pipe(Effect.scoped)
  )

  it.effect(
    "a listener is not closed for being idle, where the database closes sessions that are",
    () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const database = sql.literal(`"${new URL(yield* Url).pathname.slice(1)}"`)
        yield* Effect.acquireRelease(
          sql`alter database ${database} set idle_session_timeout = '200ms'`,
          () => Effect.orDie(sql`alter database ${database} reset idle_session_timeout`)
        )
        yield* startHearing
        const before = yield* untilIt(listeners, (now) => now.length === 1)
        const idle = yield* PgConnection.make({ url: Redacted.make(yield* Url) })
        yield* untilIt(sql`select from pg_stat_activity where pid = ${idle.processId}`, (rows) => rows.length === 0)
        expect(yield* listeners).toEqual(before)
      }).pipe(Effect.scoped)
  )

  it.effect(
    "a listener whose connection has become silent finds that out, says so once, and listens anew",
    () =>
      Effect.gen(function*() {
        const logged: Array<string> = []
        const log = Logger.layer([Logger.make(({ message }) => void logged.push(String(message)))])
        const direct = new URL(yield* Url)
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => startProxy(Number(direct.port))),
          (proxy) => Effect.promise(() => proxy.close())
        )
        const through = new URL(direct)
        through.port = String(proxy.port)
        // only its listener is behind the proxy
        const settings = { listenUrl: Redacted.make(through.href), beatInterval: Duration.millis(200) }
        const on = yield* Effect.provide(start(settings), log)
        const heard = yield* on(hearing)
        yield* Queue.takeN(heard, 2)
        const other = yield* start({ listen: false })

        proxy.silence()
        yield* other(WakeUp.WakeUp.use(({ hint }) => hint("chunks")))
        // what was said meanwhile it takes for said
        expect((yield* Queue.takeN(heard, 2)).sort()).toEqual(["chunks", "events"])
        yield* other(WakeUp.WakeUp.use(({ hint }) => hint("events")))
        expect(yield* Queue.take(heard)).toBe("events")
        expect(logged).toEqual([
          expect.stringMatching(/^hints from other processes do not arrive.*silent for 5s/),
          "hints from other processes arrive again"
        ])
      }).pipe(Effect.scoped)
  )

  it.effect(
    "a hint whose connection is silent is given again by another one, and holds up none that come after it",
    () =>
      Effect.gen(function*() {
        const { heard } = yield* startHearing
        const direct = new URL(yield* Url)
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => startProxy(Number(direct.port))),
          (proxy) => Effect.promise(() => proxy.close())
        )
        const through = new URL(direct)
        through.port = String(proxy.port)
        const on = yield* Effect.map(
          Layer.build(
            Layer.fresh(PgStore.layerStorage).pipe(
              Layer.provideMerge(Settings.layer({ listen: false })),
              Layer.provideMerge(Layer.fresh(Postgres.client(through.href, { maxConnections: 2 })))
            )
          ),
          (context) => <A, E>(effect: Effect.Effect<A, E, WakeUp.WakeUp>) => Effect.provideContext(effect, context)
        )
        proxy.silence()
        yield* on(WakeUp.WakeUp.use(({ hint }) => hint("events")))
        expect(yield* Queue.take(heard)).toBe("events")
        yield* on(WakeUp.WakeUp.use(({ hint }) => hint("chunks")))
        expect(yield* Queue.take(heard)).toBe("chunks")
      }).pipe(Effect.scoped)
  )

  it.effect("a program that records and ends still tells the others", () =>
    Effect.gen(function*() {
      const said = yield* eavesdrop
      const scope = yield* Scope.make()
      const on = yield* Scope.provide(start(), scope)
      // the first is sent at once, the second waits for its turn and meets the end
      yield* on(WakeUp.WakeUp.use(({ hint }) => hint("events")))
      expect((yield* Queue.take(said)).payload).toMatch(/^events /)
      yield* on(WakeUp.WakeUp.use(({ hint }) => hint("chunks")))
      yield* Scope.close(scope, Exit.void)
      expect((yield* Queue.take(said)).payload).toMatch(/^chunks /)
      yield* untilIt(listeners, (now) => now.length === 0)
    }).pipe(Effect.scoped))

  it.effect(
    "a chunk persisted outside the drain is hinted at when the surrounding transaction commits",
    () =>
      Effect.gen(function*() {
        const { heard, on } = yield* startHearing
        yield* on(Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const store = yield* ChunkStore.ChunkStore
          const entry = { key: keyOf("by-hand"), namespace: "chatlab", handler: "by hand" }
          const once = store.once(entry, Effect.succeed([{ type: "chatlab.Message", id: "1" }]))
          yield* Effect.ignore(sql.withTransaction(Effect.andThen(once, Effect.fail("rolled back"))))
          expect(yield* Queue.size(heard)).toBe(0)
          yield* sql.withTransaction(once)
          expect(yield* Queue.take(heard)).toBe("events")
        }))
      }).pipe(Effect.scoped)
  )
})
