/**
 * A small application for tests: notes of a ward, whose handlers do as the note says.
 */
import {
  CallRecorder,
  ChunkLedger,
  DomainEvents,
  DomainObject,
  Drain,
  Handler,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  ServiceCall,
  Settings
} from "effect-sluice"
import { MemoryDatabase, table } from "effect-sluice/store/MemoryDatabase"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"

/** What a note's handler does, besides writing it. */
export const Trouble = Schema.Literals(["none", "fails", "throws", "hangs", "rejects", "nothing", "no-context"])

/** A note of the ward. */
export class Note extends Output.make("schemas.clinic.ward.note", {
  version: 2,
  schema: Schema.Struct({
    text: Schema.String,
    trouble: Trouble.pipe(Schema.withDecodingDefaultTypeKey(Effect.succeed("none" as const))),
    /** How many attempts the trouble lasts. */
    times: Schema.Int.pipe(Schema.withDecodingDefaultTypeKey(Effect.succeed(1000))),
    /** Whether the trouble comes before anything is written. */
    early: Schema.Boolean.pipe(Schema.withDecodingDefaultTypeKey(Effect.succeed(false))),
    rows: Schema.Int.pipe(Schema.withDecodingDefaultTypeKey(Effect.succeed(1)))
  }),
  upcasts: { 1: Output.upcast(Schema.String, (text) => ({ text })) }
}) {}

/** A row of the ward's table. */
export interface Row {
  readonly id: string
  readonly callId: string
  readonly text: string
}

/** The ward's table. */
export const rows = table<Row>("clinic.note")

const write = Effect.fnUntraced(function*(callId: string, text: string, count: number) {
  const db = yield* MemoryDatabase
  return yield* Effect.forEach(Array.from({ length: count }), () =>
    Effect.flatMap(db.next("note"), (number) => {
      const id = String(number)
      return Effect.as(
        db.use((access) => access.set(rows, id, { id, callId, text })),
        DomainObject.make("clinic.Note", id)
      )
    }))
})

/** The handler of notes. */
export const noteHandler = (options: Handler.Options = {}) => ({
  retry: Schedule.spaced("10 seconds"),
  ...options,
  persist: Effect.fnUntraced(function*({ call, output }: {
    readonly output: typeof Note.schema.Type
    readonly call: {
      readonly callId: string
      readonly attempt: number
      readonly context: (key: string) => Effect.Effect<string, unknown>
    }
  }) {
    const { early, rows, text, times, trouble } = output
    const written = early ? [] : yield* write(call.callId, text, rows)
    if (call.attempt <= times) {
      switch (trouble) {
        case "fails":
          return yield* Effect.fail(new Error(`it fails at attempt ${call.attempt}`))
        case "throws":
          return yield* Effect.die(new Error("a bug"))
        case "hangs":
          return yield* Effect.never
        case "rejects":
          return yield* new Handler.HandlerRejected({ reason: "the ward is closed" })
        case "no-context":
          yield* call.context("ward")
          break
        case "nothing":
          return []
        case "none":
      }
    }
    return early ? yield* write(call.callId, text, rows) : written
  })
})

/** A registry with the note handler of a namespace. */
export const registry = (options: Handler.Options = {}, namespace = "clinic") =>
  HandlerRegistry.layer().pipe(Layer.provide(HandlerPlugin.layer(namespace, Note, noteHandler(options))))

/** The whole application in memory. */
export const application = (
  settings: Partial<Settings.Values> = {},
  handlers: Layer.Layer<HandlerRegistry.HandlerRegistry, unknown, MemoryDatabase> = registry()
) =>
  Layer.mergeAll(Drain.layer, CallRecorder.layer, ChunkLedger.layer).pipe(
    Layer.provideMerge(handlers),
    Layer.provideMerge(DomainEvents.layer),
    Layer.provideMerge(MemoryStore.layer),
    Layer.provideMerge(Settings.layer(settings)),
    Layer.orDie
  )

/** A call with one note. */
export const note = (
  callId: string,
  data: { readonly [key: string]: Schema.Json } = {},
  fields: Partial<ServiceCall.ServiceCall> = {}
): ServiceCall.ServiceCall => ({
  callId,
  namespace: "clinic",
  service: "services.clinic.ward.take-notes",
  outputs: [{ schema: Note.identity, version: 2, data: { text: `note of ${callId}`, ...data } }],
  ...fields
})

/** The key of a call's note. */
export const keyOf = (callId: string): ServiceCall.ChunkKey => ({ callId, schemaIdentity: Note.identity, part: "" })

/** Records calls that can be stored. */
export const record = (...calls: ReadonlyArray<ServiceCall.ServiceCall>) =>
  Effect.flatMap(
    CallRecorder.CallRecorder,
    (recorder) => Effect.flatMap(recorder.recordMany(calls), Effect.forEach(Effect.fromResult))
  )

/** What is in the ward's table, in the order of writing. */
export const written = Effect.flatMap(MemoryDatabase, (db) => db.use((access) => access.values(rows)))
