/**
 * Pauses are seen by workers at their next beat, on every store.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DomainEvents from "../../DomainEvents.ts"
import * as Drain from "../../Drain.ts"
import * as HandlerRegistry from "../../HandlerRegistry.ts"
import * as Output from "../../Output.ts"
import * as OutputGroup from "../../OutputGroup.ts"
import * as Pauses from "../../Pauses.ts"
import * as Settings from "../../Settings.ts"
import { call, record, reply, results, settle, statesOf } from "./dialogues.ts"
import { expect } from "./expect.ts"
import { topic } from "./scenes.ts"

class PatientReply extends Output.make(reply, { version: 1, schema: Schema.Struct({ text: Schema.String }) }) {}
const Chatlab = OutputGroup.make("chatlab", PatientReply)

/** A drain that beats at every cycle. */
const drain = Drain.layer.pipe(
  Layer.provide(HandlerRegistry.layer(Chatlab)),
  Layer.provide(Chatlab.toLayer(Effect.succeed(Chatlab.of({ "patient-reply": () => Effect.void })))),
  Layer.provide(DomainEvents.layer),
  Layer.provide(Settings.layer({ beatInterval: Duration.zero }))
)

export const pauses = topic("pauses", (test) => {
  test("pauses are set, changed, listed and ended", () =>
    Effect.gen(function*() {
      const pauses = yield* Pauses.Pauses
      expect(yield* pauses.list).toEqual([])
      yield* pauses.pause({ namespace: "chatlab", schemaIdentity: "*" }, "the message table is being moved")
      yield* pauses.pause({ namespace: "*", schemaIdentity: "*" }, "")
      yield* pauses.pause({ namespace: "chatlab", schemaIdentity: reply }, "why\0'not'")
      const [, first] = yield* pauses.list
      yield* pauses.pause({ namespace: "chatlab", schemaIdentity: "*" }, "it takes longer")

      const listed = yield* pauses.list
      expect(listed.map(({ namespace, reason, schemaIdentity }) => [namespace, schemaIdentity, reason])).toEqual([
        ["*", "*", ""],
        ["chatlab", "*", "it takes longer"],
        ["chatlab", reply, expect.stringMatching(/^why.+'not'$/)]
      ])
      expect(listed[1]?.pausedAt).toEqual(first?.pausedAt)

      expect(yield* pauses.resume({ namespace: "chatlab", schemaIdentity: "*" })).toBe(true)
      expect(yield* pauses.resume({ namespace: "chatlab", schemaIdentity: "*" })).toBe(false)
      expect(yield* pauses.resume({ namespace: "chatlab", schemaIdentity: results })).toBe(false)
      expect(yield* pauses.list).toHaveLength(2)
    }))

  test("a worker learns of a pause at its next beat, and takes up the parked chunks at the first beat after its end", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const pauses = yield* Pauses.Pauses
      const serves = [{ namespace: "chatlab", schemaIdentity: reply }]
      const kind = { namespace: "chatlab", schemaIdentity: "*" }
      expect((yield* store.beat("one", serves)).paused).toEqual([])
      yield* pauses.pause(kind, "")
      yield* pauses.pause({ namespace: "triage", schemaIdentity: "*" }, "")
      expect((yield* store.beat("one", serves)).paused).toContainEqual(kind)

      yield* record(call("a"))
      yield* settle("parked")
      expect((yield* store.beat("one", serves)).unparked).toBe(0)
      yield* pauses.resume(kind)
      expect(yield* store.beat("one", serves)).toMatchObject({ unparked: 1 })
      expect(yield* statesOf("a")).toEqual(["ready"])
    }))

  test("a drain parks paused chunks without charging them, and continues with them by itself", () =>
    Effect.gen(function*() {
      const pauses = yield* Pauses.Pauses
      const { cycle } = yield* Drain.Drain
      yield* record(call("a"))
      yield* pauses.pause({ namespace: "*", schemaIdentity: reply }, "")
      expect(yield* cycle).toMatchObject({ parked: 1 })
      expect(yield* cycle).toMatchObject({ claimed: 0 })
      expect(yield* statesOf("a")).toEqual(["parked"])
      yield* pauses.resume({ namespace: "*", schemaIdentity: reply })
      expect(yield* cycle).toMatchObject({ nothingToCreate: 1 })
    }).pipe(Effect.provide(drain)))

  test("persisting inline obeys a pause, even where no worker ever drained", () =>
    Effect.gen(function*() {
      const { persistNow } = yield* Drain.Drain
      yield* record(call("a"))
      yield* Pauses.Pauses.use((pauses) => pauses.pause({ namespace: "chatlab", schemaIdentity: "*" }, ""))
      expect(yield* Effect.flip(persistNow("a"))).toMatchObject({ _tag: "ChunkBusy", state: "parked" })
      expect(yield* statesOf("a")).toEqual(["parked"])
    }).pipe(Effect.provide(drain)))
})
