/**
 * A connection that is lost within a transaction: the rollback fails as well, and yet it is an outage, which charges
 * nobody and is tried again.
 */
import { layer } from "@effect/vitest"
import { CallRecorder, ChunkStore } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import * as Postgres from "../support/Postgres.ts"

const schemaIdentity = "schemas.clinic.ward.note"
const stores = CallRecorder.layer.pipe(
  Layer.provideMerge(PgStore.layer),
  Layer.provideMerge(Postgres.layer())
)

/** Ends the connection of the transaction it runs in. */
const cut = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select pg_terminate_backend(pg_backend_pid())`)

layer(stores, { excludeTestServices: true, timeout: 60_000 })("a connection lost", (it) => {
  it.effect("while handlers run", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      yield* CallRecorder.CallRecorder.use((recorder) =>
        recorder.record({
          callId: "a",
          namespace: "clinic",
          service: "services.clinic.ward.take-notes",
          outputs: [{ schema: schemaIdentity, version: 1, data: "a note" }]
        })
      )
      const claim = yield* store.claim({ worker: "w", limit: 1, maxBytes: 1e6, lease: Duration.minutes(1) })
      const error = yield* Effect.flip(store.persist(claim.token, () => Effect.as(cut, [])))
      // what the handlers failed with, whose connection has rolled back by itself
      expect(store.isTransient(error)).toBe(true)
      // the handlers that go on are told that the transaction is not sound, whatever the one that cut it says
      const told = yield* Effect.flip(
        store.persist(claim.token, ({ isSound }) => Effect.as(Effect.andThen(Effect.flip(cut), isSound), []))
      )
      expect(told).toBeInstanceOf(ChunkStore.ChunkStoreError)
      expect(told).toMatchObject({ transient: true })
      // who asked is told what to do: nobody tries again by itself here
      expect(told).toMatchObject({ message: expect.stringMatching(/^persist: .+; it may succeed when tried again$/) })
    }))

  it.effect("within a ledger's once", () =>
    Effect.gen(function*() {
      const store = yield* ChunkStore.ChunkStore
      const key = { callId: "b", schemaIdentity, part: "" }
      const once = store.once({ key, namespace: "clinic", handler: "clinic/note" }, Effect.as(cut, []))
      expect(yield* Effect.flip(once)).toMatchObject({ _tag: "ChunkStoreError", transient: true })
    }))
})
