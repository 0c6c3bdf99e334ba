/**
 * The ends of calls as a log for durable subscribers, on every store: each is told once, with how its chunks ended.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DeadLetters from "../../DeadLetters.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as Erasure from "../../Erasure.ts"
import * as EventLog from "../../EventLog.ts"
import * as Retention from "../../Retention.ts"
import { call, claim, keyOf, persist, record, reply, settle } from "./dialogues.ts"
import { expect } from "./expect.ts"
import { topic } from "./scenes.ts"
import { Rows, Time } from "./services.ts"

const lease = Duration.minutes(1)
const options = { feed: "calls", limit: 100, maxBytes: 1e9, lease, reader: "test" } as const
const open = (name = "complete", from: EventLog.From = "beginning") =>
  EventLog.EventLog.use((log) => log.open(name, from, "calls"))

/** Reads the ends that are next, and goes on behind them. */
const next = Effect.fnUntraced(function*(name = "complete") {
  const log = yield* EventLog.EventLog
  const taken = yield* log.take(name, options)
  if (Option.isNone(taken)) return []
  const { entries, token } = taken.value
  yield* log.advance(name, token, { place: entries.at(-1)!.place, suspects: 0 }, lease)
  yield* log.release(name, token, { suspects: 0 })
  return entries.map(({ ended }) => ended)
})
const statusOf = (name: string) =>
  EventLog.EventLog.use((log) => Effect.map(log.list, (all) => all.find((one) => one.name === name)))

const served = { namespace: "chatlab", schemaIdentity: reply }
const beat = ChunkStore.ChunkStore.use((store) => store.beat("w", [served]))

/** A call with a chunk for each part. */
const inParts = (callId: string, ...parts: ReadonlyArray<string>) =>
  call(callId, { outputs: parts.map((part) => ({ schema: reply, version: 1, part, data: { text: part } })) })
const later = { retry: "1 hour" } as const
const dead = { dead: "exhausted" } as const

