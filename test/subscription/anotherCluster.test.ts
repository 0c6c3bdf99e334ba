/**
 * Subscriptions whose tables come to another server, whose transaction ids begin elsewhere: none of the events is skipped,
 * what came along is told in its order, and before what is new.
 */
import { layer } from "@effect/vitest"
import { EventLog } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import { expect } from "vitest"
import { client } from "../support/client.ts"
import type { Cluster, Version } from "../support/cluster.ts"
import { untilIt } from "../support/until.ts"
import {
  database,
  emptyDatabase,
  hasDump,
  persist,
  persistWithin,
  type Place,
  placeAt,
  readAll,
  restore,
  restoreDump,
  server,
  spend,
  start
} from "./clusters.ts"

const lease = Duration.minutes(1)
const options = { limit: 100, maxBytes: 1e9, lease, reader: "test" }
const ids = (prefix: string, count: number) => Array.from({ length: count }, (_, n) => `${prefix}-${n}`)
const open = (place: Place, name: string, from: "beginning" | "now" = "beginning") =>
  place.run(EventLog.EventLog.use((log) => log.open(name, from)))
const rebase = (place: Place) => place.run(EventLog.EventLog.use((log) => log.rebase))
/** What keeps a subscription from being read. */
const refused = (place: Place, name: string) =>
  Effect.map(Effect.flip(place.run(EventLog.EventLog.use((log) => log.take(name, options)))), (error) => error.message)
const baseOf = ({ sql }: Place) =>
  Effect.map(
    sql<{ base: string }>`select base::text as base from sluice.subscription_log`,
    ([row]) => BigInt(row?.base ?? -1)
  )

/** Two servers: transactions have gone by on the old one, and none on the young one. */
class Servers extends Context.Service<Servers, { readonly old: Cluster; readonly young: Cluster }>()("test/Servers") {}

const servers = (version: Version) =>
  Layer.effect(
    Servers,
    Effect.gen(function*() {
      const one = server({ version, settings: { wal_level: "logical" } })
      const [old, young] = yield* Effect.all([one, one], { concurrency: 2 })
      yield* Effect.scoped(Effect.flatMap(placeAt(old.url()), (place) => spend(place, 20_000)))
      return { old, young }
    })
  )

const early = ids("early", 5)
const late = ids("late", 10)
const before = [...early, ...late]

/** A database with events, of which one subscription has read none, one some, and one all. */
const withReaders = Effect.fnUntraced(function*(cluster: Cluster) {
  const place = yield* database(cluster)
  for (const name of ["first", "middle", "last"]) yield* open(place, name)
  yield* persist(place, ...early)
  yield* spend(place, 300)
  yield* persist(place, ...late)
  expect(yield* readAll(place, "middle", 7)).toEqual(before.slice(0, 7))
  expect(yield* readAll(place, "last")).toEqual(before)
  return place
})

/** What each of the three is told of after the move, when this is new. */
const expectTold = Effect.fnUntraced(function*(place: Place, fresh: ReadonlyArray<string>) {
  expect(yield* readAll(place, "first")).toEqual([...before, ...fresh])
  expect(yield* readAll(place, "middle")).toEqual([...before.slice(7), ...fresh])
  expect(yield* readAll(place, "last")).toEqual(fresh)
})

