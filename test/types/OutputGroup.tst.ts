// @effect-diagnostics missingLayerContext:off
/**
 * What must not compile, and in which words the compiler says so.
 */
import {
  CallRecorder,
  DomainEvents,
  DomainObject,
  Drain,
  DrainWorker,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  OutputGroup
} from "effect-sluice"
import type * as Handler from "effect-sluice/Handler"
import * as Settings from "effect-sluice/Settings"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Pglite from "effect-sluice/store/Pglite"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { describe, expect, test } from "tstyche"

class Initial extends Output.make("schemas.chatlab.standardized_patient.patient-initial", {
  version: 1,
  schema: Schema.Struct({ greeting: Schema.String })
}) {}

class Reply extends Output.make("schemas.chatlab.standardized_patient.patient-reply", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String, image_requested: Schema.Boolean })
}) {}

const Chatlab = OutputGroup.make("chatlab", Initial, Reply)

class Messages extends Context.Service<Messages, {
  readonly insert: (text: string) => Effect.Effect<string>
}>()("Messages") {}

const nothing = () => Effect.succeed([])

describe("a group's handlers", () => {
  test("complete", () => {
    const layer = Chatlab.toLayer({
      "patient-initial": ({ output }) => Effect.succeed([DomainObject.make("chatlab.Message", output.greeting)]),
      "patient-reply": nothing
    })
    expect(layer).type.toBe<Layer.Layer<OutputGroup.ToHandlers<"chatlab", typeof Initial | typeof Reply>>>()
  })

  test("one is missing", () => {
    // @ts-expect-error Property '"patient-reply"' is missing in type
    Chatlab.toLayer({ "patient-initial": nothing })
  })

  test("one too many", () => {
    Chatlab.toLayer({
      "patient-initial": nothing,
      "patient-reply": nothing,
      // @ts-expect-error there is no output named 'patient-results' in this group
      "patient-results": nothing
    })
  })

  test("one too many in a record made before", () => {
    const handlers = { "patient-initial": nothing, "patient-reply": nothing, "patient-results": nothing }
    // @ts-expect-error there is no output named 'patient-results' in this group
    Chatlab.toLayer(handlers)
  })

  test("a field the output does not have", () => {
    Chatlab.toLayer({
      "patient-initial": nothing,
      // @ts-expect-error Property 'greeting' does not exist on type
      "patient-reply": ({ output }) => Effect.succeed([DomainObject.make("chatlab.Message", output.greeting)])
    })
  })

  test("something else than domain objects", () => {
    Chatlab.toLayer({
      "patient-initial": nothing,
      // @ts-expect-error Type 'string' is not assignable to type
      "patient-reply": ({ output }) => Effect.succeed(output.text)
    })
  })

  test("what handlers need, the layer needs", () => {
    const layer = Chatlab.toLayer(Effect.gen(function*() {
      const messages = yield* Messages
      return Chatlab.of({
        "patient-initial": nothing,
        "patient-reply": ({ output }) => Effect.as(messages.insert(output.text), [])
      })
    }))
    expect<Layer.Services<typeof layer>>().type.toBe<Messages>()
  })

  test("what handlers need while they run, the layer needs as well", () => {
    const layer = Chatlab.toLayer({
      "patient-initial": nothing,
      "patient-reply": ({ output }) => Effect.as(Effect.flatMap(Messages, (it) => it.insert(output.text)), [])
    })
    expect<Layer.Services<typeof layer>>().type.toBe<Messages>()
  })
})

