/**
 * Programs of several versions side by side, on every store: what one cannot read is parked, left to those that can, and
 * taken up by them; nothing dies and nothing is charged.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as ChunkStore from "../../ChunkStore.ts"
import * as DomainEvents from "../../DomainEvents.ts"
import * as DomainObject from "../../DomainObject.ts"
import * as Drain from "../../Drain.ts"
import * as HandlerPlugin from "../../HandlerPlugin.ts"
import * as HandlerRegistry from "../../HandlerRegistry.ts"
import type { Served } from "../../Kind.ts"
import * as Output from "../../Output.ts"
import * as Settings from "../../Settings.ts"
import { call, claimWith, idsOf, record, reply, settle, statesOf } from "./dialogues.ts"
import { expect } from "./expect.ts"
import * as inspect from "./inspect.ts"
import { topic } from "./scenes.ts"

const served = (version?: number, namespace = "chatlab"): ReadonlyArray<Served> => [
  { namespace, schemaIdentity: reply, version }
]
const at = (id: string, version: number) => call(id, {}, { version })

/** Parks all that can be claimed, as a worker does that does not read it. */
const park = Effect.gen(function*() {
  const store = yield* ChunkStore.ChunkStore
  const { chunks, token } = yield* claimWith({})
  yield* store.settle(token, chunks.map((chunk) => ChunkStore.Settlement.Park({ chunk, reason: "newer-version" })))
})

const Text = Schema.Struct({ text: Schema.String })
class Old extends Output.make(reply, { version: 1, schema: Text }) {}
class New extends Output.make(reply, {
  version: 2,
  schema: Schema.Struct({ said: Schema.String }),
  upcasts: { 1: Output.upcast(Text, ({ text }) => ({ said: text })) }
}) {}

/** The drain of a program: `said` is told what its handler was given. Each of its cycles beats. */
const program = (output: typeof Old | typeof New, said: Array<string>) =>
  Effect.map(
    Layer.build(
      Layer.fresh(Drain.layer).pipe(
        Layer.provide(
          Layer.fresh(HandlerRegistry.layer()).pipe(
            Layer.provide(
              HandlerPlugin.layer("chatlab", output as Output.Any, ({ call }) =>
                Effect.sync(() => {
                  said.push(call.callId)
                  return DomainObject.make("chatlab.Message", call.callId)
                }))
            )
          )
        ),
        Layer.provide(DomainEvents.layer),
        Layer.provide(Settings.layer({ beatInterval: Duration.zero }))
      )
    ),
    Context.get(Drain.Drain)
  )

export const versions = topic("versions", (test) => {
  test("a chunk parked for its version is taken up only by a worker that reads that version", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(at("one", 1), at("two", 2), at("three", 3))
      yield* park
      const view = yield* inspect.call("two")
      expect(Option.getOrThrow(view).chunks[0]).toMatchObject({
        state: "parked",
        parkedFor: "newer-version",
        attempts: 0
      })
      expect(yield* inspect.status).toMatchObject([{ schemaIdentity: reply, parked: 3, newestVersion: 3 }])
      expect(yield* store.beat("a", served(0))).toMatchObject({ unparked: 0 })
      expect(yield* store.beat("b", served(2))).toMatchObject({ unparked: 2 })
      expect(yield* settle("persisted")).toEqual(["one", "two"])
      expect(yield* store.beat("b", served(2))).toMatchObject({ unparked: 0 })
      // one that does not say what it reads is taken to read all
      expect(yield* store.beat("c", served())).toMatchObject({ unparked: 1 })
      expect(yield* settle("persisted")).toEqual(["three"])
      expect(yield* inspect.status).toMatchObject([{ parked: 0, persisted: 3, newestVersion: null }])
    }))

  test("a handler of core unparks what it reads, unless the worker has an older handler for the namespace", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* record(at("one", 2))
      yield* park
      expect(yield* store.beat("a", [...served(1), ...served(2, "core")])).toMatchObject({ unparked: 0 })
      expect(yield* store.beat("b", served(2, "core"))).toMatchObject({ unparked: 1 })
    }))

  test("a worker learns which newer versions other workers read", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const kind = { namespace: "chatlab", schemaIdentity: reply }
      yield* store.beat("new", served(2))
      expect((yield* store.beat("old", served(1))).elsewhere).toEqual([{ ...kind, above: 1 }])
      expect((yield* store.beat("new", served(2))).elsewhere).toEqual([])
      expect((yield* store.beat("none", [])).elsewhere).toEqual([kind])
      yield* store.leave("new")
      expect((yield* store.beat("old", served(1))).elsewhere).toEqual([])
    }))

  test("a claim leaves newer versions to workers that read them", () =>
    Effect.gen(function*() {
      const kind = { namespace: "chatlab", schemaIdentity: reply }
      yield* record(at("one", 1), at("two", 2), at("three", 3))
      const except = [{ ...kind, above: 1 }]
      expect(idsOf((yield* claimWith({ except, own: served(1) })).chunks)).toEqual(["one"])
      // left to a handler of core, but for what this worker's own handler reads
      const all = [{ ...kind, namespace: "core" }]
      expect(idsOf((yield* claimWith({ except: all, own: served(2) })).chunks)).toEqual(["two"])
      expect(idsOf((yield* claimWith({ except: all, own: [] })).chunks)).toEqual([])
      expect(idsOf((yield* claimWith({})).chunks)).toEqual(["three"])
    }))

  test("in a rolling deployment old and new programs drain side by side, and no chunk becomes a dead letter", () =>
    Effect.gen(function*() {
      const byOld: Array<string> = []
      const byNew: Array<string> = []
      const old = yield* program(Old, byOld)
      const newer = (id: string) => call(id, {}, { version: 2, data: { said: "It hurts." } })
      yield* record(call("a"), newer("b"))
      // the program that records is deployed before any that reads it
      expect(yield* old.untilEmpty).toMatchObject({ persisted: 1, parked: 1, dead: 0 })
      expect(yield* old.untilEmpty).toMatchObject({ claimed: 0 })
      expect(yield* Effect.flip(old.persistNow("b"))).toMatchObject({ _tag: "UnknownVersion", version: 2, known: 1 })

      yield* Effect.gen(function*() {
        const young = yield* program(New, byNew)
        expect(yield* young.untilEmpty).toMatchObject({ persisted: 1 })
        // from its next beat on the old one leaves what is newer alone
        yield* old.cycle
        yield* record(newer("c"), call("d"), newer("e"))
        expect(yield* old.untilEmpty).toMatchObject({ claimed: 1, persisted: 1 })
        expect(yield* young.untilEmpty).toMatchObject({ claimed: 2, persisted: 2 })
        // and the new one reads what is old
        yield* record(call("f"))
        expect(yield* young.untilEmpty).toMatchObject({ persisted: 1 })
      }).pipe(Effect.scoped)
      expect([byOld, byNew.toSorted()]).toEqual([["a", "d"], ["b", "c", "e", "f"]])

      // rolled back: what is newer waits again, for a program to come
      yield* record(newer("g"), call("h"))
      expect(yield* old.untilEmpty).toMatchObject({ persisted: 1, parked: 1, retried: 0, dead: 0 })
      expect(yield* statesOf("g")).toEqual(["parked"])
    }))
})
