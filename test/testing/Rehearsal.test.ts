/**
 * What users import to test their handlers: it passes those that are right, and finds those that are not.
 */
import { it } from "@effect/vitest"
import { DomainObject, Handler, HandlerPlugin, HandlerRegistry, Output } from "effect-sluice"
import type { Definition } from "effect-sluice/Handler"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import * as PgStore from "effect-sluice/store/PgStore"
import { exactlyOnce, layerMemory, sampleCall, sampleInput } from "effect-sluice/testing"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlResolver from "effect/sql/SqlResolver"
import { describe, expect } from "vitest"
import { ChatlabHandlers } from "../../examples/chatlab/handlers.ts"
import { Messages } from "../../examples/chatlab/Messages.ts"
import { Metadata } from "../../examples/chatlab/Metadata.ts"
import { Chatlab, PatientInitial, PatientReply } from "../../examples/chatlab/outputs.ts"
import * as repositories from "../../examples/chatlab/repositories.ts"
import { layer as postgres } from "../support/Postgres.ts"

class Note extends Output.make("schemas.clinic.ward.note", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String })
}) {}

/** A place outside the database: a mailbox, a file, another service. */
class Outside extends Context.Service<Outside, { readonly sent: Array<string> }>()("test/Outside") {
  static readonly layer = Layer.sync(Outside, () => ({ sent: [] }))
}

const notes = MemoryDatabase.table<string>("clinic.note")
const calls = Effect.forEach(
  ["one", "two"],
  (callId) => sampleCall(Note, { text: `note ${callId}` }, { callId })
)
const inMemory = <R>(persist: (text: string) => Effect.Effect<unknown, unknown, R>) =>
  layerMemory(
    HandlerRegistry.layer().pipe(
      Layer.provide(HandlerPlugin.layer("clinic", Note, ({ output }) => Effect.asVoid(persist(output.text))))
    )
  )
const keep = (text: string) =>
  Effect.flatMap(
    MemoryDatabase.MemoryDatabase,
    (db) => Effect.flatMap(db.next("note"), (n) => db.use((access) => access.set(notes, String(n), text)))
  )
const kept = Effect.flatMap(MemoryDatabase.MemoryDatabase, (db) => db.use((access) => access.values(notes)))

const text = (text: string) => ({ role: "patient", content: [{ type: "output_text" as const, text }], item_meta: {} })
const simulation = { context: { simulationId: "knee" }, orderingKey: "knee" }
const dialogue = Effect.all([
  sampleCall(
    PatientInitial,
    { messages: [text("My knee.")], metadata: [text("54")], llm_conditions_check: [] },
    { callId: "1", ...simulation }
  ),
  sampleCall(
    PatientReply,
    { messages: [text("A little.")], image_requested: true, llm_conditions_check: [] },
    { callId: "2", ...simulation }
  )
])

const chatlab = HandlerRegistry.layer(Chatlab).pipe(Layer.provide(ChatlabHandlers))
const whatItSays = Effect.gen(function*() {
  const messages = yield* (yield* Messages).list
  const metadata = yield* (yield* Metadata).list
  return { messages: messages.map(({ content, order }) => [order, content]), metadata: metadata.map(({ key }) => key) }
})

