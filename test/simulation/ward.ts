/**
 * The application that is simulated: notes of a ward, whose handlers do as the plan says.
 */
import {
  DomainObject,
  Handler,
  HandlerPlugin,
  HandlerRegistry,
  ServiceCall,
  Settings,
  TableHandler
} from "effect-sluice"
import type { HandlerInput } from "effect-sluice/Handler"
import { MemoryDatabase } from "effect-sluice/store/MemoryDatabase"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { kill, type Life } from "./faults.ts"
import { Batched, Card, Listed, type Note, OldListed, OldPlain, Plain, Rare, Scoped } from "./plan.ts"
import { domain } from "./rows.ts"
import { CurrentSession, inSavepoint, setTenant } from "./session.ts"

/** The life of the worker a handler runs in. */
export const CurrentLife = Context.Reference<Life | undefined>("test/CurrentLife", { defaultValue: () => undefined })

/** Short, so that much happens in little time. The environment is not read: a seed says the same in each. */
export const settings = Settings.layer({
  batchSize: 4,
  maxAttempts: 3,
  maxCrashes: 3,
  lease: Duration.seconds(3),
  handlerTimeout: Duration.seconds(2),
  beatInterval: Duration.seconds(1)
}).pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({}))))

/** Writes a chunk's rows. */
export const write = Effect.fnUntraced(function*(
  { callId, part, schemaIdentity: schema }: ServiceCall.ChunkKey,
  count: number
) {
  const db = yield* MemoryDatabase
  const life = yield* CurrentLife
  const session = yield* CurrentSession
  // a database that is away is found to be so by asking it
  yield* db.use(() => undefined)
  if (life !== undefined) yield* life.stumble
  return yield* Effect.forEach(Array.from({ length: count }), (_, index) =>
    // the numbers of the declared rows
    Effect.flatMap(db.next(domain.name), (number) => {
      const id = String(number)
      return Effect.as(
        db.use((access) => {
          access.set(domain, id, { id, callId, schema, part, text: String(index), tenant: session?.tenant })
          session?.written.push(id)
        }),
        DomainObject.make("clinic.Note", id)
      )
    }))
})

/** Writes, and takes it back, as a handler does that tries something. */
const tries = Effect.fnUntraced(function*(key: ServiceCall.ChunkKey, rows: number) {
  yield* inSavepoint(Effect.gen(function*() {
    yield* write(key, rows)
    yield* Effect.sleep(20)
    return yield* Effect.fail("not like this" as const)
  })).pipe(Effect.catchIf((error) => error === "not like this", () => Effect.void))
})

const persist = Effect.fnUntraced(function*(input: HandlerInput<Note>) {
  const { call: { attempt, key }, output: { fate, millis, rows, times, uses, writesFirst } } = input
  if (uses === "setting") yield* setTenant(key.callId)
  if (uses === "savepoint") yield* tries(key, rows)
  const before = writesFirst ? yield* write(key, rows) : []
  if (millis > 0) yield* Effect.sleep(millis)
  const life = yield* CurrentLife
  switch (fate) {
    case "kills":
      if (life !== undefined) yield* kill(life)
      return yield* Effect.never
    case "rejects":
      return yield* new Handler.HandlerRejected({ reason: "the ward is closed" })
    case "exhausts":
      return yield* Effect.fail("it always fails")
    case "fails":
      if (attempt <= times) return yield* Effect.fail("it fails at first")
      break
    case "throws":
      if (attempt <= times) return yield* Effect.die(new Error("it throws at first"))
      break
    case "hangs":
      if (attempt <= times) return yield* Effect.never
      break
    case "creates":
  }
  return writesFirst ? before : yield* write(key, rows)
})

const options = { retry: Schedule.spaced("1 second") }
const plain = HandlerPlugin.layer("clinic", Plain, { ...options, persist })
const oldPlain = HandlerPlugin.layer("clinic", OldPlain, { ...options, persist })
const rare = HandlerPlugin.layer("clinic", Rare, { ...options, persist })
const batched = HandlerPlugin.layer("clinic", Batched, {
  ...options,
  persistMany: (inputs: ReadonlyArray<HandlerInput<Note>>) => Effect.forEach(inputs, persist)
})

const scoped = HandlerPlugin.layer("clinic", Scoped, { ...options, persist })

/** The columns that every row has. */
const columnsOf = (call: TableHandler.CallFields, schema: string) => ({ callId: call.callId, schema, part: call.part })

const table = { table: domain.name, object: "clinic.Note", ...options }
const listed = HandlerPlugin.layer(
  "clinic",
  Listed,
  TableHandler.make(Listed, {
    ...table,
    each: ({ output }) => output.items,
    columns: ({ call, item }) => ({ ...columnsOf(call, Listed.identity), text: item.text })
  })
)
const oldListed = HandlerPlugin.layer(
  "clinic",
  OldListed,
  TableHandler.make(OldListed, {
    ...table,
    each: ({ output }) => output.lines,
    columns: ({ call, item }) => ({ ...columnsOf(call, Listed.identity), text: item })
  })
)
const card = HandlerPlugin.layer(
  "clinic",
  Card,
  TableHandler.make(Card, {
    ...table,
    columns: ({ call, output }) => ({
      ...columnsOf(call, Card.identity),
      text: output.text,
      tenant: call.context("ward")
    })
  })
)

const programs = {
  old: HandlerRegistry.layer().pipe(Layer.provide(scoped), Layer.provide(batched), Layer.provide(oldPlain)),
  new: HandlerRegistry.layer().pipe(
    Layer.provide(rare),
    Layer.provide(scoped),
    Layer.provide(batched),
    Layer.provide(plain)
  )
}

/** The handlers that old and new workers have. One on top of the other: a plug-in adds to those before it. */
export const handlers = {
  programs,
  mixed: {
    old: programs.old.pipe(Layer.provide(oldListed)),
    new: programs.new.pipe(Layer.provide(card), Layer.provide(listed))
  }
}
