/**
 * The last of the twenty-five ways the original broke, by their numbers: signals and wiring.
 */
import { it } from "@effect/vitest"
import {
  CallRecorder,
  DomainEvents,
  Drain,
  DrainWorker,
  EventLog,
  HandlerPlugin,
  HandlerRegistry,
  Output
} from "effect-sluice"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { globSync, readFileSync } from "node:fs"
import path from "node:path"
import { describe, expect } from "vitest"
import { application, keyOf, Note, note, noteHandler, record, registry, written } from "../support/clinic.ts"
import { cycle, untilEmpty } from "../support/drain.ts"
import * as inspect from "../support/inspect.ts"

const root = path.resolve(import.meta.dirname, "../..")

describe("signals", () => {
  it.effect("19. what was created is told after the commit; a crash in between loses nothing, the ledger tells it", () =>
    Effect.gen(function*() {
      const heard = yield* (yield* DomainEvents.DomainEvents).subscribe
      yield* record(note("a"), note("b", { trouble: "fails" }))
      yield* cycle
      const [event] = yield* Stream.runCollect(Stream.take(heard, 1))
      expect(event).toMatchObject({ object: { type: "clinic.Note" }, key: keyOf("a"), handler: "clinic/note" })

      const reached = yield* Deferred.make<void>()
      // a worker that dies the moment before it would tell
      const dying = Layer.effect(
        DomainEvents.DomainEvents,
        Effect.map(
          DomainEvents.DomainEvents,
          (events) =>
            DomainEvents.DomainEvents.of({
              ...events,
              publish: () => Effect.andThen(Deferred.succeed(reached, undefined), Effect.never)
            })
        )
      )
      yield* record(note("c"))
      const drain = Layer.fresh(Drain.layer).pipe(Layer.provide(Layer.fresh(dying)))
      const worker = yield* Effect.forkChild(Effect.provide(cycle, drain))
      yield* Deferred.await(reached)
      yield* Fiber.interrupt(worker)
      const log = yield* EventLog.EventLog
      yield* log.open("media", "beginning")
      const taken = Option.getOrThrow(
        yield* log.take("media", { limit: 10, maxBytes: 1e9, lease: Duration.minutes(1), reader: "test" })
      )
      expect(taken.entries.flatMap((entry) => entry.events)).toMatchObject([
        { object: { type: "clinic.Note" }, key: keyOf("a") },
        { object: { type: "clinic.Note" }, key: keyOf("c") }
      ])
      // and it is not persisted again for it
      expect(yield* untilEmpty).toMatchObject({ claimed: 0 })
      expect(yield* written).toHaveLength(2)
    }).pipe(Effect.scoped, Effect.provide(application())))
})

