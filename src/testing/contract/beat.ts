/**
 * A worker's sign of life, on every store: what is parked comes back when somebody serves it, and old and new workers
 * leave each other's kinds alone. And the counts that people read.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ChunkStore from "../../ChunkStore.ts"
import * as Pauses from "../../Pauses.ts"
import { call, record, reply, results, settle, statesOf } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"
import { Time } from "./services.ts"

const replies = { namespace: "chatlab", schemaIdentity: reply }
const allResults = { namespace: "core", schemaIdentity: results }

export const beat = topic("beat", (test) => {
  test("a parked chunk stays parked until a worker serves it, and is not charged", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(call("a"), call("b", { namespace: "triage" }, { schema: results }))
      expect(yield* settle("parked")).toEqual(["a", "b"])
      expect(yield* store.beat("old", [])).toMatchObject({ unparked: 0 })
      expect(yield* settle("persisted")).toEqual([])
      expect(yield* store.beat("new", [replies])).toMatchObject({ unparked: 1 })
      expect(yield* settle("persisted")).toEqual(["a"])
      // a handler of core serves every namespace
      expect(yield* store.beat("new", [replies, allResults])).toMatchObject({ unparked: 1 })
      expect(yield* settle("persisted")).toEqual(["b"])
    }))

  test("a worker learns which kinds only others serve, as long as those are alive", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      expect(yield* store.beat("old", [replies])).toMatchObject({ elsewhere: [] })
      expect(yield* store.beat("new", [replies, allResults])).toMatchObject({ elsewhere: [] })
      expect(yield* store.beat("old", [replies])).toMatchObject({ elsewhere: [allResults] })
      yield* store.leave("new")
      expect(yield* store.beat("old", [replies])).toMatchObject({ elsewhere: [] })
      yield* store.beat("new", [replies, allResults])
      expect(yield* store.beat("old", [replies])).toMatchObject({ elsewhere: [allResults] })
    }))

  test("a worker without a beat for half a minute does not count as alive until it beats again", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const time = yield* Time
      yield* store.beat("silent", [replies, allResults])
      yield* time.pass("25 seconds")
      expect(yield* store.beat("other", [replies])).toMatchObject({ elsewhere: [allResults] })
      yield* time.pass("10 seconds")
      expect(yield* store.beat("other", [replies])).toMatchObject({ elsewhere: [] })
      yield* store.beat("silent", [replies, allResults])
      expect(yield* store.beat("other", [replies])).toMatchObject({ elsewhere: [allResults] })
    }))

  test("a beat returns the paused kinds, and their chunks stay parked until the pause ends", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const pauses = yield* Pauses.Pauses
      yield* record(call("a"))
      yield* settle("parked")
      yield* pauses.pause({ namespace: "chatlab", schemaIdentity: "*" }, "the table is being moved")
      expect(yield* store.beat("w", [replies])).toMatchObject({
        unparked: 0,
        paused: [{ namespace: "chatlab", schemaIdentity: "*" }]
      })
      yield* pauses.resume({ namespace: "chatlab", schemaIdentity: "*" })
      expect(yield* store.beat("w", [replies])).toMatchObject({ unparked: 1, paused: [] })
      expect(yield* statesOf("a")).toEqual(["ready"])
    }))

  test("chunks are counted by kind", () =>
    Effect.gen(function*() {
      const fates = {
        done: "persisted",
        empty: "nothing",
        parked: "parked",
        later: { retry: "1 hour" },
        dead: { dead: "exhausted" }
      } as const
      yield* record(...Object.keys(fates).map((id) => call(id)))
      yield* settle((chunk) => fates[chunk.key.callId as keyof typeof fates])
      yield* record(call("held"))
      yield* (yield* ChunkStore.ChunkStore).claim({ worker: "w", limit: 1, maxBytes: 1e9, lease: Duration.minutes(1) })
      yield* record(call("fresh"), call("other", {}, { schema: results }))
      const kinds = yield* inspect.status
      expect(kinds).toMatchObject([
        { schemaIdentity: reply, ready: 1, due: 1, inFlight: 1, scheduled: 1, parked: 1, dead: 1, persisted: 2 },
        { schemaIdentity: results, ready: 1, due: 1, inFlight: 0, scheduled: 0, parked: 0, dead: 0, persisted: 0 }
      ])
    }))
})
