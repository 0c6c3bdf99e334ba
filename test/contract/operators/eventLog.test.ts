/**
 * The ledger as a log for durable subscribers, on every store.
 */
import { ChunkStore, EventLog, Retention } from "effect-sluice"
import * as DomainObject from "effect-sluice/DomainObject"
import type { Taken } from "effect-sluice/EventLog"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { expect } from "vitest"
import { call, keyOf, record, settle } from "./dialogues.ts"
import { onEveryStore, Time } from "./ground.ts"

const lease = Duration.minutes(1)
const options = { limit: 100, maxBytes: 1e9, lease, reader: "test" }
const take = (name: string, limit = 100) =>
  EventLog.use((log) => Effect.map(log.take(name, { ...options, limit }), Option.getOrThrow))
const idsOf = ({ entries }: Taken) => entries.flatMap(({ events }) => events.map(({ object }) => object.id))
const statusOf = (name: string) =>
  EventLog.use((log) => Effect.map(log.list, (all) => all.find((one) => one.name === name)))

/** Records and persists, so that each call is a commit of its own. */
const persist = (...ids: ReadonlyArray<string>) =>
  Effect.forEach(ids, (id) => Effect.andThen(record(call(id)), settle("persisted")), { discard: true })

onEveryStore((test) => {
  test("a subscriber reads all there ever was, in order, and remembers its place", () =>
    Effect.gen(function*() {
      const log = yield* EventLog
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

  test("one that begins now reads what comes, and others are not held up by it", () =>
    Effect.gen(function*() {
      const log = yield* EventLog
      yield* persist("a")
      yield* log.open("new", "now")
      yield* log.open("old", "beginning")
      expect(yield* log.take("new", options)).toEqual(Option.none())
      yield* persist("b")
      expect(idsOf(yield* take("new"))).toEqual(["message of b"])
      expect(idsOf(yield* take("old"))).toEqual(["message of a", "message of b"])
    }))

  test("one reads at a time, until its lease runs out; who lost it moves nothing", () =>
    Effect.gen(function*() {
      const log = yield* EventLog
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

  test("after a failure it waits; failures are counted until it moves on", () =>
    Effect.gen(function*() {
      const log = yield* EventLog
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

  test("a chunk of which nothing came is an entry without events; one made by hand is there as well", () =>
    Effect.gen(function*() {
      const log = yield* EventLog
      yield* record(call("a"))
      yield* settle("nothing")
      const objects = ["1", "2"].map((id) => DomainObject.make("chatlab.Message", id))
      const entry = { key: keyOf("by-hand"), namespace: "chatlab", handler: "by hand" }
      yield* ChunkStore.use((store) => store.once(entry, Effect.succeed(objects)))
      yield* log.open("media", "beginning")
      const { entries } = yield* take("media")
      expect(entries.map(({ events }) => events.map(({ object }) => object.id))).toEqual([[], ["1", "2"]])
      // it never was a call
      expect(entries[1]?.events[0]).toMatchObject({ service: "", correlationId: "by-hand", context: {} })
    }))

  test("what is pruned still tells its events", () =>
    Effect.gen(function*() {
      yield* persist("a")
      yield* (yield* Time).pass("31 days")
      expect(yield* Retention.use((all) => all.prune({ payloads: Duration.days(30) }))).toMatchObject({ payloads: 1 })
      yield* EventLog.use((log) => log.open("media", "beginning"))
      expect((yield* take("media")).entries[0]?.events[0]?.context).toEqual({ simulationId: "knee" })
    }))

  test("one that is removed is gone, with its place, and is not taken again", () =>
    Effect.gen(function*() {
      const log = yield* EventLog
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
}, true)