describe("a rehearsal", () => {
  it.live("passes the chat laboratory, in memory", () =>
    Effect.gen(function*() {
      const application = layerMemory(chatlab).pipe(Layer.provideMerge(repositories.layerMemory))
      const scenes = yield* exactlyOnce({
        application: application.pipe(Layer.provideMerge(MemoryDatabase.layer)),
        calls: yield* dialogue,
        tables: whatItSays
      })
      expect(scenes).toBe(9)
    }))

  it.live("and on Postgres", () =>
    Effect.gen(function*() {
      const application = chatlab.pipe(
        Layer.provideMerge(Layer.merge(PgStore.layer, repositories.layerPg)),
        Layer.provideMerge(postgres()),
        Layer.orDie
      )
      yield* exactlyOnce({ application, calls: yield* dialogue, tables: whatItSays })
    }), 60_000)

  /** An application on Postgres whose handler of notes does as the test says. */
  const onPostgres = (handler: (sql: SqlClient.SqlClient) => Definition<typeof Note.schema.Type>) =>
    HandlerRegistry.layer().pipe(
      Layer.provide(HandlerPlugin.layer("clinic", Note, Effect.map(SqlClient.SqlClient, handler))),
      Layer.provideMerge(PgStore.layer),
      Layer.provideMerge(Layer.effectDiscard(Effect.flatMap(
        SqlClient.SqlClient,
        (sql) => sql`create table if not exists note (text text, tenant text, place int, id serial)`
      ))),
      Layer.provideMerge(postgres()),
      Layer.orDie
    )
  const notesOf = (column: string) =>
    Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(`select text, ${column} from note order by text`))

  it.live("finds a handler that reads a setting which another run may have left behind", () =>
    Effect.gen(function*() {
      const application = onPostgres((sql) => ({
        isolation: "batch",
        persist: ({ output }) =>
          sql`insert into note values (${output.text}, nullif(current_setting('app.tenant', true), ''))`.pipe(
            Effect.asVoid
          )
      }))
      const error = yield* Effect.flip(
        exactlyOnce({ application, calls: yield* calls, tables: notesOf("tenant") })
      )
      expect(error).toMatchObject({ _tag: "NotExactlyOnce", scene: expect.stringContaining("mates") })
      expect(error.message).toContain("isolation")
    }), 60_000)

  it.live("and passes it where its runs have a transaction each", () =>
    Effect.gen(function*() {
      const application = onPostgres((sql) => ({
        persist: ({ output }) =>
          Effect.andThen(
            sql`select set_config('app.tenant', ${output.text}, true)`,
            sql`insert into note values (${output.text}, nullif(current_setting('app.tenant', true), ''))`
          ).pipe(Effect.asVoid)
      }))
      expect(yield* exactlyOnce({ application, calls: yield* calls, tables: notesOf("tenant") })).toBeGreaterThan(5)
    }), 60_000)

  it.live(
    "finds a handler whose runs go together and read what the others are about to write",
    () =>
      Effect.gen(function*() {
        const application = onPostgres((sql) => {
          const places = SqlResolver.request(SqlResolver.ordered({
            Request: Schema.String,
            Result: Schema.Struct({ next: Schema.Number }),
            execute: (asked) =>
              Effect.map(
                sql<{ next: number }>`select coalesce(max(place), 0) + 1 as next from note`,
                ([row]) => asked.map(() => row!)
              )
          }))
          const insert = SqlResolver.request(SqlResolver.void({
            Request: Schema.Struct({ text: Schema.String, place: Schema.Number }),
            execute: (rows) => sql`insert into note ${sql.insert([...rows])}`
          }))
          return {
            isolation: "together",
            persist: ({ output: { text } }) =>
              Effect.flatMap(places(text), ({ next }) => insert({ text, place: next })).pipe(Effect.asVoid)
          }
        })
        const error = yield* Effect.flip(exactlyOnce({ application, calls: yield* calls, tables: notesOf("place") }))
        expect(error).toMatchObject({ _tag: "NotExactlyOnce", scene: expect.stringContaining("batch of its own") })
      }),
    60_000
  )

  it.live("tells of ids of a sequence, which a rollback does not give back", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(exactlyOnce({
        application: onPostgres((sql) => ({ output: { text } }) =>
          sql`insert into note (text) values (${text})`.pipe(Effect.asVoid)
        ),
        calls: yield* calls,
        tables: notesOf("id")
      }))
      expect(error.message).toMatch(/transaction\? Only numbers differ: .* sequence.* leave them out of `tables`\n/)
      expect(error.message).toContain("tables[0].id is 3, not 1")
    }), 60_000)

  it.live("finds a handler that writes outside its transaction", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(exactlyOnce({
        application: inMemory((text) => Effect.flatMap(Outside, ({ sent }) => Effect.sync(() => sent.push(text)))).pipe(
          Layer.provideMerge(Outside.layer)
        ),
        calls: yield* calls,
        tables: Effect.map(Outside, ({ sent }) => sent)
      }))
      expect(error).toMatchObject({ _tag: "NotExactlyOnce", scene: expect.stringContaining("after the handlers ran") })
      expect(error.message).toMatch(/outside its transaction\?\n/)
    }))

  it.live("finds one that writes to what outlives the application, and tells what is too much", () =>
    Effect.gen(function*() {
      const sent: Array<string> = []
      const error = yield* Effect.flip(exactlyOnce({
        application: inMemory((text) => Effect.sync(() => sent.push(text))),
        calls: yield* calls,
        tables: Effect.succeed(sent)
      }))
      expect(error._tag).toBe("NotExactlyOnce")
      expect(error.message.split("\n").slice(1)).toEqual([
        `tables has "note one" too much`,
        `tables has "note two" too much`
      ])
    }))

  it.live("tells bigints, and what is undefined from what is missing, in its error", () =>
    Effect.gen(function*() {
      let scene = 0
      const error = yield* Effect.flip(exactlyOnce({
        application: inMemory(() => Effect.void),
        calls: yield* calls,
        tables: Effect.sync(() => scene++ === 0 ? { id: 1n, note: undefined } : { id: 2n })
      }))
      expect(error.message).toContain("\ntables.id is 2n, not 1n\ntables.note is missing, not undefined")
    }))

  it.live("finds one that does not do the same when it runs again", () =>
    Effect.gen(function*() {
      const runs = new Map<string, number>()
      const error = yield* Effect.flip(exactlyOnce({
        application: inMemory((text) =>
          Effect.suspend(() => {
            const run = (runs.get(text) ?? 0) + 1
            runs.set(text, run)
            return keep(`${text}, run ${run}`)
          })
        ),
        calls: yield* calls,
        tables: kept
      }))
      expect(error._tag).toBe("NotExactlyOnce")
    }))

  it.effect("passes one that is right, also where the test's clock does not move", () =>
    Effect.gen(function*() {
      yield* exactlyOnce({ application: inMemory(keep), calls: yield* calls, tables: kept })
    }))

  it.live("says when the handlers fail without any help", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(exactlyOnce({
        application: inMemory(() => new Handler.HandlerRejected({ reason: "no" })),
        calls: yield* calls,
        tables: kept
      }))
      expect(error).toMatchObject({ _tag: "RehearsalFailed", reason: expect.stringContaining("2 are dead") })
    }))
})

describe("samples", () => {
  it.effect("a handler can be called directly", () =>
    Effect.gen(function*() {
      const { call, output } = sampleInput(Note, { text: "a" }, { context: { ward: "3" }, attempt: 2, part: "p" })
      expect(output).toEqual({ text: "a" })
      expect(yield* call.context("ward")).toBe("3")
      expect(call).toMatchObject({
        attempt: 2,
        namespace: "clinic",
        part: "p",
        idempotencyKey: "sample schemas.clinic.ward.note#p"
      })
      expect(DomainObject.make("clinic.Note", 1)).toMatchObject({ id: "1" })
    }))

  it.effect("what the schema does not allow is no sample", () =>
    Effect.gen(function*() {
      const untyped = { text: 1 } as never
      expect((yield* Effect.flip(sampleCall(Note, untyped)))._tag).toBe("SchemaError")
    }))

  it.effect("a client of the database is not needed in memory", () =>
    Effect.gen(function*() {
      expect(yield* Effect.serviceOption(SqlClient.SqlClient)).toMatchObject({ _tag: "None" })
    }))
})
