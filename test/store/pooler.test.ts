/**
 * Behind a pooler in transaction mode nothing is kept in a session: recording, draining and looking after it all work,
 * without prepared statements and without LISTEN.
 */
import { PgClient } from "@effect/sql-pg"
import { layer } from "@effect/vitest"
import {
  CallRecorder,
  DeadLetters,
  DomainEvents,
  DomainObject,
  Drain,
  HandlerPlugin,
  HandlerRegistry,
  Output,
  Pauses,
  Retention,
  Settings
} from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import { type Pooler, startPooler } from "../support/pooler.ts"
import { freshDatabase } from "../support/Postgres.ts"

class Note extends Output.make("schemas.clinic.ward.note", {
  version: 1,
  schema: Schema.Struct({ text: Schema.String, fails: Schema.Boolean })
}) {}

const handler = HandlerPlugin.layer(
  "clinic",
  Note,
  Effect.map(SqlClient.SqlClient, (sql) => ({
    maxAttempts: 1,
    persist: Effect.fnUntraced(function*({ call, output }) {
      yield* sql`insert into note (call_id, content) values (${call.callId}, ${output.text})`
      if (output.fails) return yield* Effect.fail("no")
      return DomainObject.make("clinic.Note", call.callId)
    })
  }))
)

class Between extends Context.Service<Between, Pooler>()("test/Between") {}

const pooled = Layer.unwrap(
  Effect.map(Between, ({ port }) =>
    PgClient.layer({
      url: Redacted.make(`postgres://postgres@127.0.0.1:${port}/any`),
      maxConnections: 6,
      prepare: false
    }))
)
const application = Layer.mergeAll(Drain.layer, CallRecorder.layer).pipe(
  Layer.provide(HandlerRegistry.layer().pipe(Layer.provide(handler))),
  Layer.provide(DomainEvents.layer),
  Layer.provideMerge(PgStore.layer),
  Layer.provideMerge(Settings.layer({ notify: false, batchSize: 10 })),
  Layer.provideMerge(pooled),
  Layer.provideMerge(Layer.effect(
    Between,
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      return yield* Effect.acquireRelease(
        Effect.promise(() => startPooler(url, 2)),
        (pooler) => Effect.promise(() => pooler.close())
      )
    })
  ))
)

layer(application, { excludeTestServices: true, timeout: 60_000 })("behind a pooler", (it) => {
  it.effect("six clients on two sessions", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const recorder = yield* CallRecorder
      const drain = yield* Drain
      const letters = yield* DeadLetters
      yield* sql`create table note (call_id text not null, content text not null)`
      const ids = Array.from({ length: 100 }, (_, n) => `call-${n}`)
      const record = (callId: string, n: number) =>
        recorder.record({
          callId,
          namespace: "clinic",
          service: "services.clinic.ward.take-notes",
          ...(n % 3 === 0 ? { orderingKey: `bed-${n % 5}` } : {}),
          outputs: [{ schema: Note.identity, version: 1, data: { text: "a note", fails: n === 50 } }]
        })
      const drains = Effect.forEach([1, 2, 3, 4], () => drain.untilEmpty, { concurrency: "unbounded" })
      yield* Effect.all([Effect.forEach(ids, record, { concurrency: 8 }), drains], { concurrency: 2 })
      yield* drains
      yield* drain.untilEmpty

      const rows = yield* sql<{ call_id: string }>`select call_id from note`
      expect(rows.map((row) => row.call_id).sort()).toEqual(ids.filter((id) => id !== "call-50").sort())
      expect(yield* letters.count({})).toMatchObject([{ reason: "exhausted", count: 1 }])
      expect(yield* letters.redrive({})).toBe(1)
      const pauses = yield* Pauses
      yield* pauses.pause({ namespace: "clinic", schemaIdentity: "*" }, "")
      expect(yield* pauses.list).toHaveLength(1)
      yield* Retention.use((retention) => retention.prune({ payloads: Duration.days(1) }))
      expect((yield* Between).moved()).toBeGreaterThan(50)
    }), 60_000)
})