export const callEnds = topic("callEnds", (test) => {
  test("a call ends when each of its chunks is persisted or dead, and says how many are", () =>
    Effect.gen(function*() {
      yield* open()
      yield* record(inParts("a", "history", "findings", "plan"), call("b", { correlationId: "visit 7" }))
      yield* settle(({ key }) => key.part === "plan" ? later : key.part === "findings" ? dead : "persisted")
      expect(yield* next()).toMatchObject([{
        callId: "b",
        namespace: "chatlab",
        service: "services.chatlab.standardized_patient.generate-reply",
        correlationId: "visit 7",
        context: { simulationId: "knee" },
        persisted: 1,
        dead: 0
      }])
      expect(yield* beat).toMatchObject({ unparked: 0 })
      expect(yield* next()).toEqual([])
      yield* (yield* Time).pass("61 minutes")
      yield* settle("persisted")
      expect(yield* next()).toMatchObject([{ callId: "a", correlationId: "a", persisted: 2, dead: 1 }])
      yield* beat
      expect(yield* next()).toEqual([])
    }))

  test("a released, parked or waiting chunk is outstanding", () =>
    Effect.gen(function*() {
      yield* open()
      yield* record(call("first", { orderingKey: "7" }), call("second", { orderingKey: "7" }), call("other"))
      yield* settle("released")
      yield* settle("parked")
      yield* beat
      expect(yield* next()).toEqual([])
      yield* settle(({ key }) => key.callId === "second" ? "released" : "persisted")
      expect(yield* next()).toMatchObject([{ callId: "first" }, { callId: "other" }])
      yield* settle("persisted")
      expect(yield* next()).toMatchObject([{ callId: "second", persisted: 1, dead: 0 }])
    }))

  test("a dead letter that is redriven or discarded after the end causes no second end", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      yield* open()
      yield* record(call("a"), call("b"))
      yield* settle(dead)
      expect(yield* next()).toMatchObject([{ persisted: 0, dead: 1 }, { persisted: 0, dead: 1 }])
      expect(yield* letters.redrive({ callId: "a" })).toBe(1)
      expect(yield* letters.discard({ callId: "b" }, "nobody wants it")).toBe(1)
      yield* settle("persisted")
      yield* beat
      expect(yield* next()).toEqual([])
    }))

  test("a dead letter that is redriven before the end is outstanding again", () =>
    Effect.gen(function*() {
      yield* open()
      yield* record(inParts("a", "history", "plan"))
      yield* settle(({ key }) => key.part === "plan" ? later : dead)
      yield* DeadLetters.DeadLetters.use((letters) => letters.redrive({}))
      yield* settle("parked")
      yield* (yield* Time).pass("61 minutes")
      yield* settle("persisted")
      expect(yield* next()).toEqual([])
      yield* beat
      yield* settle("persisted")
      expect(yield* next()).toMatchObject([{ callId: "a", persisted: 2, dead: 0 }])
    }))

  test("a call without outputs ends at a beat, with no chunk persisted or dead", () =>
    Effect.gen(function*() {
      yield* open()
      yield* record(call("a", { outputs: [] }))
      yield* beat
      expect(yield* next()).toMatchObject([{ callId: "a", persisted: 0, dead: 0 }])
    }))

  test("a call that is recorded again does not end again", () =>
    Effect.gen(function*() {
      yield* open()
      yield* record(call("a"))
      yield* settle("persisted")
      expect(yield* next()).toHaveLength(1)
      expect(yield* record(call("a"))).toEqual(["unchanged"])
      yield* beat
      expect(yield* next()).toEqual([])
    }))

  test("ends are kept from the first subscription on, until the last one is removed", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      yield* log.open("media", "beginning")
      yield* record(call("before"))
      yield* open("one")
      yield* record(call("a"))
      yield* settle("persisted")
      yield* open("two")
      yield* open("three", "now")
      yield* beat
      expect(yield* next("one")).toMatchObject([{ callId: "a" }])
      expect(yield* next("two")).toMatchObject([{ callId: "a" }])
      expect(yield* next("three")).toEqual([])
      expect(yield* log.remove("one")).toBe(true)
      yield* record(call("b"))
      yield* settle("persisted")
      expect(yield* next("two")).toMatchObject([{ callId: "b" }])
      expect(yield* next("three")).toMatchObject([{ callId: "b" }])
      for (const name of ["two", "three"]) yield* log.remove(name)
      yield* record(call("c"))
      yield* open("four", "now")
      yield* settle("persisted")
      yield* beat
      expect(yield* next("four")).toEqual([])
    }))

  test("the name of a subscription has one feed, and cannot be read as the other", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      expect(yield* open()).toBe("calls")
      expect(yield* log.open("complete", "beginning")).toBe("calls")
      expect(yield* log.open("media", "beginning")).toBe("objects")
      expect(yield* open("media")).toBe("objects")
      yield* record(call("a"))
      yield* settle("persisted")
      const { feed: _, ...ofObjects } = options
      expect(yield* log.take("complete", ofObjects)).toEqual(Option.none())
      expect(yield* log.take("media", options)).toEqual(Option.none())
      const { entries } = Option.getOrThrow(yield* log.take("media", ofObjects))
      expect(entries.map(({ ended, events }) => [ended, events.length])).toEqual([[undefined, 1]])
      expect(yield* next()).toHaveLength(1)
    }))

  test("each subscription is shown with its feed; skip and reset work for ends as for objects", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      yield* open()
      yield* log.open("media", "beginning")
      yield* record(call("a"), call("b"))
      yield* settle("persisted")
      const key = EventLog.keyOfEnd("a")
      expect(yield* statusOf("complete")).toMatchObject({ feed: "calls", behind: 2, next: { key } })
      expect(yield* statusOf("media")).toMatchObject({ feed: "objects", behind: 2, next: { key: keyOf("a") } })
      expect(yield* log.skip("complete", keyOf("a"), "")).toBe(false)
      expect(yield* log.skip("media", key, "")).toBe(false)
      expect(yield* log.skip("complete", EventLog.keyOfEnd("b"), "")).toBe(false)
      expect(yield* log.skip("complete", key, "the ward is closed")).toBe(true)
      expect(yield* statusOf("complete")).toMatchObject({ behind: 1, skipped: 1 })
      expect(yield* next()).toMatchObject([{ callId: "b" }])
      expect(yield* log.reset("complete", "beginning")).toBe(true)
      const [, second] = yield* next()
      expect(second?.callId).toBe("b")
      expect(yield* log.reset("complete", second!.endedAt)).toBe(true)
      expect((yield* statusOf("complete"))?.behind).toBeGreaterThan(0)
      expect(yield* log.reset("complete", "now")).toBe(true)
      expect(yield* statusOf("complete")).toMatchObject({ behind: 0, next: null })
    }))

  test("an erased call ends at a beat, without data of its subject", () =>
    Effect.gen(function*() {
      const context = { patientId: "Miller" }
      yield* open()
      yield* record({ ...inParts("a", "history", "plan"), context, correlationId: "Miller" })
      yield* settle(({ key }) => key.part === "plan" ? later : "persisted")
      const subject = Erasure.Subject.Context({ key: "patientId", value: "Miller" })
      yield* Erasure.Erasure.use((erasure) => erasure.erase(subject, { because: "letter 12", by: "records office" }))
      yield* beat
      expect(yield* next()).toMatchObject([{ callId: "a", correlationId: "a", context: {}, persisted: 1, dead: 0 }])
    }))

  test("chunks persisted by once, before or after the recording, count for the end of their call", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const byHand = (callId: string) =>
        store.once(
          { key: keyOf(callId), namespace: "chatlab", handler: "by hand" },
          Effect.succeed([DomainObject.make("chatlab.Message", callId)])
        )
      yield* open()
      yield* byHand("before")
      yield* record(call("before"), call("after"))
      yield* byHand("after")
      expect(yield* next()).toMatchObject([{ callId: "after", persisted: 1, dead: 0 }])
      const { chunks, token } = yield* claim
      yield* store.settle(token, chunks.map((chunk) => ({ _tag: "Already", chunk })))
      expect(yield* next()).toMatchObject([{ callId: "before", persisted: 1, dead: 0 }])
    }))

  test("a call recorded and persisted in one transaction ends at its commit, and not when it is rolled back", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const rows = yield* Rows
      yield* open()
      const recordAndPersist = (callId: string) => Effect.andThen(record(call(callId)), Effect.flatMap(claim, persist))
      yield* rows.transaction(Effect.gen(function*() {
        yield* recordAndPersist("a")
        expect(yield* next()).toEqual([])
      }))
      yield* Effect.flip(rows.transaction(Effect.andThen(recordAndPersist("b"), Effect.fail("no"))))
      yield* store.recordHeld(call("c"), { token: "00000000-0000-4000-8000-000000000001", worker: "w", lease })
      expect(yield* next()).toMatchObject([{ callId: "a", persisted: 1 }])
    }))

  test("old ends that were read are pruned, others stay, and later ends are delivered", () =>
    Effect.gen(function*() {
      const prune = Retention.Retention.use((retention) => retention.prune({ payloads: "30 days" }))
      const preview = Retention.Retention.use((retention) => retention.preview({ payloads: "30 days" }))
      const endOf = (callId: string) => Effect.andThen(record(call(callId)), settle("persisted"))
      yield* open()
      yield* open("slow")
      yield* endOf("a")
      yield* (yield* Time).pass("31 days")
      yield* endOf("b")
      expect(yield* next()).toHaveLength(2)
      expect(yield* prune).toMatchObject({ payloads: 1, ends: 0 })
      expect(yield* next("slow")).toHaveLength(2)
      expect(yield* preview).toMatchObject({ ends: 1 })
      expect(yield* prune).toMatchObject({ ends: 1 })
      expect(yield* prune).toMatchObject({ ends: 0 })
      yield* record(call("a"))
      yield* endOf("c")
      yield* beat
      expect(yield* next()).toMatchObject([{ callId: "c" }])
      yield* open("new")
      expect(yield* next("new")).toMatchObject([{ callId: "b" }, { callId: "c" }])
    }))
})
