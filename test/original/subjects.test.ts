/**
 * The subjects of the original's 18 tests, under the original's words.
 */
import { it } from "@effect/vitest"
import { ChunkLedger, DomainObject, Drain, HandlerPlugin, HandlerRegistry, Output, OutputGroup } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { describe, expect } from "vitest"
import { application, keyOf, Note, note, noteHandler, record, registry, written } from "../support/clinic.ts"
import * as inspect from "../support/inspect.ts"

const resolve = (namespace: string, schemaIdentity: string) =>
  Effect.flatMap(HandlerRegistry.HandlerRegistry, (registry) => registry.resolve(namespace, schemaIdentity))
const provided = (layer: Layer.Layer<HandlerRegistry.HandlerRegistry, unknown, never>) => Effect.provide(layer)
const nothing = () => Effect.succeed([])
const of = (...namespaces: ReadonlyArray<string>) =>
  HandlerRegistry.layer().pipe(
    Layer.provide(
      namespaces.map((namespace) => HandlerPlugin.layer(namespace, Note, nothing))
        .reduce((before, next) => Layer.provideMerge(next, before), Layer.empty)
    )
  )

describe("registry", () => {
  it.effect("initialise", () =>
    Effect.gen(function*() {
      const { list } = yield* HandlerRegistry.HandlerRegistry
      expect(list).toEqual([])
    }).pipe(provided(HandlerRegistry.layer())))

  it.effect("freeze", () =>
    Effect.gen(function*() {
      const registry = yield* HandlerRegistry.HandlerRegistry
      expect(Object.isFrozen(registry)).toBe(true)
      expect(Object.isFrozen(registry.list)).toBe(true)
      expect(Object.isFrozen(registry.serves)).toBe(true)
    }).pipe(provided(of("chatlab"))))

  it.effect("register", () =>
    Effect.gen(function*() {
      const { list } = yield* HandlerRegistry.HandlerRegistry
      expect(list).toHaveLength(1)
      expect(list[0]).toMatchObject({ namespace: "chatlab", name: "chatlab/note" })
    }).pipe(provided(of("chatlab"))))

  it("register without schema", () => {
    // there is no handler without an output; of an output without an identity the declaration fails
    expect(() => Output.make("note" as never, { version: 1, schema: Schema.String })).toThrow("it has 1 part and not 4")
  })

  it.effect("get", () =>
    Effect.gen(function*() {
      expect((yield* resolve("chatlab", Note.identity)).output.identity).toBe(Note.identity)
    }).pipe(provided(of("chatlab"))))

  it.effect("persist routes to the handler of the call's namespace and the output's schema", () => {
    class Summary extends Output.make("schemas.clinic.ward.summary", { schema: Schema.String }) {}
    const heard: Array<string> = []
    const hears = (namespace: string, output: typeof Note | typeof Summary) =>
      HandlerPlugin.layer(namespace, output, ({ call }) =>
        Effect.sync(() => {
          heard.push(`${namespace}/${output.shortName} of ${call.callId}`)
        }))
    const handlers = HandlerRegistry.layer().pipe(
      Layer.provide([hears("chatlab", Note), hears("chatlab", Summary), hears("triage", Note), hears("core", Note)])
    )
    return Effect.gen(function*() {
      const summary = [{ schema: Summary.identity, version: 1, data: "all is well" }]
      yield* record(
        note("a", {}, { namespace: "chatlab" }),
        note("b", {}, { namespace: "triage" }),
        note("c", {}, { namespace: "chatlab", outputs: summary }),
        note("d", {}, { namespace: "elsewhere" })
      )
      expect(yield* Effect.flatMap(Drain.Drain, (drain) => drain.untilEmpty)).toMatchObject({
        claimed: 4,
        nothingToCreate: 4
      })
      expect([...heard].sort()).toEqual([
        "chatlab/note of a",
        "chatlab/summary of c",
        "core/note of d",
        "triage/note of b"
      ])
      // and the ledger says who it was
      const entries = yield* ChunkLedger.ChunkLedger.use((ledger) => ledger.find(["a", "b", "d"].map(keyOf)))
      expect(entries.map(({ handler, key }) => [key.callId, handler]).sort()).toEqual([
        ["a", "chatlab/note"],
        ["b", "triage/note"],
        ["d", "core/note"]
      ])
    }).pipe(Effect.provide(application({}, handlers)))
  })

  it.effect("falls back to core", () =>
    Effect.gen(function*() {
      expect((yield* resolve("somewhere", Note.identity)).namespace).toBe("core")
    }).pipe(provided(of("core", "chatlab"))))

  it.effect("none if no handler", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(resolve("triage", "schemas.chatlab.standardized_patient.unheard-of"))
      expect(error).toMatchObject({ _tag: "HandlerNotFound", namespace: "triage" })
      expect(error.message).toContain(`chatlab/${Note.identity}`)
    }).pipe(provided(of("chatlab"))))
})