describe("a group's handlers, made by an effect as README's are", () => {
  test("complete", () => {
    const layer = Chatlab.toLayer(Effect.gen(function*() {
      const messages = yield* Messages
      return Chatlab.of({
        "patient-initial": Effect.fn("PatientInitial.persist")(function*({ call, output }) {
          const id = yield* messages.insert(`${yield* call.context("simulationId")} ${output.greeting}`)
          return DomainObject.make("chatlab.Message", id)
        }),
        "patient-reply": {
          timeout: "10 seconds",
          persistMany: (inputs) =>
            Effect.forEach(
              inputs,
              ({ output }) => Effect.map(messages.insert(output.text), (id) => DomainObject.make("chatlab.Message", id))
            )
        }
      })
    }))
    expect(layer).type.toBe<
      Layer.Layer<OutputGroup.ToHandlers<"chatlab", typeof Initial | typeof Reply>, never, Messages>
    >()
  })

  test("one is missing", () => {
    Chatlab.toLayer(Effect.gen(function*() {
      yield* Messages
      // @ts-expect-error Property '"patient-reply"' is missing in type
      return Chatlab.of({ "patient-initial": nothing })
    }))
  })

  test("one too many: one error, where it stands", () => {
    Chatlab.toLayer(Effect.gen(function*() {
      yield* Messages
      return Chatlab.of({
        "patient-initial": nothing,
        "patient-reply": nothing,
        // @ts-expect-error there is no output named 'patient-results' in this group
        "patient-results": nothing
      })
    }))
  })

  test("one that is misspelt", () => {
    Chatlab.toLayer(Effect.gen(function*() {
      yield* Messages
      return Chatlab.of({
        "patient-initial": nothing,
        // @ts-expect-error '"patient-replyy"' does not exist in type
        "patient-replyy": nothing
      })
    }))
  })

  test("a field the output does not have", () => {
    Chatlab.toLayer(Effect.gen(function*() {
      const messages = yield* Messages
      return Chatlab.of({
        "patient-initial": nothing,
        "patient-reply": Effect.fn("PatientReply.persist")(function*({ output }) {
          // @ts-expect-error Property 'greeting' does not exist on type
          return DomainObject.make("chatlab.Message", yield* messages.insert(output.greeting))
        })
      })
    }))
  })

  test("something else than domain objects", () => {
    Chatlab.toLayer(Effect.gen(function*() {
      yield* Messages
      return Chatlab.of({
        "patient-initial": nothing,
        // @ts-expect-error Type 'string' is not assignable to type 'Created'
        "patient-reply": Effect.fn("PatientReply.persist")(function*({ output }) {
          yield* Effect.void
          return output.text
        })
      })
    }))
  })

  test("without `of`, one is missing, or one too many", () => {
    // @ts-expect-error Property '"patient-reply"' is missing in type
    Chatlab.toLayer(Effect.gen(function*() {
      yield* Messages
      return { "patient-initial": nothing }
    }))
    // @ts-expect-error there is no output named 'patient-results' in this group
    Chatlab.toLayer(Effect.gen(function*() {
      yield* Messages
      return { "patient-initial": nothing, "patient-reply": nothing, "patient-results": nothing }
    }))
  })
})

describe("a handler's options", () => {
  test("what there is", () => {
    Chatlab.of({
      "patient-initial": {
        version: 2,
        maxAttempts: 3,
        timeout: "10 seconds",
        retry: Schedule.spaced("1 minute"),
        permanent: () => false,
        persist: nothing
      },
      "patient-reply": { maxAttempts: Infinity, persistMany: () => Effect.succeed([]) }
    })
  })

  test("misspelt", () => {
    Chatlab.of({
      "patient-initial": {
        // @ts-expect-error no handler has an option 'maxAttempt'
        maxAttempt: 3,
        persist: nothing
      },
      "patient-reply": {
        // @ts-expect-error no handler has an option 'tiemout'
        tiemout: "1 second",
        persistMany: () => Effect.succeed([])
      }
    })
    Chatlab.toLayer({
      "patient-initial": {
        // @ts-expect-error no handler has an option 'maxAttempt'
        maxAttempt: 3,
        persist: nothing
      },
      "patient-reply": nothing
    })
    HandlerPlugin.layer("chatlab", Reply, {
      // @ts-expect-error no handler has an option 'maxAttempt'
      maxAttempt: 3,
      persist: nothing
    })
    // @ts-expect-error no handler has an option 'maxAttempt'
    HandlerPlugin.layer("chatlab", Reply, Effect.succeed({ maxAttempt: 3, persist: nothing }))
  })

  test("two ways to persist", () => {
    Chatlab.of({
      "patient-initial": {
        persist: nothing,
        // @ts-expect-error a handler has persist or persistMany, not both
        persistMany: () => Effect.succeed([])
      },
      "patient-reply": nothing
    })
  })

  test("a retry in words", () => {
    Chatlab.of({
      "patient-initial": {
        // @ts-expect-error Type 'string' is not assignable to type 'Schedule
        retry: "1 minute",
        persist: nothing
      },
      "patient-reply": nothing
    })
  })
})

describe("a plug-in", () => {
  test("knows its output, and what it asks for", () => {
    const plugin = HandlerPlugin.layer(
      "chatlab",
      Reply,
      Effect.gen(function*() {
        const messages = yield* Messages
        return { maxAttempts: 3, persist: nothing, permanent: () => messages === undefined }
      })
    )
    expect(plugin).type.toBe<Layer.Layer<never, never, Messages>>()
    const running = HandlerPlugin.layer("chatlab", Reply, {
      persist: ({ output }) => Effect.as(Messages.use((messages) => messages.insert(output.text)), [])
    })
    expect(running).type.toBe<Layer.Layer<never, never, Messages>>()
    const failing = HandlerPlugin.layer("chatlab", Reply, Effect.as(Effect.fail("no ward" as const), nothing))
    expect(failing).type.toBe<Layer.Layer<never, "no ward">>()
    const given: Handler.Definition<typeof Reply.schema.Type, Messages> = nothing
    expect(HandlerPlugin.layer("chatlab", Reply, given)).type.toBe<Layer.Layer<never, never, Messages>>()
    // @ts-expect-error Property 'greeting' does not exist on type
    HandlerPlugin.layer("chatlab", Reply, ({ output }) => Effect.succeed(DomainObject.make("a", output.greeting)))
  })
})

