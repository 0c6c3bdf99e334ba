/**
 * What people, gauges and the doctor ask, on every store: the answers are the same.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as Erasure from "../../Erasure.ts"
import * as EventLog from "../../EventLog.ts"
import * as Inspector from "../../Inspector.ts"
import { call, claim, claimWith, giveBack, record, reply, results, settle } from "./dialogues.ts"
import { expect } from "./expect.ts"
import { topic } from "./scenes.ts"
import { Edits, Time } from "./services.ts"

const replies = { namespace: "chatlab", schemaIdentity: reply }
const knee = { orderingKey: "knee" }
const pass = (span: Duration.Input) => Time.use((time) => time.pass(Duration.fromInputUnsafe(span)))
const use = <A, E>(question: (inspector: Inspector.Inspector["Service"]) => Effect.Effect<A, E>) =>
  Inspector.Inspector.use(question)
const stuck = (limit = 10, namespace?: string) => use((inspector) => inspector.stuck({ limit, namespace }))

export const inspector = topic("inspector", (test) => {
  test("the calls that created a row are found, and none for a row that no call created", () =>
    Effect.gen(function*() {
      yield* record(call("a"), call("b"), call("c"))
      yield* settle("persisted")
      const made = (...ids: ReadonlyArray<string>) =>
        use((inspector) => inspector.callsThatMade(ids.map((id) => DomainObject.make("chatlab.Message", id))))
      expect(yield* made("message of b")).toEqual(["b"])
      expect([...yield* made("message of c", "message of a", "message of nobody")].sort()).toEqual(["a", "c"])
      expect(yield* made("message of nobody")).toEqual([])
      expect(yield* made()).toEqual([])
      expect(yield* use((inspector) => inspector.callsThatMade([DomainObject.make("clinic.Note", "message of b")])))
        .toEqual([])
    }))

  test("calls whose answer did not fit, the latest first, until they have one or are erased", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const invalid = (limit = 10, namespace?: string) =>
        Effect.map(
          use((inspector) => inspector.invalid({ limit, namespace })),
          (list) => list.map(({ attempts, callId, error, kept }) => [callId, error, attempts, kept])
        )
      const ends = Effect.fnUntraced(function*(callId: string, end: Partial<ChunkStore.RunEnd>, namespace = "chatlab") {
        const { outputs: _, ...spec } = call(callId, { namespace })
        const begun = yield* store.begin(spec, Duration.minutes(1))
        const token = begun._tag === "Begun" ? begun.token : ""
        yield* store.abandon(callId, token, { status: "invalid", error: `${callId} does not fit`, ...end })
        yield* pass("1 minute")
      })
      const attempt = (text: string | null) =>
        ({ outcome: "invalid", text, length: 1, facts: {}, error: "no", at: DateTime.makeUnsafe(0) }) as const
      expect(yield* invalid()).toEqual([])
      yield* ends("a", { attempts: [attempt("{"), attempt(null)] })
      yield* ends("failed", { status: "failed" })
      yield* ends("b", { attempts: [attempt(null)] }, "triage")
      yield* ends("c", {})
      yield* ends("d", { attempts: [attempt("[")] })
      expect(yield* invalid()).toEqual([
        ["d", "d does not fit", 1, true],
        ["c", "c does not fit", 0, false],
        ["b", "b does not fit", 1, false],
        ["a", "a does not fit", 2, true]
      ])
      expect(yield* invalid(1)).toEqual([["d", "d does not fit", 1, true]])
      expect(yield* invalid(10, "triage")).toEqual([["b", "b does not fit", 1, false]])
      expect(yield* invalid(10, "nowhere")).toEqual([])
      const [latest] = yield* use((inspector) => inspector.invalid({ limit: 1 }))
      expect(latest?.service).toBe(call("d").service)

      // run again without an answer, recorded, erased
      yield* ends("a", { status: "failed" })
      yield* record(call("c"))
      const erasure = yield* Erasure.Erasure
      yield* erasure.erase(Erasure.Subject.Call({ callId: "d" }), { because: "asked for", by: "clerk" })
      expect(yield* invalid()).toEqual([["b", "b does not fit", 1, false]])
    }))

  test("stuck chunks are listed with the reason, the first of each sort", () =>
    Effect.gen(function*() {
      expect(yield* stuck()).toEqual([])
      yield* record(call("parked-2", { namespace: "triage" }), call("parked-1"))
      yield* settle("parked")
      yield* record(call("failed-1"), call("failed-2", {}, { part: "left" }))
      yield* settle(({ key: { callId } }) => ({ retry: callId === "failed-1" ? "2 hours" : "1 hour" }))
      yield* record(call("dead", knee))
      yield* settle({ dead: "rejected" })
      yield* record(call("behind", knee))
      // behind a dead letter: the claim puts it aside
      expect((yield* claim).chunks).toEqual([])
      yield* record(call("taken"))
      yield* claimWith({ worker: "ward-1", lease: Duration.minutes(1) })
      const found = yield* stuck()
      expect(found.map(({ callId, why }) => [why, callId])).toEqual([
        ["scheduled", "failed-2"],
        ["scheduled", "failed-1"],
        ["parked", "parked-1"],
        ["parked", "parked-2"],
        ["waiting", "behind"]
      ])
      const [failed, , parked, , waiting] = found
      expect(failed).toMatchObject({
        part: "left",
        attempts: 1,
        due: null,
        error: "the ward is closed",
        worker: null,
        namespace: "chatlab",
        schemaIdentity: reply
      })
      expect(Math.abs((failed?.next ?? 0) - 3600)).toBeLessThan(60)
      expect(parked).toMatchObject({ parkedFor: "no-handler", next: null, behind: null, error: null })
      expect(waiting).toMatchObject({ orderingKey: "knee", behind: "dead" })
      expect((yield* stuck(1)).map(({ callId }) => callId)).toEqual(["failed-2", "parked-1", "behind"])
      expect((yield* stuck(10, "triage")).map(({ callId }) => callId)).toEqual(["parked-2"])

      // its worker goes away
      yield* pass("61 seconds")
      expect((yield* stuck()).some(({ why }) => why === "expired")).toBe(false)
      yield* pass("10 seconds")
      const [expired] = (yield* stuck()).filter(({ why }) => why === "expired")
      expect(expired).toMatchObject({ callId: "taken", worker: "ward-1" })
      expect(expired?.due).toBeGreaterThan(70)
    }))

  test("a chunk that a worker holds is stuck once it has been due for more than five minutes", () =>
    Effect.gen(function*() {
      yield* record(call("slow"))
      const { token, chunks } = yield* claimWith({ worker: "ward-1", lease: Duration.hours(1) })
      yield* pass("4 minutes")
      expect(yield* stuck()).toEqual([])
      yield* pass("2 minutes")
      expect(yield* stuck()).toMatchObject([{ why: "held", callId: "slow", worker: "ward-1", next: null }])
      yield* giveBack({ token, chunks })
      expect(yield* stuck()).toEqual([])
    }))

  test("workers are listed, the last seen first, with the kinds they serve and whether they are alive", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const workers = (ids?: ReadonlyArray<string>) => use((inspector) => inspector.workers(ids))
      expect(yield* workers()).toEqual([])
      const core = { namespace: "core", schemaIdentity: results }
      yield* store.beat("ward/1/a", [replies, core])
      yield* store.beat("ward/2/b", [])
      expect((yield* workers()).find(({ id }) => id === "ward/1/a")).toMatchObject({
        alive: true,
        serves: [replies, core]
      })
      expect(yield* workers(["ward/2/b", "nobody"])).toMatchObject([{ id: "ward/2/b", alive: true, serves: [] }])
      expect(yield* workers([])).toEqual([])
      const uses = [
        { handler: "chatlab/reply", inside: 12, claimed: { key: 3, version: 1 }, refusal: null, unfit: null },
        { handler: "triage/result", inside: 0, claimed: {}, refusal: "refused (42501)", unfit: "it's gone" }
      ]
      yield* store.beat("ward/2/b", [], uses)
      expect(yield* workers(["ward/2/b"])).toMatchObject([{ id: "ward/2/b", inside: uses }])
      expect((yield* workers(["ward/1/a"]))[0]?.inside).toEqual([])
      yield* store.leave("ward/2/b")
      expect((yield* workers()).map(({ id }) => id)).toEqual(["ward/1/a"])
    }))

  test("due chunks are counted, in one namespace and in all, and those persisted in the last minute", () =>
    Effect.gen(function*() {
      const due = (namespace?: string) => use((inspector) => inspector.due(namespace))
      yield* record(call("a"), call("b", { namespace: "triage" }), call("c"))
      expect([yield* due(), yield* due("triage"), yield* due("dental")]).toEqual([3, 1, 0])
      yield* settle(({ key: { callId } }) => callId === "a" ? "persisted" : callId === "b" ? "nothing" : "parked")
      expect(yield* due()).toBe(0)
      expect(yield* use((inspector) => inspector.persistedLately)).toBe(2)
      yield* pass("61 seconds")
      expect(yield* use((inspector) => inspector.persistedLately)).toBe(0)
    }))

  test("it is known whether a kind has outstanding or dead chunks, or a worker that serves it", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const known = (namespace: string, schemaIdentity: string) =>
        use((inspector) => inspector.isKnown({ namespace, schemaIdentity }))
      expect(yield* known("*", "*")).toBe(false)
      yield* record(call("a"))
      yield* settle({ dead: "rejected" })
      yield* record(call("b", { namespace: "triage" }))
      expect(yield* Effect.all([known("chatlab", reply), known("triage", "*"), known("*", reply), known("*", "*")]))
        .toEqual([true, true, true, true])
      expect(yield* Effect.all([known("chatlab", results), known("dental", "*"), known("*", results)]))
        .toEqual([false, false, false])
      // a handler of core serves every namespace
      yield* store.beat("w", [{ namespace: "core", schemaIdentity: results }])
      expect(yield* Effect.all([known("dental", results), known("dental", "*"), known("dental", reply)]))
        .toEqual([true, true, false])
    }))

  test("the gauges count the queue and say how long the oldest due chunk has waited", () =>
    Effect.gen(function*() {
      const gauges = use((inspector) => inspector.queueGauges)
      const oldest = use(({ vitals }) => vitals.oldestDue)
      expect(yield* gauges).toEqual({ ready: 0, scheduled: 0, waiting: 0, parked: 0, dead: 0, oldest: undefined })
      expect(yield* oldest).toBeUndefined()
      yield* record(call("parked"), call("dead"), call("failed"))
      yield* settle(({ key: { callId } }) =>
        callId === "parked" ? "parked" : callId === "dead" ? { dead: "rejected" } : { retry: "1 minute" }
      )
      // what is not due yet has not waited
      expect(yield* oldest).toBeUndefined()
      yield* record(call("a"), call("b"))
      yield* pass("90 seconds")
      expect(yield* gauges).toMatchObject({ ready: 2, scheduled: 1, waiting: 0, parked: 1, dead: 1 })
      expect(Math.abs(((yield* oldest) ?? 0) - 90)).toBeLessThan(30)
      // what a worker holds could not be claimed
      yield* claim
      expect(yield* oldest).toBeUndefined()
    }))

  test("the gauges say how far behind each subscription is", () =>
    Effect.gen(function*() {
      const log = yield* EventLog.EventLog
      const gauges = use((inspector) => inspector.subscriptionGauges)
      yield* log.open("billing", "beginning")
      expect(yield* gauges).toEqual([{ name: "billing", attempts: 0, unread: 0, age: 0 }])
      yield* record(call("a"), call("b"))
      yield* settle("persisted")
      yield* pass("1 minute")
      const [billing] = yield* gauges
      expect(billing).toMatchObject({ name: "billing", unread: 2 })
      expect(Math.abs((billing?.age ?? 0) - 60)).toBeLessThan(30)
      expect(yield* use(({ vitals }) => vitals.eventLog)).toEqual({ _tag: "Ours" })
    }))

  test("the doctor is told what fails, what is parked, what no worker serves and what is dead", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const { vitals } = yield* Inspector.Inspector
      expect(yield* vitals.scheduled).toEqual({
        count: 0,
        seconds: undefined,
        callId: undefined,
        message: undefined
      })
      yield* record(call("parked", { namespace: "triage" }), call("dead"), call("failed"))
      yield* settle(({ key: { callId } }) =>
        callId === "parked" ? "parked" : callId === "dead" ? { dead: "rejected" } : { retry: "1 hour" }
      )
      yield* pass("1 minute")
      expect(yield* vitals.scheduled).toMatchObject({ count: 1, callId: "failed", message: "the ward is closed" })
      expect(Math.abs(((yield* vitals.scheduled).seconds ?? 0) - 60)).toBeLessThan(30)
      expect(yield* vitals.parkedKinds).toEqual([{ namespace: "triage", schemaIdentity: reply, reason: "no-handler" }])
      expect(yield* vitals.deadLetters).toBe(1)
      yield* record(call("ready"), call("other", {}, { schema: results }))
      expect(yield* vitals.unservedKinds).toEqual([replies, { namespace: "chatlab", schemaIdentity: results }])
      yield* store.beat("w", [replies, { namespace: "core", schemaIdentity: results }])
      expect(yield* vitals.unservedKinds).toEqual([])
      const held = yield* claimWith({ lease: Duration.minutes(1) })
      expect(held.chunks).toHaveLength(2)
      yield* pass("5 minutes")
      expect(yield* vitals.staleLeases).toBe(0)
      yield* pass("90 seconds")
      expect(yield* vitals.staleLeases).toBe(2)
    }))

  const wait = (blocks: boolean) =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const { vitals } = yield* Inspector.Inspector
      expect(yield* vitals.stranded()).toEqual({ count: 0, callId: undefined, complete: true })
      yield* record(call("first", knee), call("second", knee), call("third", { orderingKey: "wrist" }))
      yield* settle(({ key: { callId } }) => callId === "first" ? { dead: "rejected" } : "released")
      expect(yield* vitals.heldUp).toEqual(blocks ? { count: 1, callId: "first" } : { count: 0, callId: undefined })
      for (const id of ["second", "third"]) yield* Edits.use((edits) => edits.putAside(id))
      // the second waits for a dead letter, or for nothing
      const stranded = blocks ? 1 : 2
      expect(yield* vitals.stranded()).toEqual({
        count: stranded,
        callId: blocks ? "third" : "second",
        complete: true
      })
      expect(yield* store.releaseWaiting).toBe(stranded)
      expect(yield* vitals.stranded()).toMatchObject({ count: 0 })
      expect(yield* store.releaseWaiting).toBe(0)
    })
  test("the doctor is told which chunks wait behind a dead letter and which wait for nothing; these are released", () =>
    wait(true))
  test(
    "without blocking dead letters the doctor is told which chunks wait for nothing, and they are released",
    () => wait(false),
    { deadBlocksKey: false }
  )
})