for (const version of [18, 15] as const) {
  layer(servers(version), { excludeTestServices: true, timeout: 60_000 })(
    `in another cluster of Postgres ${version}`,
    (it) => {
      const directions = [["lower", "old", "young"], ["higher", "young", "old"]] as const
      const ways = [
        ["restored", restore],
        ...version === 15 && hasDump ? [["restored by pg_dump", restoreDump]] as const : []
      ] as const
      for (
        const [[ids, from, to], [how, restored]] of directions.flatMap((one) => ways.map((way) => [one, way] as const))
      ) {
        it.effect(`${how} where transaction ids are ${ids}, subscriptions go on where they were, and skip nothing`, () =>
          Effect.gen(function*() {
            const servers = yield* Servers
            const place = yield* restored(yield* withReaders(servers[from]), servers[to])
            // at once, before anybody has read here, and in a savepoint
            yield* persist(place, "new-1", "new-2")
            yield* persistWithin(place, "new-3")
            yield* persist(place, "new-4")
            yield* expectTold(place, ["new-1", "new-2", "new-3", "new-4"])
            yield* persist(place, "new-5")
            for (const name of ["first", "middle", "last"]) expect(yield* readAll(place, name)).toEqual(["new-5"])
            expect(yield* baseOf(place)).toSatisfy((base: bigint) => ids === "lower" ? base > 20_000n : base === 0n)
            expect(yield* rebase(place)).toEqual({ outcome: "ours", moved: 0, repeated: 0 })
          }))
      }

      it.effect("where transaction ids are lower, ends of calls go on where they were as well", () =>
        Effect.gen(function*() {
          const { old, young } = yield* Servers
          const from = yield* database(old)
          yield* from.run(EventLog.EventLog.use((log) => log.open("complete", "beginning", "calls")))
          yield* persist(from, "a", "b", "c")
          expect(yield* readAll(from, "complete", 1, "calls")).toEqual(["a"])
          const place = yield* restore(from, young)
          yield* persist(place, "new-1", "new-2")
          expect(yield* readAll(place, "complete", 1e9, "calls")).toEqual(["b", "c", "new-1", "new-2"])
          yield* persist(place, "new-3")
          expect(yield* readAll(place, "complete", 1e9, "calls")).toEqual(["new-3"])
          expect(yield* baseOf(place)).toSatisfy((base: bigint) => base > 20_000n)
        }))

      it.effect("that has overtaken the old ids before anybody looked, what is new still comes last", () =>
        Effect.gen(function*() {
          const { old, young } = yield* Servers
          const place = yield* restore(yield* withReaders(old), young)
          yield* persist(place, "new-1")
          const [{ next } = { next: 0 }] = yield* place.sql<{ next: number }>`
          select (max(xact::text::bigint) - pg_snapshot_xmax(pg_current_snapshot())::text::bigint)::int as next
          from sluice.persisted_chunk`
          expect(next).toBeGreaterThan(0)
          yield* spend(place, next - 5)
          // in the numbers of those that came along, and beyond them
          yield* persist(place, ...ids("among", 10))
          yield* expectTold(place, ["new-1", ...ids("among", 10)])
        }))

      it.effect(
        "and another, and back: whatever the ids, nothing is skipped, and all is in its order",
        () =>
          Effect.gen(function*() {
            const seed = String(Math.floor(performance.now() * 1000))
            yield* Random.withSeed(
              Effect.gen(function*() {
                const { old, young } = yield* Servers
                const readers = ["a", "b", "c"]
                const told = new Map(readers.map((name): [string, Array<string>] => [name, []]))
                const all: Array<string> = []
                let place = yield* database((yield* Random.nextBoolean) ? old : young)
                for (const name of readers) yield* open(place, name)
                const live = Effect.fnUntraced(function*() {
                  const steps = yield* Random.nextIntBetween(0, 7)
                  for (let step = 0; step < steps; step++) {
                    const kind = yield* Random.nextIntBetween(0, 6)
                    if (kind === 0) yield* spend(place, yield* Random.nextIntBetween(1, 3000))
                    else if (kind < 4) {
                      const id = `call-${all.length}`
                      all.push(id)
                      yield* kind === 1 ? persistWithin(place, id) : persist(place, id)
                    } else {
                      const name = readers[(yield* Random.nextIntBetween(0, 600)) % readers.length]!
                      told.get(name)!.push(...yield* readAll(place, name, yield* Random.nextIntBetween(1, 10)))
                    }
                  }
                })
                for (let move = 0; move < 10; move++) {
                  yield* live()
                  // before the next move somebody has looked: what the first left in doubt the second cannot know
                  yield* start(place)
                  place = yield* restore(place, (yield* Random.nextBoolean) ? old : young)
                }
                yield* live()
                for (const name of readers) {
                  told.get(name)!.push(...yield* readAll(place, name))
                  expect({ seed, name, told: told.get(name) }).toEqual({ seed, name, told: all })
                }
              }),
              seed
            )
          }),
        120_000
      )
    }
  )
}