describe("wiring", () => {
  it.effect("20. the drain is scheduled", () =>
    Effect.gen(function*() {
      yield* Layer.build(DrainWorker.layer({ schedule: Schedule.spaced("10 seconds") }))
      yield* TestClock.adjust("1 second")
      yield* record(note("a"))
      yield* TestClock.adjust("10 seconds")
      expect(yield* written).toHaveLength(1)
    }).pipe(Effect.scoped, Effect.provide(application())))

  it.effect("21. a result that cannot be stored is refused before it is paid for again, and one with UUIDs and dates can be", () =>
    Effect.gen(function*() {
      const recorder = yield* CallRecorder.CallRecorder
      class Visit extends Output.make("schemas.clinic.ward.visit", {
        version: 1,
        schema: Schema.Struct({ id: Schema.String, at: Schema.DateTimeUtcFromString })
      }) {}
      const at = yield* Schema.decodeEffect(Schema.DateTimeUtcFromString)("2026-01-01T00:00:00Z")
      const output = yield* Visit.encode({ id: "018f0000-0000-7000-8000-000000000000", at })
      expect(yield* recorder.record(note("a", {}, { outputs: [output] }))).toBe("recorded")
      expect(yield* Visit.decode(output.data, 1)).toMatchObject({ at })
      // what cannot be stored is asked for once, not three times
      let asked = 0
      const service = Effect.sync(() => {
        asked++
        // what the original did: the value, not its JSON
        return [{ ...output, data: { id: "018f", at } as never }]
      })
      const { outputs: _, ...spec } = note("b")
      expect(yield* Effect.flip(recorder.run(spec, service))).toMatchObject({
        _tag: "CallRefused",
        path: "outputs[0].data.at"
      })
      expect(asked).toBe(1)
    }).pipe(Effect.provide(application())))

  it.effect("22. a registry that cannot be set up stops the start: no chunk is claimed, charged or finished by a broken one", () =>
    Effect.gen(function*() {
      const nothing = () => Effect.void
      yield* record(note("call-1"), note("call-2"))
      const before = yield* Effect.all([inspect.call("call-1"), inspect.call("call-2"), inspect.status])
      const broken = [
        ["its handler's set-up fails", HandlerPlugin.layer("clinic", Note, Effect.fail("no connection" as const))],
        ["its handler's set-up throws", HandlerPlugin.layer("clinic", Note, Effect.die("a bug"))],
        ["a handler is none", HandlerPlugin.layer("clinic", Note, {} as { readonly persist: typeof nothing })],
        [
          "there are two",
          Layer.merge(HandlerPlugin.layer("clinic", Note, nothing), HandlerPlugin.layer("clinic", Note, nothing))
        ]
      ] as const
      for (const [name, handlers] of broken) {
        const worker = Layer.fresh(DrainWorker.layer()).pipe(
          Layer.provide(Layer.fresh(Drain.layer)),
          Layer.provide(Layer.provide(HandlerRegistry.layer(), handlers as Layer.Layer<never, string>))
        )
        const exit = yield* Effect.exit(Effect.scoped(Layer.build(worker)))
        expect([name, Exit.isFailure(exit)]).toEqual([name, true])
        // more than the time in which ten attempts are over
        yield* TestClock.adjust("2 hours")
        expect(yield* Effect.all([inspect.call("call-1"), inspect.call("call-2"), inspect.status])).toEqual(before)
      }
      // set up rightly, it goes on as if nothing had been
      const mended = Layer.fresh(Drain.layer).pipe(Layer.provide(registry()))
      expect(yield* Effect.provide(Drain.Drain.use((drain) => drain.untilEmpty), mended)).toMatchObject({
        persisted: 2
      })
    }).pipe(Effect.provide(application({}, HandlerRegistry.layer()))))

  it.effect("23. a registry cannot be changed, and duplicates are refused", () =>
    Effect.gen(function*() {
      const twice = HandlerRegistry.layer().pipe(
        Layer.provide(HandlerPlugin.layer("clinic", Note, noteHandler())),
        Layer.provide(HandlerPlugin.layer("clinic", Note, noteHandler()))
      )
      const error = yield* Effect.flip(Effect.scoped(Layer.build(twice)))
      expect(error).toMatchObject({ _tag: "DuplicateHandler", namespace: "clinic", schemaIdentity: Note.identity })
      const { list } = yield* HandlerRegistry.HandlerRegistry
      expect(() => (list as Array<unknown>).push(1)).toThrow("not extensible")
    }).pipe(Effect.provide(application())))

  it("24. an identity is written down: renaming the class changes nothing", () => {
    const identity = "schemas.clinic.ward.note"
    class Renamed extends Output.make(identity, { version: 2, schema: Note.schema }) {}
    expect(Renamed.identity).toBe(Note.identity)
    expect(Renamed.name).not.toBe(Note.name)
  })

  it("25. the library knows no application, and no more packages than it says", () => {
    const source = path.join(root, "src")
    const files = globSync("**/*.ts", { cwd: source })
    const imports = files.flatMap((file) =>
      [
        ...readFileSync(path.join(source, file), "utf8").matchAll(
          /^(?:(?:import|export) [^"]*from |\} from |.*\bimport\()"([\w@./:-]+)"/gm
        )
      ].map((
        [, target]
      ) => ({
        file,
        target: target ?? ""
      }))
    )
    expect(imports.length).toBeGreaterThan(200)
    const own = imports.filter(({ target }) => target.startsWith("."))
    const outside = own.filter(({ file, target }) => path.join(path.dirname(file), target).startsWith(".."))
    expect(outside).toEqual([])
    const manifest = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"))
    const allowed = Object.keys(manifest.peerDependencies)
    const foreign = imports.filter(({ target }) =>
      !target.startsWith(".") && !target.startsWith("node:") &&
      !allowed.some((name) => target === name || target.startsWith(`${name}/`))
    )
    expect(foreign).toEqual([])
  })
})
