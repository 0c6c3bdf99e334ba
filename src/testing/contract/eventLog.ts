/**
 * The ledger as a log for durable subscribers, on every store.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as EventLog from "../../EventLog.ts"
import type { Taken } from "../../EventLog.ts"
import * as Retention from "../../Retention.ts"
import { call, claim, keyOf, record, settle } from "./dialogues.ts"
import { expect } from "./expect.ts"
import { topic } from "./scenes.ts"
import { Time } from "./services.ts"

const lease = Duration.minutes(1)
const options = { limit: 100, maxBytes: 1e9, lease, reader: "test" }
const take = (name: string, limit = 100) =>
  EventLog.EventLog.use((log) => Effect.map(log.take(name, { ...options, limit }), Option.getOrThrow))
const idsOf = ({ entries }: Taken) => entries.flatMap(({ events }) => events.map(({ object }) => object.id))
const statusOf = (name: string) =>
  EventLog.EventLog.use((log) => Effect.map(log.list, (all) => all.find((one) => one.name === name)))

/** Records and persists, so that each call is a commit of its own. */
const persist = (...ids: ReadonlyArray<string>) =>
  Effect.forEach(ids, (id) => Effect.andThen(record(call(id)), settle("persisted")), { discard: true })

export const eventLog = topic("eventLog", (test) => {
  test("a subscription reads the whole log in order, and remembers its place", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      yield* persist("a", "b", "c")
      yield* log.open("media", "beginning")
      expect(yield* statusOf("media")).toMatchObject({ attempts: 0, lastError: null, behind: 3 })

      const first = yield* take("media", 2)
      expect(idsOf(first)).toEqual(["message of a", "message of b"])
      expect(first.attempts).toBe(0)
      expect(first.entries[0]?.events[0]).toMatchObject({
        object: { type: "chatlab.Message", id: "message of a" },
        key: keyOf("a"),
        namespace: "chatlab",
        handler: "chatlab/patient-reply",
        service: "services.chatlab.standardized_patient.generate-reply",
        correlationId: "a",
        context: { simulationId: "knee" }
      })
      yield* log.advance("media", first.token, { place: first.entries[0]!.place, suspects: 0 }, lease)
      yield* log.release("media", first.token, { suspects: 0 })

      // opened again, as at a restart: nothing is changed by that
      yield* log.open("media", "now")
      const second = yield* take("media")
      expect(idsOf(second)).toEqual(["message of b", "message of c"])
      expect(second.place).toEqual(first.entries[0]!.place)
      yield* log.advance("media", second.token, { place: second.entries[1]!.place, suspects: 0 }, lease)
      yield* log.release("media", second.token, { suspects: 0 })
      expect(yield* log.take("media", options)).toEqual(Option.none())
      expect(yield* statusOf("media")).toMatchObject({ behind: 0 })
    }))

  test("a subscription that begins now reads only what follows, and does not hold up others", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      yield* persist("a")
      yield* log.open("new", "now")
      yield* log.open("old", "beginning")
      expect(yield* log.take("new", options)).toEqual(Option.none())
      yield* persist("b")
      expect(idsOf(yield* take("new"))).toEqual(["message of b"])
      expect(idsOf(yield* take("old"))).toEqual(["message of a", "message of b"])
    }))

  test("one reader has a subscription until its lease runs out; a reader that lost it cannot move the place", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      const time = yield* Time
      yield* persist("a", "b")
      yield* log.open("media", "beginning")
      const lost = yield* take("media")
      expect(yield* log.take("media", options)).toEqual(Option.none())
      yield* time.pass("50 seconds")
      yield* log.advance("media", lost.token, { place: lost.place, suspects: 0 }, lease)
      yield* time.pass("50 seconds")
      expect(yield* log.take("media", options)).toEqual(Option.none())
      yield* time.pass("20 seconds")

      const held = yield* take("media")
      expect(idsOf(held)).toEqual(["message of a", "message of b"])
      const error = yield* Effect.flip(
        log.advance("media", lost.token, { place: lost.entries[1]!.place, suspects: 0 }, lease)
      )
      expect(error._tag).toBe("LeaseLost")
      yield* log.release("media", lost.token, {
        suspects: 1,
        failure: { message: "", delay: Duration.zero }
      })
      expect(yield* log.take("media", options)).toEqual(Option.none())
      expect(yield* statusOf("media")).toMatchObject({ attempts: 0, behind: 2 })
    }))

  test("after a failure a subscription waits; failures are counted until its place moves", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      const time = yield* Time
      yield* persist("a", "b")
      yield* log.open("media", "beginning")
      for (const attempts of [0, 1]) {
        const taken = yield* take("media")
        expect(taken.attempts).toBe(attempts)
        yield* log.release("media", taken.token, {
          suspects: 1,
          failure: { message: "no\0film", delay: Duration.seconds(30) }
        })
        expect(yield* log.take("media", options)).toEqual(Option.none())
        yield* time.pass("31 seconds")
      }
      expect(yield* statusOf("media")).toMatchObject({ attempts: 2, lastError: expect.stringMatching(/^no.+film$/) })

      const taken = yield* take("media")
      yield* log.advance("media", taken.token, { place: taken.place, suspects: 0 }, lease)
      expect(yield* statusOf("media")).toMatchObject({ attempts: 2 })
      yield* log.advance("media", taken.token, { place: taken.entries[0]!.place, suspects: 0 }, lease)
      expect(yield* statusOf("media")).toMatchObject({ attempts: 0, lastError: null })
    }))

  test("a failing batch is halved at once to find the entry, and another reader continues the search", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      yield* persist("a", "b", "c", "d", "e")
      yield* log.open("media", "beginning")
      const failure = { message: "one of them", delay: Duration.hours(1) }
      const all = yield* take("media")
      expect(all).toMatchObject({ suspects: 0, attempts: 0 })
      yield* log.release("media", all.token, { suspects: 5, failure })
      expect(yield* statusOf("media")).toMatchObject({ attempts: 0, suspects: 5, lastError: "one of them" })

      // the first half is fine, and gone
      const half = yield* take("media")
      expect(idsOf(half)).toEqual(["message of a", "message of b", "message of c"])
      expect(half.suspects).toBe(5)
      yield* log.advance("media", half.token, { place: half.entries[2]!.place, suspects: 2 }, lease)
      yield* log.release("media", half.token, { suspects: 2 })

      // of two the first is tried, and is fine as well
      const fourth = yield* take("media")
      expect(idsOf(fourth)).toEqual(["message of d"])
      yield* log.advance("media", fourth.token, { place: fourth.entries[0]!.place, suspects: 1 }, lease)
      yield* log.release("media", fourth.token, { suspects: 1 })

      // alone it is charged, and waits
      const last = yield* take("media")
      expect(idsOf(last)).toEqual(["message of e"])
      yield* log.release("media", last.token, { suspects: 1, failure })
      expect(yield* log.take("media", options)).toEqual(Option.none())
      expect(yield* statusOf("media")).toMatchObject({ attempts: 1, suspects: 1, behind: 1 })
      yield* persist("f")
      yield* (yield* Time).pass("61 minutes")
      const again = yield* take("media")
      expect(idsOf(again)).toEqual(["message of e"])
      yield* log.advance("media", again.token, { place: again.entries[0]!.place, suspects: 0 }, lease)
      yield* log.release("media", again.token, { suspects: 0 })
      expect(yield* statusOf("media")).toMatchObject({ attempts: 0, suspects: 0, lastError: null })
    }))

  test("a batch whose reader died is halved until the entry that kills its reader is alone", () =>
    Effect.gen(function*() {
      const time = yield* Time
      const log = yield* EventLog.EventLog
      yield* persist("a", "b", "c", "d", "e", "f", "g")
      yield* log.open("media", "beginning")
      const sizes: Array<number> = []
      for (let death = 0; death < 5; death++) {
        sizes.push((yield* take("media")).entries.length)
        yield* time.pass("61 seconds")
      }
      expect(sizes).toEqual([7, 4, 2, 1, 1])
      // what its reader told of before it died is not under suspicion
      const held = yield* take("media")
      yield* log.advance("media", held.token, { place: held.entries[0]!.place, suspects: 0 }, lease)
      yield* log.release("media", held.token, { suspects: 0 })
      const six = yield* take("media")
      expect(idsOf(six)).toHaveLength(6)
      yield* log.advance("media", six.token, { place: six.entries[3]!.place, suspects: 2 }, lease)
      yield* time.pass("61 seconds")
      expect(idsOf(yield* take("media"))).toEqual(["message of f"])
    }))

  test("a batch has no more bytes than asked for, but at least one entry", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      const context = { notes: "x".repeat(10_000) }
      for (const id of ["a", "b", "c"]) {
        yield* record(call(id, { context }))
        yield* settle("persisted")
      }
      yield* log.open("media", "beginning")
      const sizes: Array<number> = []
      for (const maxBytes of [10, 25_000, 25_000]) {
        const taken = Option.getOrThrow(yield* log.take("media", { ...options, maxBytes }))
        sizes.push(taken.entries.length)
        yield* log.advance("media", taken.token, { place: taken.entries[0]!.place, suspects: 0 }, lease)
        yield* log.release("media", taken.token, { suspects: 0 })
      }
      expect(sizes).toEqual([1, 2, 1])
    }))

  test("an entry too large to be read stops the subscription after the entries before it, is named, and can be skipped", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      const objects = Array.from(
        { length: 160_000 },
        (_, n) => DomainObject.make("chatlab.Message", `${n} ${"x".repeat(80)}`)
      )
      yield* persist("a")
      yield* record(call("large"))
      const { chunks: [chunk], token } = yield* claim
      const line = { chunk: chunk!, handler: "chatlab/patient-reply", handlerVersion: 1, objects }
      yield* ChunkStore.ChunkStore.use((store) => store.persist(token, () => Effect.succeed([line])))
      yield* persist("b")
      yield* log.open("media", "beginning")
      const first = yield* take("media")
      expect(idsOf(first)).toEqual(["message of a"])
      yield* log.advance("media", first.token, { place: first.entries[0]!.place, suspects: 0 }, lease)
      yield* log.release("media", first.token, { suspects: 0 })

      const stopped = yield* take("media")
      expect(stopped.entries).toEqual([])
      expect(stopped.unreadable).toMatchObject({ _tag: "EntryTooLarge", subscription: "media", key: keyOf("large") })
      expect(stopped.unreadable?.message).toMatch(/created of large schemas\.\S+ takes \d{8} bytes .* skip/)
      yield* log.release("media", stopped.token, {
        suspects: 1,
        failure: { message: String(stopped.unreadable?.message), delay: Duration.hours(1) }
      })
      expect(yield* statusOf("media")).toMatchObject({ attempts: 1, behind: 2, next: { key: keyOf("large") } })
      expect(yield* log.skip("media", keyOf("large"), "nobody wants them")).toBe(true)
      expect(idsOf(yield* take("media"))).toEqual(["message of b"])
    }))

  test("skip passes over the entry that is next, whoever is reading, counts it, and skips nothing else", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      yield* persist("a", "b")
      yield* log.open("media", "beginning")
      const taken = yield* take("media")
      yield* log.release("media", taken.token, {
        suspects: 1,
        failure: { message: "no film", delay: Duration.hours(1) }
      })
      expect(yield* log.skip("media", keyOf("b"), "why")).toBe(false)
      expect(yield* log.skip("none", keyOf("a"), "why")).toBe(false)
      expect(yield* statusOf("media")).toMatchObject({ behind: 2, skipped: 0, next: { key: keyOf("a") } })
      expect(yield* log.skip("media", keyOf("a"), "no film\0 any more")).toBe(true)
      expect(yield* statusOf("media"))
        .toMatchObject({ behind: 1, skipped: 1, attempts: 0, lastError: null, next: { key: keyOf("b") } })

      const reading = yield* take("media")
      expect(idsOf(reading)).toEqual(["message of b"])
      expect((yield* statusOf("media"))?.reader?.id).toBe("test")
      expect(yield* log.skip("media", keyOf("b"), "")).toBe(true)
      const error = yield* Effect.flip(
        log.advance("media", reading.token, { place: reading.entries[0]!.place, suspects: 0 }, lease)
      )
      expect(error._tag).toBe("LeaseLost")
      expect(yield* statusOf("media")).toMatchObject({ behind: 0, skipped: 2, reader: null, next: null })
      expect(yield* log.skip("media", keyOf("b"), "")).toBe(false)
    }))

  test("a place can be set to the beginning, to now, or before what was persisted since a time", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      const time = yield* Time
      yield* persist("a")
      yield* time.pass("1 hour")
      yield* persist("b", "c")
      yield* log.open("media", "now")
      expect((yield* statusOf("media"))?.behind).toBe(0)
      expect(yield* log.reset("media", "beginning")).toBe(true)
      const taken = yield* take("media")
      expect(idsOf(taken)).toHaveLength(3)
      // by the store's own clock
      const second = (yield* statusOf("media"))!.next!.persistedAt
      expect(yield* log.reset("media", "now")).toBe(true)
      expect((yield* statusOf("media"))?.behind).toBe(0)
      const error = yield* Effect.flip(
        log.advance("media", taken.token, { place: taken.place, suspects: 0 }, lease)
      )
      expect(error._tag).toBe("LeaseLost")
      expect(yield* log.reset("media", DateTime.add(second, { minutes: 30 }))).toBe(true)
      expect(idsOf(yield* take("media"))).toEqual(["message of b", "message of c"])
      expect(yield* log.reset("media", DateTime.add(second, { hours: 30 }))).toBe(true)
      expect((yield* statusOf("media"))?.behind).toBe(0)
      expect(yield* log.reset("none", "beginning")).toBe(false)
    }))

  test("a chunk that created nothing is an entry without events; a row inserted manually is read as well", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      yield* record(call("a"))
      yield* settle("nothing")
      const objects = ["1", "2"].map((id) => DomainObject.make("chatlab.Message", id))
      const entry = { key: keyOf("by-hand"), namespace: "chatlab", handler: "by hand" }
      yield* ChunkStore.ChunkStore.use((store) => store.once(entry, Effect.succeed(objects)))
      yield* log.open("media", "beginning")
      const { entries } = yield* take("media")
      expect(entries.map(({ events }) => events.map(({ object }) => object.id))).toEqual([[], ["1", "2"]])
      // it never was a call
      expect(entries[1]?.events[0]).toMatchObject({ service: "", correlationId: "by-hand", context: {} })
    }))

  test("entries of pruned calls keep their events", () =>
    Effect.gen(function*() {
      yield* persist("a")
      yield* (yield* Time).pass("31 days")
      expect(yield* Retention.Retention.use((all) => all.prune({ payloads: Duration.days(30) }))).toMatchObject({
        payloads: 1
      })
      yield* EventLog.EventLog.use((log) => log.open("media", "beginning"))
      expect((yield* take("media")).entries[0]?.events[0]?.context).toEqual({ simulationId: "knee" })
    }))

  test("a removed subscription is gone with its place, and cannot be taken", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      yield* persist("a")
      yield* log.open("media", "beginning")
      const taken = yield* take("media")
      expect(yield* log.remove("media")).toBe(true)
      expect(yield* log.remove("media")).toBe(false)
      expect(yield* log.list).toEqual([])
      const error = yield* Effect.flip(log.advance("media", taken.token, { place: taken.place, suspects: 0 }, lease))
      expect(error._tag).toBe("LeaseLost")
      expect(yield* log.take("media", options)).toEqual(Option.none())
    }))
})
