/**
 * What only a real server can show: two connections at once.
 */
import { layer } from "@effect/vitest"
import { ChunkStore, DeadLetters, EventLog, Retention } from "effect-sluice"
import type { DeathReason } from "effect-sluice/ChunkStore"
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
import { untilIt } from "../../support/until.ts"
import { call, keyOf, record, settle } from "./dialogues.ts"

const lease = Duration.minutes(1)
const options = { limit: 100, maxBytes: 1e9, lease, reader: "test" }

/** Persists one chunk in a transaction that stays open while `meanwhile` runs. */
const persistSlowly = <E, R>(id: string, meanwhile: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const store = yield* ChunkStore.ChunkStore
    const objects = Effect.succeed([DomainObject.make("chatlab.Message", id)])
    yield* sql.withTransaction(Effect.andThen(
      store.once({ key: keyOf(id), namespace: "chatlab", handler: "by hand" }, objects),
      meanwhile
    ))
  })

/** Runs a transaction up to `held` and keeps it open there until `commit`. */
const heldOpen = Effect.fnUntraced(
  function*<E, R>(transaction: (held: Effect.Effect<void>) => Effect.Effect<unknown, E, R>) {
    const reached = yield* Deferred.make<void>()
    const mayCommit = yield* Deferred.make<void>()
    const held = Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(mayCommit))
    const fiber = yield* Effect.forkChild(transaction(held))
    yield* Effect.raceFirst(Deferred.await(reached), Fiber.join(fiber))
    return { commit: Effect.andThen(Deferred.succeed(mayCommit, undefined), Fiber.join(fiber)) }
  }
)

/** Takes, moves on, and gives back what there was. */
const read = Effect.fnUntraced(function*(name: string, limit = 100) {
  const log = yield* EventLog.EventLog
  const taken = yield* log.take(name, { ...options, limit })
  if (Option.isNone(taken)) return []
  const { entries, token } = taken.value
  yield* log.advance(name, token, { place: entries.at(-1)!.place, suspects: 0 }, lease)
  yield* log.release(name, token, { suspects: 0 })
  return entries.flatMap(({ events }) => events.map(({ object }) => object.id))
})

const ground = PgStore.layer.pipe(Layer.provideMerge(Postgres.layerAlone()))

