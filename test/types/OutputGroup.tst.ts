// @effect-diagnostics missingLayerContext:off
/**
 * What must not compile, and in which words the compiler says so.
 */
import { DomainEvents, DomainObject, Drain, HandlerRegistry, Output, OutputGroup } from "effect-sluice"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
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

describe("an application", () => {
  const handlers = Chatlab.toLayer({ "patient-initial": nothing, "patient-reply": nothing })
  const worker = Drain.layer.pipe(
    Layer.provide(HandlerRegistry.layer(Chatlab)),
    Layer.provide([DomainEvents.layer, MemoryStore.layer])
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
