/**
 * A handler that was built with another client than the store's writes outside Sluice's transactions: its rows are there
 * twice after a retry. The log says so at the start.
 */
import { it } from "@effect/vitest"
import {
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Settings,
  TableHandler
} from "effect-sluice"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import * as MemoryStore from "effect-sluice/store/MemoryStore"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import { Note } from "../support/clinic.ts"
import { client, migratedDatabase } from "../support/Postgres.ts"

/** The warnings of a drain's start. */
const warningsOf = <E>(drain: Layer.Layer<Drain.Drain, E>) => {
  const warnings: Array<unknown> = []
  const keep = Logger.map(Logger.formatStructured, ({ level, message }) => {
    if (level === "WARN") warnings.push(message)
  })
  return Effect.as(Effect.scoped(Layer.build(drain)), warnings).pipe(Effect.provide(Logger.layer([keep])))
}

const handler = HandlerPlugin.layer(
  "clinic",
  Note,
  Effect.map(SqlClient.SqlClient, (sql) => ({ call }) =>
    Effect.map(
      sql<{ id: number }>`insert into note (call_id) values (${call.callId}) returning id`,
      ([row]) => DomainObject.make("clinic.Note", row!.id)
    ))
)
const declared = HandlerPlugin.layer(
  "clinic",
  Note,
  TableHandler.make(Note, { table: "note", object: "clinic.Note", columns: ({ call }) => ({ call_id: call.callId }) })
)

it.live(
  "on Postgres: named by handler, but not a handler with a copy of the store's client, or a declared one",
  () =>
    Effect.gen(function*() {
      const url = yield* migratedDatabase()
      const stores = client(url)
      const drainOf = <E>(handlers: Layer.Layer<never, E, SqlClient.SqlClient>) =>
        Drain.layer.pipe(
          Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handlers))),
          Layer.provide(DomainEvents.layer),
          Layer.provide(PgStore.layer),
          Layer.provide(Settings.layer()),
          Layer.provide(stores)
        )
      expect(yield* warningsOf(drainOf(handler))).toEqual([])
      const copy = Layer.effect(
        SqlClient.SqlClient,
        Effect.map(SqlClient.SqlClient, (sql) => sql.withoutTransforms())
      )
      expect(yield* warningsOf(drainOf(handler.pipe(Layer.provide(copy))))).toEqual([])
      const own = client(url, { maxConnections: 1 })
      expect(yield* warningsOf(drainOf(declared.pipe(Layer.provide(own))))).toEqual([])
      expect(yield* warningsOf(drainOf(handler.pipe(Layer.provide(own))))).toEqual([
        expect.stringMatching(
          /built with a SqlClient that is not the store's: clinic\/note\. .*written again by the retry/
        )
      ])
    }).pipe(Effect.scoped)
)

it.effect("in memory", () =>
  Effect.gen(function*() {
    const inMemory = HandlerPlugin.layer(
      "clinic",
      Note,
      Effect.as(MemoryDatabase.MemoryDatabase, () => Effect.void)
    )
    const drainOf = (handlers: Layer.Layer<never, never, MemoryDatabase.MemoryDatabase>) =>
      Drain.layer.pipe(
        Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handlers))),
        Layer.provide(DomainEvents.layer),
        Layer.provide(MemoryStore.layerStorage),
        Layer.provide(Settings.layer()),
        Layer.provide(MemoryDatabase.layer)
      )
    expect(yield* warningsOf(drainOf(inMemory))).toEqual([])
    const own = Layer.fresh(MemoryDatabase.layer)
    expect(yield* warningsOf(drainOf(inMemory.pipe(Layer.provide(own))))).toEqual([
      expect.stringContaining("a MemoryDatabase that is not the store's: clinic/note")
    ])
  }))
