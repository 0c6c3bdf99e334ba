/**
 * The ledger followed live, on every store.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DomainEvents from "../../DomainEvents.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as EventLog from "../../EventLog.ts"
import * as LiveEvents from "../../LiveEvents.ts"
import * as Output from "../../Output.ts"
import * as Settings from "../../Settings.ts"
import { call, claim, record, results, settle } from "./dialogues.ts"
import { expect } from "./expect.ts"
import { topic } from "./scenes.ts"
import { Rows } from "./services.ts"

class Results extends Output.make(results, { schema: Schema.Unknown as Schema.Codec<unknown, unknown> }) {}

/** Records and persists, so that each call is a commit of its own. */
const persist = (...ids: ReadonlyArray<string>) =>
  Effect.forEach(ids, (id) => Effect.andThen(record(call(id)), settle("persisted")), { discard: true })

/** Follows from now on. */
const follow = Effect.fnUntraced(function*(options: LiveEvents.Options = {}) {
  const events = yield* Queue.unbounded<LiveEvents.LiveEvent>()
  // once it is run it has its place
  const after = options.after ?? (yield* LiveEvents.now)
  yield* Effect.forkScoped(
    Stream.runForEach(LiveEvents.tail({ ...options, after }), (event) => Queue.offer(events, event))
  )
  return events
})
const idsOf = (events: ReadonlyArray<LiveEvents.LiveEvent>) => events.map(({ event }) => event.object.id)
const first = (count: number, options: LiveEvents.Options) =>
  Effect.map(Stream.runCollect(Stream.take(LiveEvents.tail(options), count)), idsOf)

export const liveEvents = topic("liveEvents", (test) => {
  test("each listener receives what is created from now on, in order, and nothing earlier", () =>
    Effect.gen(function*() {
      yield* persist("a")
      const one = yield* follow()
      const other = yield* follow()
      yield* persist("b", "c")
      expect(idsOf(yield* Queue.takeN(one, 2))).toEqual(["message of b", "message of c"])
      expect(idsOf(yield* Queue.takeN(other, 2))).toEqual(["message of b", "message of c"])
      yield* persist("d")
      const [event] = yield* Queue.takeN(one, 1)
      expect(event?.event).toMatchObject({
        namespace: "chatlab",
        handler: "chatlab/patient-reply",
        correlationId: "d",
        context: { simulationId: "knee" }
      })
    }))

  test("a listener that returns with its last id misses nothing and receives nothing twice", () =>
    Effect.gen(function*() {
      const start = yield* LiveEvents.now
      yield* persist("a", "b")
      // one commit of several rows: an id may stand among them
      const store = yield* ChunkStore.ChunkStore
      yield* record(call("c"))
      const { chunks, token } = yield* claim
      const objects = ["c1", "c2", "c3"].map((id) => DomainObject.make("chatlab.Message", id))
      yield* store.persist(
        token,
        () => Effect.succeed(chunks.map((chunk) => ({ chunk, handler: "h", handlerVersion: 1, objects })))
      )
      yield* persist("d")
      const all = ["message of a", "message of b", "c1", "c2", "c3", "message of d"]
      const events = yield* Stream.runCollect(Stream.take(LiveEvents.tail({ after: start }), all.length))
      expect(idsOf(events)).toEqual(all)
      for (const [index, { id }] of events.entries()) {
        const rest = all.slice(index + 1)
        expect(id).toMatch(/^[\d-]+$/)
        if (rest.length > 0) expect(yield* first(rest.length, { after: id })).toEqual(rest)
      }
    }))

  test("a listener receives only what its filter selects", () =>
    Effect.gen(function*() {
      const events = yield* follow({ filter: DomainEvents.from(Results) })
      yield* persist("a")
      yield* record(call("b", {}, { schema: results }))
      yield* settle("persisted")
      expect(idsOf([yield* Queue.take(events)])).toEqual(["message of b"])
    }))

  test("a slow reader loses nothing", () =>
    Effect.gen(function*() {
      const after = yield* LiveEvents.now
      const ids = Array.from({ length: 30 }, (_, n) => `call-${n}`)
      yield* record(...ids.map((id) => call(id)))
      yield* settle("persisted")
      const read = LiveEvents.tail({ after }).pipe(
        Stream.tap(() => Effect.yieldNow),
        Stream.take(ids.length),
        Stream.runCollect,
        Effect.provide(Settings.layer({ batchSize: 4 }))
      )
      expect(idsOf(yield* read).toSorted()).toEqual(ids.map((id) => `message of ${id}`).toSorted())
    }))

  test("an invalid id is refused; an id that is ahead of the log counts as now", () =>
    Effect.gen(function*() {
      for (const id of ["", "now", "1-2", "1-2-3-4", "-1-2-3", `${2n ** 64n}-1-0`, `1-${2n ** 63n}-0`, "1-1-0'; --"]) {
        const error = yield* Effect.flip(first(1, { after: id }))
        expect(error).toMatchObject({ _tag: "EventIdInvalid", id })
      }
      yield* persist("a")
      const page = yield* EventLog.EventLog.use((log) =>
        log.read({ xact: `${2n ** 63n}`, seq: "77" }, { limit: 10, maxBytes: 1e6 })
      )
      expect(page).toEqual({ entries: [], unreadable: undefined })
    }))

  test("events that are not committed are not sent, and not skipped either", () =>
    Effect.gen(function*() {
      const rows = yield* Rows
      const after = yield* LiveEvents.now
      yield* Effect.ignore(rows.transaction(Effect.andThen(persist("never"), Effect.fail("rolled back"))))
      const reading = yield* Effect.forkScoped(first(1, { after }))
      yield* persist("a")
      expect(yield* Fiber.join(reading)).toEqual(["message of a"])
    }))
})
