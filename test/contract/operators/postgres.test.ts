/**
 * What only a real server can show: two connections at once.
 */
import { layer } from "@effect/vitest"
import { ChunkStore, EventLog, Retention } from "effect-sluice"
import * as DomainObject from "effect-sluice/DomainObject"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import * as Postgres from "../../support/Postgres.ts"
import { call, keyOf, record, settle } from "./dialogues.ts"

const lease = Duration.minutes(1)

/** Persists one chunk in a transaction that stays open while `meanwhile` runs. */
const persistSlowly = <E, R>(id: string, meanwhile: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const store = yield* ChunkStore
    const objects = Effect.succeed([DomainObject.make("chatlab.Message", id)])
    yield* sql.withTransaction(Effect.andThen(
      store.once({ key: keyOf(id), namespace: "chatlab", handler: "by hand" }, objects),
      meanwhile
    ))
  })

/** Takes, moves on, and gives back what there was. */
const read = Effect.fnUntraced(function*(name: string, limit = 100) {
  const log = yield* EventLog
  const taken = yield* log.take(name, { limit, lease })
  if (Option.isNone(taken)) return []
  const { entries, token } = taken.value
  yield* log.advance(name, token, entries.at(-1)!.place, lease)
  yield* log.release(name, token)
  return entries.flatMap(({ events }) => events.map(({ object }) => object.id))
})

const ground = PgStore.layer.pipe(Layer.provideMerge(Postgres.layerAlone()))

layer(ground, { excludeTestServices: true, timeout: 60_000 })("on a real server", (it) => {
  it.effect("a transaction with a lower number that commits later is not skipped", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* EventLog.use((log) => log.open("media", "beginning"))
      const written = yield* Deferred.make<void>()
      const mayCommit = yield* Deferred.make<void>()
      const slow = yield* Effect.forkChild(
        persistSlowly("slow", Effect.andThen(Deferred.succeed(written, undefined), Deferred.await(mayCommit)))
      )
      yield* Deferred.await(written)
      yield* persistSlowly("quick", Effect.void)

      // this is the trap: who reads by number sees the quick one now, and the slow one behind its back afterwards
      const visible = yield* sql<{ call_id: string }>`select call_id from sluice.persisted_chunk order by seq`
      expect(visible.map((row) => row.call_id)).toEqual(["quick"])
      expect(yield* read("media")).toEqual([])

      yield* Deferred.succeed(mayCommit, undefined)
      yield* Fiber.join(slow)
      const both = yield* sql<{ call_id: string }>`select call_id from sluice.persisted_chunk order by seq`
      expect(both.map((row) => row.call_id)).toEqual(["slow", "quick"])
      expect(yield* read("media")).toEqual(["slow", "quick"])
    }))

  it.effect("one that begins now misses nothing that is under way", () =>
    Effect.gen(function*() {
      yield* persistSlowly("under way", EventLog.use((log) => log.open("late", "now")))
      expect(yield* read("late")).toContain("under way")
    }))

  it.effect("among many writers none is skipped and none comes twice", () =>
    Effect.gen(function*() {
      const seed = String(Math.floor(performance.now() * 1000))
      yield* EventLog.use((log) => log.open("many", "now"))
      const ids = Array.from({ length: 120 }, (_, n) => `many-${n}`)
      let writing = true
      const pause = Effect.flatMap(Random.nextIntBetween(0, 8), (millis) => Effect.sleep(millis))
      const writers = Effect.forEach(ids, (id) => persistSlowly(id, pause), { concurrency: 6, discard: true }).pipe(
        Random.withSeed(seed),
        Effect.ensuring(Effect.sync(() => writing = false))
      )
      const seen: Array<string> = []
      const reader = Effect.gen(function*() {
        while (true) {
          const last = !writing
          const found = yield* read("many", 3)
          seen.push(...found.filter((id) => id.startsWith("many-")))
          if (last && found.length === 0) return
        }
      })
      yield* Effect.all([writers, reader], { concurrency: "unbounded" })
      expect([seed, [...seen].sort()]).toEqual([seed, [...ids].sort()])
    }))

  it.effect("a place from another server's numbers is an error, not silence", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const log = yield* EventLog
      yield* log.open("restored", "now")
      yield* sql`update sluice.subscription set xact = '4000000000' where name = 'restored'`
      const error = yield* Effect.flip(log.take("restored", { limit: 1, lease }))
      expect(error).toMatchObject({ _tag: "StoreError", transient: false })
      expect(error.message).toContain("restored")
      yield* log.remove("restored")
    }))

  it.effect("pruning waits for nobody: what is locked goes the next time", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const retention = yield* Retention
      yield* record(call("locked"), call("free"))
      yield* settle("persisted")
      yield* sql`update sluice.service_call set recorded_at = now() - interval '31 days'`
      const policy = { payloads: Duration.days(30) }
      const locked = yield* Deferred.make<void>()
      const done = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(sql.withTransaction(Effect.gen(function*() {
        yield* sql`select 1 from sluice.service_call where call_id = 'locked' for update`
        yield* Deferred.succeed(locked, undefined)
        yield* Deferred.await(done)
      })))
      yield* Deferred.await(locked)
      expect((yield* retention.prune(policy)).payloads).toBe(1)
      yield* Deferred.succeed(done, undefined)
      yield* Fiber.join(holder)
      expect((yield* retention.prune(policy)).payloads).toBe(1)
    }))
})
