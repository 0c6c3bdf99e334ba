/**
 * What the doctor asks of a server: within the statement timeout, and whatever was edited manually.
 */
import { layer } from "@effect/vitest"
import { ChunkStore, Inspector, Settings } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import * as PgServer from "../../src/store/PgServer.ts"
import { call, record } from "../contract/operators/dialogues.ts"
import * as Postgres from "../support/Postgres.ts"

const ground = PgStore.layer.pipe(Layer.provideMerge(Postgres.layer()))

layer(ground, { excludeTestServices: true, timeout: 60_000 })("what is asked of a server", (it) => {
  it.effect("ends after the statement timeout, catalogs as well", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const hurried = Layer.fresh(PgServer.layer).pipe(
        Layer.provide(Layer.fresh(Settings.layer({ statementTimeout: "300 millis" })))
      )
      const server = yield* Effect.provide(PgServer.PgServer, hurried, { local: true })
      expect(yield* server.missingMigrations).toBe(0)
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql`lock table sluice.migration, sluice.chunk_queue in access exclusive mode`
        const questions: ReadonlyArray<Effect.Effect<unknown, ChunkStore.ChunkStoreError>> = [
          server.missingMigrations,
          server.sequencesBehind
        ]
        for (const question of questions) {
          const asked = Effect.flip(question).pipe(Effect.timeout("20 seconds"))
          // not of the transaction that holds the lock
          const error = yield* Effect.provide(asked, hurried, { local: true })
          expect(error).toMatchObject({ _tag: "ChunkStoreError", message: expect.stringContaining("no answer within") })
        }
      }))
    }))

  it.effect("tells when a newer program has migrated it", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const server = yield* Effect.provide(PgServer.PgServer, PgServer.layer)
      expect(yield* server.newerMigrations).toBe(0)
      yield* sql`insert into sluice.migration (migration_id, name) values (9999, 'of_tomorrow')`
      expect([yield* server.missingMigrations, yield* server.newerMigrations]).toEqual([0, 1])
      yield* sql`delete from sluice.migration where migration_id = 9999`
    }))

  it.effect("of the workers is answered whatever their rows hold, and no beat fails", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const store = yield* ChunkStore.ChunkStore
      const inspector = yield* Inspector.Inspector
      const note = { namespace: "clinic", schemaIdentity: "schemas.clinic.ward.note" }
      const rows = [
        "\"two\"",
        "{}",
        "null",
        "[1, null, \"x\", {}]",
        JSON.stringify([{ ...note, version: "two" }]),
        JSON.stringify([{ ...note, version: 1.5 }]),
        `[{"namespace": "clinic", "schemaIdentity": "schemas.clinic.ward.note", "version": 1e300}]`
      ]
      yield* store.beat("mine", [])
      for (const [n, serves] of rows.entries()) {
        yield* sql`insert into sluice.worker (id, serves) values (${`edited-${n}`}, ${serves}::jsonb)`
      }
      expect(yield* store.beat("mine", [{ ...note, version: 1 }])).toMatchObject({ elsewhere: [{ ...note, above: 1 }] })
      expect(yield* inspector.workers()).toHaveLength(rows.length + 1)
      expect(yield* inspector.isKnown(note)).toBe(true)
      expect(yield* inspector.vitals.unservedKinds).toEqual([])
      yield* sql`delete from sluice.worker`
    }))

  it.effect("is never answered with a negative age, even after the server's clock was set back", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const store = yield* ChunkStore.ChunkStore
      const inspector = yield* Inspector.Inspector
      yield* record(call("early"))
      yield* store.beat("ahead", [])
      yield* sql`update sluice.worker set beat_at = now() + interval '1 hour'`
      yield* sql`update sluice.chunk_queue set due_at = now() + interval '1 hour', state = 'parked', parked_for = 'no-handler'`
      expect(yield* inspector.workers()).toMatchObject([{ seen: 0 }])
      expect(yield* inspector.stuck({ limit: 10 })).toMatchObject([{ why: "parked", due: 0 }])
      yield* sql`update sluice.chunk_queue set state = 'ready', parked_for = null`
      expect((yield* inspector.queueGauges).oldest ?? 0).toBeGreaterThanOrEqual(0)
      expect((yield* inspector.vitals.oldestDue) ?? 0).toBeGreaterThanOrEqual(0)
      yield* sql`update sluice.chunk_queue set state = 'scheduled', attempts = 1`
      yield* sql`insert into sluice.chunk_failure (call_id, schema_identity, part, attempt, kind, message, at, handler)
        select call_id, schema_identity, part, 1, 'failed', 'no bed', now() + interval '1 hour', 'clinic/note'
        from sluice.chunk_queue`
      expect(yield* inspector.vitals.scheduled).toMatchObject({ count: 1, seconds: 0 })
    }))
})
