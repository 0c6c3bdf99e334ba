/**
 * Which handler serves what: groups, plug-ins, and the two together.
 */
import { it } from "@effect/vitest"
import { DomainEvents, Drain, HandlerPlugin, HandlerRegistry, Output, OutputGroup, Settings } from "effect-sluice"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import { describe, expect } from "vitest"

class Reply extends Output.make("schemas.chatlab.patient.reply", { schema: Schema.String }) {}
class Results extends Output.make("schemas.chatlab.patient.results", { schema: Schema.String }) {}
class Feedback extends Output.make("schemas.hotwash.coach.feedback", { schema: Schema.String }) {}

const nothing = () => Effect.void
const Chatlab = OutputGroup.make("chatlab", Reply, Results)
const Core = OutputGroup.make("core", Reply, Feedback)
const handlers = Layer.merge(
  Chatlab.toLayer({ reply: nothing, results: nothing }),
  Core.toLayer({ reply: nothing, feedback: nothing })
)
const more = Chatlab.toLayer({ reply: nothing, results: nothing })
const registry = HandlerRegistry.layer(Chatlab, Core).pipe(Layer.provide(handlers))
const plugin = (namespace: string, output: Output.Any = Reply) => HandlerPlugin.layer(namespace, output, nothing)
const names = <E, R>(layer: Layer.Layer<HandlerRegistry.HandlerRegistry, E, R>) =>
  Effect.provide(Effect.map(HandlerRegistry.HandlerRegistry, ({ list }) => list.map((handler) => handler.name)), layer)

describe("a registry", () => {
  it.effect("resolves the namespace's own handler, else that of core, else none", () =>
    Effect.gen(function*() {
      const { resolve } = yield* HandlerRegistry.HandlerRegistry
      const nameOf = (namespace: string, identity: string) =>
        Effect.map(resolve(namespace, identity), (handler) => handler.name)
      expect(yield* nameOf("chatlab", Reply.identity)).toBe("chatlab/reply")
      expect(yield* nameOf("chatlab", Feedback.identity)).toBe("core/feedback")
      expect(yield* nameOf("triage", Reply.identity)).toBe("core/reply")
      expect(yield* nameOf("core", Reply.identity)).toBe("core/reply")
      // chatlab's own results are nobody else's
      const error = yield* Effect.flip(resolve("triage", Results.identity))
      expect(error).toMatchObject({
        _tag: "HandlerNotFound",
        namespace: "triage",
        schemaIdentity: Results.identity,
        known: [
          `chatlab/${Reply.identity}`,
          `chatlab/${Results.identity}`,
          `core/${Reply.identity}`,
          `core/${Feedback.identity}`
        ]
      })
      expect(error.message).toContain(`no handler for ${Results.identity} in namespace triage or core`)
      expect(error.message).toContain(`core/${Feedback.identity}`)
    }).pipe(Effect.provide(registry)))

  it.effect("finds nothing where there is nothing, whatever is asked", () =>
    Effect.gen(function*() {
      const { resolve } = yield* HandlerRegistry.HandlerRegistry
      for (
        const [namespace, identity] of [["", ""], ["__proto__", "constructor"], ["chatlab", "reply"], [
          "chatlab/",
          ""
        ]] as const
      ) {
        expect(yield* Effect.flip(resolve(namespace, identity))).toMatchObject({ _tag: "HandlerNotFound" })
      }
    }).pipe(Effect.provide(registry)))

  it.effect("lists what it has, in order, with what it serves", () =>
    Effect.gen(function*() {
      const { list, serves } = yield* HandlerRegistry.HandlerRegistry
      expect(list.map((handler) => handler.name)).toEqual([
        "chatlab/reply",
        "chatlab/results",
        "core/reply",
        "core/feedback"
      ])
      expect(serves).toEqual(
        list.map(({ namespace, output: { identity, version } }) => ({ namespace, schemaIdentity: identity, version }))
      )
    }).pipe(Effect.provide(registry)))

  it.effect("of nothing says so", () =>
    Effect.gen(function*() {
      const { list, resolve } = yield* HandlerRegistry.HandlerRegistry
      expect(list).toEqual([])
      expect((yield* Effect.flip(resolve("chatlab", Reply.identity))).message).toContain("none at all")
    }).pipe(Effect.provide(HandlerRegistry.layer())))

  it.effect("cannot be changed once it is built", () =>
    Effect.gen(function*() {
      const registry = yield* HandlerRegistry.HandlerRegistry
      // what callers without types may try
      const open = registry as unknown as {
        find: unknown
        list: Array<unknown>
        resolve: unknown
        serves: Array<unknown>
      }
      expect(() => (open.find = nothing)).toThrow("read only")
      expect(() => (open.resolve = nothing)).toThrow("read only")
      expect(() => open.list.push(nothing)).toThrow("not extensible")
      expect(() => open.list.splice(0)).toThrow("delete")
      expect(() => open.serves.push(nothing)).toThrow("not extensible")
      expect(registry.list.length).toBe(4)
    }).pipe(Effect.provide(registry)))
})

