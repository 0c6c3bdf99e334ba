/**
 * What is old is forgotten, what is needed is not, on every store.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DeadLetters from "../../DeadLetters.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as Retention from "../../Retention.ts"
import type { RetentionPolicy } from "../../Retention.ts"
import { call, claim, keyOf, record, settle } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"
import { Time } from "./services.ts"

const month = Duration.days(30)
const all: RetentionPolicy = { payloads: month, discarded: month, failures: month }
const none = { payloads: 0, discarded: 0, failures: 0, answers: 0, ends: 0 }

/** Prunes, having asked before and after what there is to prune. */
const prune = Effect.fnUntraced(function*(policy: RetentionPolicy) {
  const retention = yield* Retention.Retention
  const preview = yield* retention.preview(policy)
  const pruned = yield* retention.prune(policy)
  expect(pruned).toEqual(preview)
  expect(yield* retention.preview(policy)).toEqual(none)
  return pruned
})

const outputsOf = (callId: string) => Effect.map(inspect.call(callId), (view) => Option.getOrThrow(view).outputs)

export const retention = topic("retention", (test) => {
  test("old payloads are deleted; the ledger still says whether their chunks were persisted", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(call("old", { details: { model: "m" } }), call("old-nothing"), call("old-empty", { outputs: [] }))
      yield* settle((chunk) => chunk.key.callId === "old" ? "persisted" : "nothing")
      yield* (yield* Time).pass(Duration.days(31))
      yield* record(call("new"))
      yield* settle("persisted")

      expect(yield* prune({})).toEqual(none)
      expect(yield* prune({ payloads: Duration.days(32) })).toEqual(none)
      expect(yield* prune(all)).toEqual({ ...none, payloads: 3 })
      expect(yield* outputsOf("old")).toBe(null)
      expect(yield* outputsOf("new")).not.toBe(null)

      expect(yield* store.ledger([keyOf("old")])).toMatchObject([{ objects: [{ id: "message of old" }] }])
      const byHand = Effect.succeed([DomainObject.make("chatlab.Message", "by hand")])
      const once = yield* store.once({ key: keyOf("old"), namespace: "chatlab", handler: "by hand" }, byHand)
      expect(once.created).toBe(false)

      // what is left is compared: the input and the answers are not
      expect(
        yield* record(
          call("old"),
          call("old", { input: "another" }),
          call("old", {}, { data: "another" }),
          call("old", { context: { simulationId: "hip" } }),
          call("old", { namespace: "triage" }),
          call("old", { orderingKey: "knee" }),
          call("new", { input: "another" })
        )
      ).toEqual(["unchanged", "unchanged", "unchanged", "conflict", "conflict", "conflict", "conflict"])
      expect(yield* settle("persisted")).toEqual([])
    }))

  test("the payload of an outstanding, parked or dead chunk is kept until it is persisted or discarded", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      const time = yield* Time
      yield* record(
        ...["waiting", "behind"].map((id) => call(id, { orderingKey: "knee" })),
        ...["parked", "retry", "dead", "put-away"].map((id) => call(id)),
        call("half", { outputs: ["", "b"].map((part) => ({ ...call("half").outputs[0]!, part })) })
      )
      yield* settle(({ key: { callId, part } }) => {
        if (callId === "parked") return "parked"
        if (callId === "retry") return { retry: "1000 days" }
        if (callId === "dead" || callId === "put-away") return { dead: "exhausted" }
        return callId === "half" && part === "" ? "persisted" : "released"
      })
      yield* letters.discard({ callId: "put-away" }, "")
      yield* time.pass(Duration.days(31))
      expect(yield* prune({ payloads: month })).toEqual({ ...none, payloads: 1 })
      expect(yield* outputsOf("put-away")).toBe(null)

      // whatever is done with them later still has its payload
      yield* letters.redrive({})
      const { chunks } = yield* claim
      expect(chunks.map((chunk) => chunk.key.callId).sort()).toEqual(["behind", "dead", "half", "waiting"])
      expect(chunks.filter((chunk) => "withheld" in chunk.payload)).toEqual([])
    }))

  test("discarded dead letters and failures of finished chunks are deleted by age; those of dead letters stay", () =>
    Effect.gen(function*() {
      const letters = yield* DeadLetters.DeadLetters
      const time = yield* Time
      yield* record(...["done", "retry", "dead", "put-away"].map((id) => call(id)))
      yield* settle(({ key: { callId } }) =>
        callId === "dead" || callId === "put-away"
          ? { dead: "exhausted" }
          : { retry: callId === "done" ? "1 minute" : "1000 days" }
      )
      yield* time.pass("2 minutes")
      expect(yield* settle("persisted")).toEqual(["done"])
      yield* time.pass(Duration.days(31))
      yield* letters.discard({ callId: "put-away" }, "")

      // it died long ago, but was put away just now
      expect(yield* prune({ discarded: month, failures: month })).toEqual({ ...none, failures: 1 })
      yield* time.pass(Duration.days(31))
      expect(yield* prune({ discarded: month })).toEqual({ ...none, discarded: 1 })
      expect(yield* prune({ failures: month })).toEqual({ ...none, failures: 1 })
      expect(Option.getOrThrow(yield* letters.inspect(keyOf("dead"))).failures).toHaveLength(1)
      expect(yield* letters.inspect(keyOf("put-away"))).toEqual(Option.none())
    }))

  test("many payloads are deleted in portions, and those in between that must stay are skipped", () =>
    Effect.gen(function*() {
      const time = yield* Time
      const count = 3500
      const stays = (callId: string) => Number(callId.slice(5)) % 3 === 0
      yield* record(...Array.from({ length: count }, (_, n) => call(`call-${n}`)))
      yield* settle({ retry: "1 minute" })
      yield* time.pass("2 minutes")
      yield* settle((chunk) => stays(chunk.key.callId) ? "parked" : "persisted")
      yield* time.pass(Duration.days(31))
      const gone = count - Math.ceil(count / 3)
      expect(yield* prune(all)).toEqual({ payloads: gone, discarded: 0, failures: gone, answers: 0, ends: 0 })
    }))
})