describe("a group", () => {
  test("without an output has no place for its handler", () => {
    const rest = Chatlab.omit("patient-initial")
    expect(rest).type.toBe<OutputGroup.OutputGroup<"chatlab", typeof Reply>>()
    // @ts-expect-error is not assignable to parameter of type
    Chatlab.omit("patient-results")
  })

  test("merged of several has the outputs of all", () => {
    const merged = OutputGroup.make("ward").merge(OutputGroup.make("a", Initial), OutputGroup.make("b", Reply))
    expect(merged).type.toBe<OutputGroup.OutputGroup<"ward", typeof Initial | typeof Reply>>()
  })
})

describe("what is permanent", () => {
  class Full extends Schema.TaggedError<Full>()("Full", { beds: Schema.Int }) {}
  const persist = () => Effect.fail(new Full({ beds: 0 }))

  test("is asked of the handler's own errors", () => {
    Chatlab.toLayer({
      "patient-initial": { persist, permanent: (error: Full) => error.beds === 0 },
      "patient-reply": { persist, permanent: (error) => error instanceof Full }
    })
  })

  test("must take all of them", () => {
    Chatlab.toLayer({
      "patient-initial": nothing,
      "patient-reply": {
        persist: () => Effect.fail("no ward" as const),
        // @ts-expect-error permanent must take every error that the handler can fail with
        permanent: (error: Full) => error.beds === 0
      }
    })
  })
})

describe("an application", () => {
  const handlers = Chatlab.toLayer({ "patient-initial": nothing, "patient-reply": nothing })
  const worker = Drain.layer.pipe(
    Layer.provide(HandlerRegistry.layer(Chatlab)),
    Layer.provide([DomainEvents.layer, MemoryStore.layer]),
    Layer.provide(Settings.layer())
  )
  const run = <A, E>(whole: Layer.Layer<A, E>) => whole

  test("with everything", () => {
    run(worker.pipe(Layer.provide(handlers)))
  })

  test("a forgotten layer of handlers", () => {
    // @ts-expect-error HandlerOf<"chatlab/schemas.chatlab.standardized_patient.patient-reply">
    run(worker)
  })

  test("a forgotten store", () => {
    const storeless = Drain.layer.pipe(
      Layer.provide(HandlerRegistry.layer(Chatlab)),
      Layer.provide([DomainEvents.layer, handlers])
    )
    // @ts-expect-error Type 'ChunkStore' is not assignable to type 'never'
    run(storeless)
    // @ts-expect-error Type 'ChunkStore' is not assignable to type 'never'
    run(CallRecorder.layer)
  })

  test("a forgotten registry", () => {
    const without = Drain.layer.pipe(
      Layer.provide([DomainEvents.layer, MemoryStore.layer]),
      Layer.provide(Settings.layer())
    )
    // @ts-expect-error Type 'HandlerRegistry' is not assignable to type 'never'
    run(without)
    // the handlers alone are not it
    // @ts-expect-error Type 'HandlerRegistry' is not assignable to type 'never'
    run(without.pipe(Layer.provide(handlers)))
  })

  test("forgotten events", () => {
    const without = Drain.layer.pipe(
      Layer.provide(HandlerRegistry.layer(Chatlab)),
      Layer.provide([handlers, MemoryStore.layer]),
      Layer.provide(Settings.layer())
    )
    // @ts-expect-error Type 'DomainEvents' is not assignable to type 'never'
    run(without)
  })

  test("a forgotten database", () => {
    const without = Drain.layer.pipe(
      Layer.provide(HandlerRegistry.layer(Chatlab)),
      Layer.provide([DomainEvents.layer, handlers, PgStore.layer]),
      Layer.provide(Settings.layer())
    )
    // @ts-expect-error Type 'SqlClient' is not assignable to type 'never'
    run(without)
    run(without.pipe(Layer.provide(Pglite.layer())))
  })

  test("a forgotten drain, or what it wakes by, under a worker", () => {
    // @ts-expect-error is not assignable to type 'never'
    run(DrainWorker.layer())
    // @ts-expect-error Type 'Drain' is not assignable to type 'never'
    run(DrainWorker.layer().pipe(Layer.provide(MemoryStore.layer), Layer.provide(Settings.layer())))
  })
})

describe("an output", () => {
  test("its short name is known to the compiler", () => {
    expect(Reply.shortName).type.toBe<"patient-reply">()
  })

  test("encodes only what its schema allows", () => {
    expect(Reply.encode).type.toBeCallableWith({ text: "It hurts.", image_requested: false })
    expect(Reply.encode).type.not.toBeCallableWith({ text: "It hurts." })
  })
})