layer(ground, { excludeTestServices: true, timeout: 60_000 })("on a real server", (it) => {
  it.effect("a worker that has not beaten for five minutes is forgotten by whoever beats", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const store = yield* ChunkStore.ChunkStore
      for (const id of ["long gone", "silent", "living"]) yield* store.beat(id, [])
      yield* sql`update sluice.worker set beat_at = now() - interval '4 minutes' where id = 'silent'`
      yield* sql`update sluice.worker set beat_at = now() - interval '6 minutes' where id = 'long gone'`
      yield* store.beat("living", [])
      expect(yield* sql`select id from sluice.worker order by id`).toEqual([{ id: "living" }, { id: "silent" }])
    }))

  it.effect("a chunk that came back from a backup and dies a second time is a dead letter of that death", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const letters = yield* DeadLetters.DeadLetters
      const id = "dies twice"
      const dies = (fate: { readonly dead: DeathReason; readonly message: string; readonly handler?: string }) =>
        settle(({ key }) => key.callId === id ? fate : "released")
      yield* record(call(id))
      yield* sql`create table backup as select * from sluice.chunk_queue where call_id = ${id}`
      yield* dies({ dead: "undecodable", message: "expected a text", handler: "" })
      yield* letters.discard({ callId: id }, "said twice")
      yield* sql`update sluice.dead_letter set died_at = died_at - interval '1 day' where call_id = ${id}`
      const first = Option.getOrThrow(yield* letters.inspect(keyOf(id))).letter
      yield* sql`insert into sluice.chunk_queue select * from backup`
      yield* dies({ dead: "rejected", message: "the ward is closed" })
      const { letter } = Option.getOrThrow(yield* letters.inspect(keyOf(id)))
      expect(letter).toMatchObject({
        reason: "rejected",
        message: "the ward is closed",
        handler: "chatlab/patient-reply",
        discarded: null
      })
      expect(letter.diedAt.epochMilliseconds - first.diedAt.epochMilliseconds).toBeGreaterThan(3_600_000)
    }))

  for (const level of ["repeatable read", "serializable"]) {
    it.effect(`in a caller's transaction at ${level} what would wake others is refused, and nothing is done`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const store = yield* ChunkStore.ChunkStore
        const letters = yield* DeadLetters.DeadLetters
        const id = `dead at ${level}`
        yield* record(call(id))
        yield* settle(({ key }) => key.callId === id ? { dead: "exhausted" } : "released")
        const entry = { key: keyOf(id), namespace: "chatlab", handler: "by hand" }
        const verbs = {
          once: store.once(entry, Effect.die(new Error("the work was run"))),
          discard: letters.discard({ callId: id }, "no"),
          redrive: letters.redrive({ callId: id })
        }
        for (const [verb, effect] of Object.entries(verbs)) {
          const within = sql.withTransaction(
            Effect.andThen(
              sql.unsafe(`set transaction isolation level ${level}`),
              Effect.flip<unknown, unknown, never>(effect)
            )
          )
          expect({ verb, error: yield* within }).toMatchObject({
            verb,
            error: {
              _tag: "ChunkStoreError",
              transient: false,
              reason: expect.stringContaining(`is at ${level}; this needs`)
            }
          })
        }
        expect(yield* letters.list({ callId: id }, { limit: 1 })).toMatchObject([{ discarded: null }])
        // the other tests count what there is
        yield* letters.discard({ callId: id }, "no")
        yield* Retention.Retention.use((retention) =>
          retention.prune({ payloads: Duration.zero, discarded: Duration.zero })
        )
      }))
  }

  it.effect("a transaction with a lower number that commits later is not skipped", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* EventLog.EventLog.use((log) => log.open("media", "beginning"))
      const { commit } = yield* heldOpen((held) => persistSlowly("slow", held))
      yield* persistSlowly("quick", Effect.void)

      // this is the trap: who reads by number sees the quick one now, and the slow one behind its back afterwards
      const visible = yield* sql<{ call_id: string }>`select call_id from sluice.persisted_chunk order by seq`
      expect(visible.map((row) => row.call_id)).toEqual(["quick"])
      expect(yield* read("media")).toEqual([])

      yield* commit
      const both = yield* sql<{ call_id: string }>`select call_id from sluice.persisted_chunk order by seq`
      expect(both.map((row) => row.call_id)).toEqual(["slow", "quick"])
      expect(yield* read("media")).toEqual(["slow", "quick"])
    }))

  it.effect("one that begins now misses nothing that is under way", () =>
    Effect.gen(function*() {
      const { commit } = yield* heldOpen((held) => persistSlowly("under way", held))
      // it has the higher number, and is over
      yield* persistSlowly("over", Effect.void)
      yield* EventLog.EventLog.use((log) => log.open("late", "now"))
      yield* commit
      expect(yield* read("late")).toContain("under way")
    }))

  it.effect("among many writers none is skipped and none comes twice", () =>
    Effect.gen(function*() {
      const seed = String(Math.floor(performance.now() * 1000))
      yield* EventLog.EventLog.use((log) => log.open("many", "now"))
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

  it.effect("pruning waits for nobody: what is locked goes the next time", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const retention = yield* Retention.Retention
      yield* record(call("locked"), call("free"))
      yield* settle("persisted")
      yield* sql`update sluice.service_call set recorded_at = now() - interval '31 days'`
      const policy = { payloads: Duration.days(30) }
      const lock = sql`select 1 from sluice.service_call where call_id = 'locked' for update`
      const { commit } = yield* heldOpen((held) => sql.withTransaction(Effect.andThen(lock, held)))
      expect((yield* retention.prune(policy)).payloads).toBe(1)
      yield* commit
      expect((yield* retention.prune(policy)).payloads).toBe(1)
    }))

  it.effect("a redrive does not pass over a letter that somebody has locked for a moment", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const letters = yield* DeadLetters.DeadLetters
      yield* record(call("locked-letter"))
      yield* settle({ dead: "exhausted" })
      const lock = sql`select 1 from sluice.dead_letter where call_id = 'locked-letter' for update`
      const { commit } = yield* heldOpen((held) => sql.withTransaction(Effect.andThen(lock, held)))
      const redrive = yield* Effect.forkChild(letters.redrive({ callId: "locked-letter" }))
      const waiting = sql`select 1 from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%dead_letter%'`
      const ended = Effect.sync(() => redrive.pollUnsafe() !== undefined)
      yield* untilIt(Effect.all([waiting, ended]), ([rows, over]) => rows.length > 0 || over)
      yield* commit
      expect(yield* Fiber.join(redrive)).toBe(1)
      expect(yield* settle("persisted")).toContain("locked-letter")
    }))

  it.effect("a redrive ends, though everything it moves dies again at once", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const letters = yield* DeadLetters.DeadLetters
      const count = 2000
      yield* record(...Array.from({ length: count }, (_, n) => call(`again-${n}`, { namespace: "again" })))
      yield* settle({ dead: "exhausted" })
      // at the commit of each portion
      yield* sql`create function bury_again() returns trigger language plpgsql as $$ begin
        delete from sluice.chunk_queue where seq = new.seq;
        insert into sluice.dead_letter (call_id, schema_identity, part, seq, namespace, schema_version, position, bytes,
          priority, reason, handler, message, attempts, crashes, recorded_at)
        values (new.call_id, new.schema_identity, new.part, new.seq, new.namespace, new.schema_version, new.position,
          new.bytes, new.priority, 'exhausted', '', '', 1, 0, new.recorded_at);
        return null;
      end $$`
      yield* sql`create constraint trigger bury_again after insert on sluice.chunk_queue
        deferrable initially deferred for each row when (new.namespace = 'again') execute function bury_again()`
      expect(yield* letters.redrive({ namespace: "again" })).toBe(count)
      expect(yield* letters.count({ namespace: "again" })).toMatchObject([{ count }])
      yield* sql`drop trigger bury_again on sluice.chunk_queue`
      yield* letters.discard({ namespace: "again" }, "")
    }))

  it.effect("nobody is put aside behind a letter whose discarding is under way", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const letters = yield* DeadLetters.DeadLetters
      yield* record(call("first", { orderingKey: "hip" }), call("second", { orderingKey: "hip" }))
      yield* settle((chunk) => chunk.key.callId === "first" ? { dead: "exhausted" } : "released")
      const discard = letters.discard({ callId: "first" }, "")
      const { commit } = yield* heldOpen((held) => sql.withTransaction(Effect.andThen(discard, held)))
      // to this claim the letter still stands; whoever it put aside now, the discarding would not wake
      expect(yield* settle("persisted")).toEqual([])
      yield* commit
      expect(yield* settle("persisted")).toEqual(["second"])
    }))
})