describe("handlers that are provided to a registry without their group", () => {
  /** What is logged while a layer is built. */
  const logged = <A, E>(layer: Layer.Layer<A, E>) =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.layer([Logger.make(({ logLevel, message }) => {
        lines.push(`${logLevel}: ${[message].flat().join(" ")}`)
      })])
      yield* Effect.scoped(Layer.build(Layer.provide(layer, logger)))
      return lines
    })

  it.effect("are named in the log", () =>
    Effect.gen(function*() {
      expect(yield* logged(HandlerRegistry.layer(Chatlab).pipe(Layer.provide(handlers)))).toEqual([
        "Warn: handlers are provided that the registry does not use: core/reply, core/feedback. " +
        "Give their groups to HandlerRegistry.layer and their layers to it, or do not provide the layers"
      ])
      const part = HandlerRegistry.layer(Chatlab.omit("results")).pipe(Layer.provide(more))
      expect(yield* logged(part)).toEqual([expect.stringContaining("does not use: chatlab/results.")])
    }))

  it.effect("are none where all are used, be it as a plug-in", () =>
    Effect.gen(function*() {
      expect(yield* logged(registry)).toEqual([])
      const asPlugin = HandlerRegistry.layer().pipe(
        Layer.provide(HandlerPlugin.group(Chatlab)),
        Layer.provide(more)
      )
      expect(yield* logged(asPlugin)).toEqual([])
    }))

  it.effect("are named by the drain, if they are provided beside the registry and not to it", () =>
    Effect.gen(function*() {
      const others = Layer.mergeAll(DomainEvents.layer, MemoryStore.layer).pipe(Layer.provideMerge(Settings.layer()))
      const beside = Drain.layer.pipe(Layer.provide([registry, plugin("ward"), others]))
      expect(yield* logged(beside)).toEqual([expect.stringContaining("the registry does not use: ward/reply.")])
      // what the registry has named, the drain does not name again
      const below = Drain.layer.pipe(
        Layer.provide([HandlerRegistry.layer(Chatlab), others]),
        Layer.provide(handlers)
      )
      expect(yield* logged(below)).toEqual([expect.stringContaining("core/reply, core/feedback")])
    }))
})

