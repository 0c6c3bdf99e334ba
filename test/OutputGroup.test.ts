/**
 * Groups: which outputs there are, and that every one of them has its handler. What the compiler says of it is in
 * `test/types`; here is what a program without types meets.
 */
import { it } from "@effect/vitest"
import { HandlerRegistry, Output, OutputGroup } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { describe, expect } from "vitest"

class Reply extends Output.make("schemas.chatlab.patient.reply", { schema: Schema.String }) {}
class Results extends Output.make("schemas.chatlab.patient.results", { schema: Schema.String }) {}
class OtherReply extends Output.make("schemas.triage.nurse.reply", { schema: Schema.String }) {}

const nothing = () => Effect.void
const names = <E>(registry: Layer.Layer<HandlerRegistry.HandlerRegistry, E>) =>
  Effect.provide(
    Effect.map(HandlerRegistry.HandlerRegistry, ({ list }) => list.map((handler) => handler.name)),
    registry
  )

describe("a group", () => {
  it("holds its outputs by identity; adding and merging make new groups", () => {
    const group = OutputGroup.make("chatlab", Reply)
    expect([...group.outputs.keys()]).toEqual([Reply.identity])
    expect([...group.add(Results).outputs.keys()]).toEqual([Reply.identity, Results.identity])
    const merged = group.merge(OutputGroup.make("other", Results))
    expect(merged.namespace).toBe("chatlab")
    expect([...merged.outputs.keys()]).toEqual([Reply.identity, Results.identity])
    expect(group.outputs.size).toBe(1)
    // the same output again is no second one
    expect(group.add(Reply).outputs.size).toBe(1)
  })

  it("merges any number of groups, leaves out outputs by their short names, and can be piped", () => {
    const whole = OutputGroup.make("chatlab").merge(
      OutputGroup.make("patient", Reply),
      OutputGroup.make("nurse", Results)
    )
    expect([...whole.outputs.keys()]).toEqual([Reply.identity, Results.identity])
    const rest = whole.omit("reply")
    expect([rest.namespace, ...rest.outputs.keys()]).toEqual(["chatlab", Results.identity])
    expect(whole.pipe((group) => group.namespace)).toBe("chatlab")
  })

  it("and an output are told from other values", () => {
    const group = OutputGroup.make("chatlab", Reply)
    expect([OutputGroup.isOutputGroup(group), OutputGroup.isOutputGroup({ ...group.outputs })]).toEqual([true, false])
    expect([Output.isOutput(Reply), Output.isOutput(group), Output.isOutput(null)]).toEqual([true, false, false])
  })

  it("of two outputs with one short name is refused: their handlers could not be told apart", () => {
    expect(() => OutputGroup.make("chatlab", Reply, OtherReply)).toThrow("two outputs named reply")
    expect(() => OutputGroup.make("chatlab", Reply).add(OtherReply)).toThrow("two outputs named reply")
    expect(() => OutputGroup.make("chatlab", Reply).merge(OutputGroup.make("triage", OtherReply))).toThrow(
      "two outputs named reply"
    )
  })

  it("of a namespace that is none is refused", () => {
    for (const wrong of ["chat.lab", "", "chat lab", "🩺", "x".repeat(129)]) {
      expect(() => OutputGroup.make(wrong, Reply)).toThrow("is not a namespace")
    }
  })

  it.effect("has its handlers from a record, or from an effect that makes one", () =>
    Effect.gen(function*() {
      const group = OutputGroup.make("chatlab", Reply, Results)
      const handlers = group.of({ reply: nothing, results: { version: 2, persistMany: () => Effect.succeed([]) } })
      for (const layer of [group.toLayer(handlers), group.toLayer(Effect.succeed(handlers))]) {
        const found = yield* names(HandlerRegistry.layer(group).pipe(Layer.provide(layer)))
        expect(found).toEqual(["chatlab/reply", "chatlab/results"])
      }
    }))

  it.effect("whose handlers cannot be made does not start, and says why", () =>
    Effect.gen(function*() {
      const group = OutputGroup.make("chatlab", Reply)
      const broken = group.toLayer(Effect.as(Effect.fail("no database" as const), { reply: nothing }))
      expect(yield* Effect.flip(names(HandlerRegistry.layer(group).pipe(Layer.provide(broken))))).toBe("no database")
      const forgotten = group.toLayer({} as { reply: typeof nothing })
      const exit = yield* Effect.exit(names(HandlerRegistry.layer(group).pipe(Layer.provide(forgotten))))
      expect(String(exit)).toContain("no handler for reply in group chatlab")
      for (
        const [written, said] of [
          [{ repyl: nothing }, `no handler for reply (there is one for "repyl": is it misspelt?) in group chatlab`],
          [undefined, "no handler for reply in group chatlab"]
        ] as const
      ) {
        const layer = group.toLayer(written as never)
        expect(String(yield* Effect.exit(names(HandlerRegistry.layer(group).pipe(Layer.provide(layer)))))).toContain(
          said
        )
      }
    }))
})