describe("base handler", () => {
  const once = (effect = Effect.succeed([DomainObject.make("clinic.Note", 1)])) =>
    Effect.flatMap(ChunkLedger.ChunkLedger, (ledger) => ledger.once(keyOf("call-1"), { namespace: "clinic" }, effect))

  it.effect("ensure_idempotent: chunk created, then found", () =>
    Effect.gen(function*() {
      expect(yield* once()).toEqual({ created: true, objects: [DomainObject.make("clinic.Note", 1)] })
      expect(yield* once(Effect.die("run again"))).toEqual({
        created: false,
        objects: [DomainObject.make("clinic.Note", 1)]
      })
    }).pipe(Effect.provide(application())))

  it.effect("correlation-id fallback: the correlation id is the call id when absent, and never the key", () =>
    Effect.gen(function*() {
      yield* record(
        note("call-1"),
        note("call-2", {}, { correlationId: "thread" }),
        note("call-3", {}, { correlationId: "thread" })
      )
      const correlationOf = (callId: string) =>
        Effect.map(inspect.call(callId), (view) => view._tag === "Some" ? view.value.correlationId : undefined)
      expect(yield* correlationOf("call-1")).toBe("call-1")
      expect(yield* correlationOf("call-3")).toBe("thread")
      yield* Effect.flatMap(Drain.Drain, (drain) => drain.untilEmpty)
      expect(yield* written).toHaveLength(3)
    }).pipe(Effect.provide(application())))
})

describe("chunk", () => {
  it.effect("fields", () =>
    Effect.gen(function*() {
      yield* record(note("call-1"))
      yield* Effect.flatMap(Drain.Drain, (drain) => drain.untilEmpty)
      const [entry] = yield* ChunkLedger.ChunkLedger.use((ledger) => ledger.find([keyOf("call-1")]))
      expect(entry).toMatchObject({
        key: keyOf("call-1"),
        namespace: "clinic",
        schemaVersion: 2,
        handler: "clinic/note",
        handlerVersion: 5,
        objects: [{ type: "clinic.Note", id: "1" }]
      })
    }).pipe(Effect.provide(application({}, registry({ version: 5 })))))

  it.effect("unique", () =>
    Effect.gen(function*() {
      const ledger = yield* ChunkLedger.ChunkLedger
      const create = ledger.once(keyOf("call-1"), { namespace: "clinic" }, Effect.succeed([]))
      expect((yield* create).created).toBe(true)
      expect((yield* create).created).toBe(false)
      const other = { ...keyOf("call-1"), part: "second" }
      expect((yield* ledger.once(other, { namespace: "clinic" }, Effect.succeed([]))).created).toBe(true)
    }).pipe(Effect.provide(application())))

  it.effect("generic key: any type of row, any kind of id, any number", () =>
    Effect.gen(function*() {
      const objects = [
        DomainObject.make("chatlab.Message", 42),
        DomainObject.make("chatlab.Message", 2n ** 70n),
        DomainObject.make("chatlab.Media", "018f0000-0000-7000-8000-000000000000"),
        DomainObject.make("slug", "knie/links ö")
      ]
      const ledger = yield* ChunkLedger.ChunkLedger
      yield* ledger.once(keyOf("call-1"), { namespace: "clinic" }, Effect.succeed(objects))
      const [entry] = yield* ledger.find([keyOf("call-1")])
      expect(entry?.objects.map(({ id }) => id)).toEqual([
        "42",
        "1180591620717411303424",
        "018f0000-0000-7000-8000-000000000000",
        "knie/links ö"
      ])
    }).pipe(Effect.provide(application())))
})

describe("decorator", () => {
  const Clinic = OutputGroup.make("clinic", Note)

  it.effect("component type: a handler is known by its namespace and its output's name", () =>
    Effect.gen(function*() {
      const { list } = yield* HandlerRegistry.HandlerRegistry
      expect(list.map((handler) => handler.name)).toEqual(["clinic/note"])
    }).pipe(provided(HandlerRegistry.layer(Clinic).pipe(Layer.provide(Clinic.toLayer({ note: nothing }))))))

  it.effect("base class: a handler of what Output.make has not made is refused, though it looks like it", () =>
    Effect.gen(function*() {
      const { decode, encode, identity, schema, shortName, version } = Note
      // what a program without types may do
      const output = { decode, encode, identity, schema, shortName, version } as unknown as typeof Note
      const plugin = HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer("clinic", output, nothing)))
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(plugin)))
      expect(String(exit)).toContain("is for something that is not an output: give the class that Output.make made")
      expect(() => OutputGroup.make("clinic", output)).toThrow("give the classes that Output.make made")
      // and a class that derives from it is taken
      class Derived extends Note {}
      const taken = HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer("clinic", Derived, nothing)))
      expect((yield* Effect.provide(resolve("clinic", Note.identity), taken)).output).toBe(Derived)
    }))

  it.effect("persist method: a handler without one is refused, also from callers without types", () =>
    Effect.gen(function*() {
      const layer = Clinic.toLayer({} as { note: typeof nothing })
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(layer)))
      expect(String(exit)).toContain("no handler for note in group clinic")
    }))

  it.effect("schema: the handler is given what its schema says", () =>
    Effect.gen(function*() {
      yield* record(note("call-1", { text: "It hurts." }))
      yield* Effect.flatMap(Drain.Drain, (drain) => drain.untilEmpty)
      expect((yield* written).map((row) => row.text)).toEqual(["It hurts."])
    }).pipe(Effect.provide(application())))
})

describe("drain", () => {
  it.effect("the worker drains what was recorded", () =>
    Effect.gen(function*() {
      yield* record(note("call-1"), note("call-2"))
      expect(yield* Effect.flatMap(Drain.Drain, (drain) => drain.untilEmpty)).toMatchObject({
        claimed: 2,
        persisted: 2
      })
      expect((yield* written).map((row) => row.callId)).toEqual(["call-1", "call-2"])
    }).pipe(
      Effect.provide(
        application({}, HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer("core", Note, noteHandler()))))
      )
    ))
})