describe("two handlers for one output of one namespace", () => {
  const cases = [
    ["a group and a plug-in", HandlerRegistry.layer(Chatlab, Core).pipe(Layer.provide([handlers, plugin("chatlab")])), [
      "group chatlab",
      "plug-in chatlab/reply"
    ]],
    ["two plug-ins", HandlerRegistry.layer().pipe(Layer.provide([plugin("chatlab"), plugin("chatlab")])), [
      "plug-in chatlab/reply",
      "plug-in chatlab/reply"
    ]],
    [
      "two plug-ins, one provided after the other",
      HandlerRegistry.layer().pipe(
        Layer.provide(plugin("chatlab")),
        Layer.provide(plugin("chatlab"))
      ),
      ["plug-in chatlab/reply", "plug-in chatlab/reply"]
    ],
    ["two layers of one group", HandlerRegistry.layer(Chatlab, Core).pipe(Layer.provide([handlers, more])), [
      "group chatlab",
      "another layer of group chatlab"
    ]],
    [
      "two layers of one group, one provided after the other",
      HandlerRegistry.layer(Chatlab, Core).pipe(Layer.provide(more), Layer.provide(handlers)),
      ["group chatlab", "another layer of group chatlab"]
    ],
    [
      "the layers of two groups that share an output",
      HandlerRegistry.layer(Chatlab).pipe(
        Layer.provide([
          handlers,
          OutputGroup.make("chatlab", Reply, Feedback).toLayer({ reply: nothing, feedback: nothing })
        ])
      ),
      ["group chatlab", "another layer of group chatlab"]
    ],
    [
      "a group as a plug-in, of which there are two layers",
      HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.group(Chatlab)), Layer.provide([handlers, more])),
      ["group chatlab", "another layer of group chatlab"]
    ],
    ["a group given twice", HandlerRegistry.layer(Chatlab, Chatlab).pipe(Layer.provide(handlers)), [
      "group chatlab",
      "group chatlab"
    ]]
  ] as const
  for (const [name, layer, sources] of cases) {
    it.effect(`are refused: ${name}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(names(layer))
        expect(error).toMatchObject({
          _tag: "DuplicateHandler",
          namespace: "chatlab",
          schemaIdentity: Reply.identity,
          sources
        })
        expect(error.message).toContain(sources.join(" and "))
      }))
  }

  it.effect("of one layer are one handler, however often it is provided or built", () =>
    Effect.gen(function*() {
      const again = HandlerRegistry.layer(Chatlab).pipe(
        Layer.provide([handlers, Layer.fresh(handlers)]),
        Layer.provide(Layer.fresh(handlers))
      )
      expect(yield* names(again)).toEqual(["chatlab/reply", "chatlab/results"])
    }))

  it.effect("and none at all, though the compiler was told that there is one, stops the start", () =>
    Effect.gen(function*() {
      // what a program without types may do
      const forgotten = HandlerRegistry.layer(Chatlab) as Layer.Layer<HandlerRegistry.HandlerRegistry>
      expect(String(yield* Effect.exit(names(forgotten)))).toContain("no handlers of group chatlab are provided")
    }))

  it.effect("of two namespaces are none", () =>
    Effect.gen(function*() {
      const layer = HandlerRegistry.layer(Chatlab, Core).pipe(Layer.provide([handlers, plugin("triage")]))
      expect(yield* names(layer)).toHaveLength(5)
    }))
})

describe("a plug-in", () => {
  class Ward extends Context.Service<Ward, { readonly name: string }>()("test/Ward") {}

  it.effect("is added to whatever registry it is provided to, after its groups", () =>
    Effect.gen(function*() {
      const all = [plugin("triage"), plugin("triage", Results), plugin("triage", Feedback)] as const
      const expected = ["chatlab/reply", "chatlab/results", "core/reply", "core/feedback"]
      const added = ["triage/reply", "triage/results", "triage/feedback"]
      expect(yield* names(HandlerRegistry.layer(Chatlab, Core).pipe(Layer.provide([handlers, ...all])))).toEqual([
        ...expected,
        ...added
      ])
      const merged = Layer.mergeAll(...all)
      expect([...yield* names(HandlerRegistry.layer().pipe(Layer.provide(merged)))].sort()).toEqual([...added].sort())
    }))

  it.effect("may be a whole group", () =>
    Effect.gen(function*() {
      const group = HandlerPlugin.group(Chatlab).pipe(Layer.provide(handlers))
      expect(yield* names(HandlerRegistry.layer().pipe(Layer.provide([group, plugin("triage")])))).toEqual([
        "chatlab/reply",
        "chatlab/results",
        "triage/reply"
      ])
      const twice = HandlerRegistry.layer(Chatlab, Core).pipe(Layer.provide([handlers, group]))
      expect(yield* Effect.flip(names(twice))).toMatchObject({ _tag: "DuplicateHandler" })
    }))

  it.effect("is built with the services it asks for, or stops the start", () =>
    Effect.gen(function*() {
      const needs = HandlerPlugin.layer(
        "chatlab",
        Reply,
        Effect.map(Ward, ({ name }) => ({ version: name.length, persist: nothing }))
      )
      const layer = HandlerRegistry.layer().pipe(
        Layer.provide(needs),
        Layer.provide(Layer.succeed(Ward, { name: "knee" }))
      )
      const { list } = yield* Effect.provide(HandlerRegistry.HandlerRegistry, layer)
      expect(list[0]?.options.version).toBe(4)

      const broken = HandlerPlugin.layer("chatlab", Reply, Effect.as(Effect.fail("no ward" as const), nothing))
      expect(yield* Effect.flip(names(HandlerRegistry.layer().pipe(Layer.provide(broken))))).toBe("no ward")
    }))
})