layer(servers(18), { excludeTestServices: true, timeout: 60_000 })("in another cluster", (it) => {
  it.effect("a subscription that is new there begins with what came along, or with what comes", () =>
    Effect.gen(function*() {
      const { old, young } = yield* Servers
      const place = yield* restore(yield* withReaders(old), young)
      yield* persist(place, "new-1")
      yield* open(place, "from now", "now")
      yield* open(place, "from the beginning")
      yield* persist(place, "new-2")
      expect(yield* readAll(place, "from the beginning")).toEqual([...before, "new-1", "new-2"])
      const told = yield* readAll(place, "from now")
      expect(told.filter((id) => id !== "new-1")).toEqual(["new-2"])
    }))

  it.effect("who read when the tables were copied has lost its lease, and moves nothing with a place of the old one", () =>
    Effect.gen(function*() {
      const { old, young } = yield* Servers
      const place = yield* withReaders(old)
      yield* persist(place, "more")
      const taken = Option.getOrThrow(yield* place.run(EventLog.EventLog.use((log) => log.take("last", options))))
      const moved = yield* restore(place, young)
      yield* persist(moved, "new")
      const progress = { place: taken.entries[0]!.place, suspects: 0 }
      const advance = moved.run(EventLog.EventLog.use((log) => log.advance("last", taken.token, progress, lease)))
      expect((yield* Effect.flip(advance))._tag).toBe("LeaseLost")
      yield* open(moved, "another", "now")
      expect((yield* Effect.flip(advance))._tag).toBe("LeaseLost")
      expect(yield* readAll(moved, "last")).toEqual(["more", "new"])
    }))

  it.effect("a copy of the files goes on as it is: the ids do as well", () =>
    Effect.gen(function*() {
      const { old } = yield* Servers
      const place = yield* Effect.scoped(Effect.map(withReaders(old), ({ url }) => url))
      const name = new URL(place).pathname.slice(1)
      const copy = old.url(`${name}_copy`)
      yield* Effect.scoped(
        Effect.flatMap(placeAt(old.url()), ({ sql }) => sql.unsafe(`create database ${name}_copy template ${name}`))
      )
      const copied = yield* placeAt(copy)
      expect(yield* rebase(copied)).toEqual({ outcome: "ours", moved: 0, repeated: 0 })
      yield* persist(copied, "new")
      yield* expectTold(copied, ["new"])
    }))

  it.effect("without the right to change the ledger nothing is read, and it is said whose right it is", () =>
    Effect.gen(function*() {
      const { old, young } = yield* Servers
      const place = yield* restore(yield* withReaders(old), young)
      const role = `reader_${new URL(place.url).pathname.slice(1)}`
      yield* place.sql.unsafe(`create role ${role} login`)
      yield* place.sql.unsafe(`grant usage on schema sluice to ${role}`)
      yield* place.sql.unsafe(`grant select, insert, update, delete on all tables in schema sluice to ${role}`)
      const url = new URL(place.url)
      url.username = role
      const reader = yield* placeAt(url.href)
      yield* persist(place, "new-1")
      expect(yield* refused(reader, "middle")).toMatch(
        /owner of sluice\.persisted_chunk.*`sluice subscriptions rebase`/
      )
      yield* persist(place, "new-2")
      expect(yield* rebase(place)).toEqual({ outcome: "raised", moved: 2, repeated: 0 })
      yield* expectTold(reader, ["new-1", "new-2"])
    }))

  it.effect("a program's start rebases before it persists anything", () =>
    Effect.gen(function*() {
      const { old, young } = yield* Servers
      const place = yield* restore(yield* withReaders(old), young)
      yield* Effect.scoped(Layer.build(PgStore.layer.pipe(Layer.provide(client(place.url)))))
      expect(yield* baseOf(place)).toBeGreaterThan(20_000n)
      expect(yield* rebase(place)).toMatchObject({ outcome: "ours" })
      yield* persist(place, "new")
      yield* expectTold(place, ["new"])
    }))

  it.effect("while somebody holds the ledger a rebase waits a while, says so, and comes later", () =>
    Effect.gen(function*() {
      const { old, young } = yield* Servers
      const place = yield* restore(yield* withReaders(old), young)
      const other = yield* placeAt(place.url)
      yield* other.sql.withTransaction(Effect.gen(function*() {
        yield* other.sql`select 1 from sluice.persisted_chunk limit 1`
        expect(yield* refused(place, "middle")).toMatch(/did not end within 3s/)
      }))
      yield* expectTold(place, [])
    }))

  it.effect("rows that were put in by hand are not guessed at; a person says so, and what is here comes again", () =>
    Effect.gen(function*() {
      const { old, young } = yield* Servers
      const from = yield* withReaders(old)
      const place = yield* database(young)
      yield* open(place, "here")
      yield* persist(place, "here-1")
      expect(yield* readAll(place, "here")).toEqual(["here-1"])
      for (const name of ["persisted_chunk", "subscription"]) {
        const rows = yield* from.sql<{ rows: string }>`
          select json_agg(t)::text as rows from ${from.sql(`sluice.${name}`)} t`
        const table = place.sql(`sluice.${name}`)
        yield* place.sql`
          insert into ${table} select * from json_populate_recordset(null::${table}, ${rows[0]?.rows ?? ""}::json)`
      }
      yield* persist(place, "here-2")
      expect(yield* refused(place, "middle")).toMatch(/`sluice subscriptions rebase`/)
      expect(yield* refused(place, "here")).toMatch(/`sluice subscriptions rebase`/)
      expect(yield* rebase(place)).toMatchObject({ outcome: "raised", moved: 2, repeated: 2 })
      yield* expectTold(place, ["here-1", "here-2"])
      expect(yield* readAll(place, "here")).toEqual([...before, "here-1", "here-2"])
    }))

  it.effect("that is a logical replica of the old one, events are read when the replication has ended", () =>
    Effect.gen(function*() {
      const { old, young } = yield* Servers
      const from = yield* withReaders(old)
      const place = yield* database(young)
      // as a replica is made: tables without rows
      yield* place.sql`delete from sluice.subscription_log`
      yield* place.sql`delete from sluice.migration`
      const name = new URL(place.url).pathname.slice(1)
      yield* from.sql.unsafe(`create publication ${name} for all tables`)
      const { hostname, pathname, port } = new URL(from.url)
      yield* place.sql.unsafe(
        `create subscription ${name} connection 'host=${hostname} port=${port} user=postgres dbname=${
          pathname.slice(1)
        }'
          publication ${name}`
      )
      yield* persist(from, "while it ran")
      expect(yield* readAll(from, "middle", 3)).toEqual(before.slice(7, 10))
      const arrived = place.sql`
        select 1 from sluice.persisted_chunk l join sluice.subscription s on s.name = 'middle'
          and s.xact = (select xact from sluice.persisted_chunk where call_id = ${before[9]!})
        where l.call_id = 'while it ran' and s.lease_token is null`
      yield* untilIt(arrived, (rows) => rows.length > 0)
      expect(yield* refused(place, "middle")).toMatch(new RegExp(`logical replication \\(${name}\\)`))
      expect((yield* Effect.flip(rebase(place))).message).toMatch(/logical replication/)
      yield* place.sql.unsafe(`drop subscription ${name}`)
      const [seq] = yield* from.sql<{ last: string }>`select last_value::text as last from sluice.chunk_seq`
      yield* place.sql`select setval('sluice.chunk_seq', ${seq?.last ?? "1"}::bigint)`
      yield* persist(place, "new")
      expect(yield* readAll(place, "first")).toEqual([...before, "while it ran", "new"])
      expect(yield* readAll(place, "middle")).toEqual([...before.slice(10), "while it ran", "new"])
      expect(yield* readAll(place, "last")).toEqual(["while it ran", "new"])
    }))

  it.effect("a database without its log's row, as of a partial restore, is read when its numbers fit, and not before", () =>
    Effect.gen(function*() {
      const { old, young } = yield* Servers
      const fits = yield* restore(yield* withReaders(young), old)
      yield* fits.sql`delete from sluice.subscription_log`
      yield* expectTold(fits, [])
      const above = yield* restore(yield* withReaders(old), young)
      yield* above.sql`delete from sluice.subscription_log`
      yield* persist(above, "new")
      expect(yield* refused(above, "first")).toMatch(/`sluice subscriptions rebase`/)
      yield* rebase(above)
      yield* expectTold(above, ["new"])
    }))

  it.effect("an empty database has nothing to rebase", () =>
    Effect.gen(function*() {
      const { young } = yield* Servers
      const place = yield* database(young)
      expect(yield* rebase(place)).toMatchObject({ outcome: "ours" })
      // as the migration leaves a database that held lines before it
      yield* persist(place, "a")
      yield* place.sql`update sluice.subscription_log set witness = '0'`
      expect(yield* rebase(place)).toMatchObject({ outcome: "adopted", moved: 0 })
      expect(yield* rebase(place)).toMatchObject({ outcome: "ours" })
      expect((yield* Effect.flip(rebase(yield* emptyDatabase(young))))._tag).toBe("ChunkStoreError")
    }))
})
