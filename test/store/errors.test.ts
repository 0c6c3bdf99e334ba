/**
 * What Postgres says, told apart: what passes by itself, what a handler is to blame for, and what somebody must look at.
 */
import { layer } from "@effect/vitest"
import { ChunkStore } from "effect-sluice"
import { ChunkStoreError } from "effect-sluice/ChunkStore"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import * as Postgres from "../support/Postgres.ts"

const stores = PgStore.layer.pipe(Layer.provideMerge(Layer.unwrap(Effect.sync(() => Postgres.layer()))))

/** Whether an error passes, by its SQLSTATE: when a handler fails with it, and when the store itself does. */
const table: ReadonlyArray<readonly [code: string, what: string, ofHandler: boolean, ofStore: boolean]> = [
  ["40001", "a conflict", true, true],
  ["40P01", "a deadlock", true, true],
  ["53300", "too many connections", true, true],
  ["53100", "a disk that is full", true, true],
  ["57P01", "a server that stops", true, true],
  ["57P02", "a server that has crashed", true, true],
  ["57P03", "a server that starts", true, true],
  ["25P03", "a session ended because it was idle", true, true],
  ["25P04", "a session ended because its transaction took too long", true, true],
  ["26000", "a statement that the session does not know", true, true],
  ["42P05", "a statement that the session knows already", true, true],
  ["08P01", "a message that a pooler has mixed up", true, true],
  ["25006", "a server that is read-only", true, true],
  ["57014", "a statement that took too long", false, true],
  ["55P03", "a lock that was not to be had", false, true],
  ["23505", "a key that is there already", false, false],
  ["22012", "a division by zero", false, false],
  ["42P01", "a table that is not there", false, false],
  ["28000", "no access", false, false],
  ["P0001", "an error of the application's", false, false],
  ["SL001", "an error by a code of the application's", false, false]
]

layer(stores, { excludeTestServices: true, timeout: 60_000 })("the store on Postgres", (it) => {
  for (const [code, what, ofHandler, ofStore] of table) {
    it.effect(`${code}, ${what}: ${ofHandler ? "passes" : ofStore ? "passes, unless a handler meets it" : "does not pass"}`, () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const store = yield* ChunkStore.ChunkStore
        const raise = sql.unsafe(`do $$ begin raise exception 'so it is' using errcode = '${code}'; end $$`)
        const error = yield* Effect.flip(raise)
        expect(store.isTransient(error)).toBe(ofHandler)
        // as repositories wrap it
        expect(store.isTransient({ _tag: "RepositoryError", cause: { reason: error } })).toBe(ofHandler)
        expect(store.isTransient(new ChunkStoreError({ operation: "record", transient: ofStore, code, reason: "" })))
          .toBe(ofHandler)
        // a statement of the store's own
        const name = `refuse_${code.toLowerCase()}`
        yield* sql.unsafe(`create function ${name}() returns trigger language plpgsql as $$
          begin raise exception 'so it is' using errcode = '${code}'; end $$`)
        yield* sql.unsafe(`create trigger ${name} before insert on sluice.worker execute function ${name}()`)
        const told = yield* Effect.flip(store.beat("a worker", []))
        yield* sql.unsafe(`drop trigger ${name} on sluice.worker`)
        expect(told).toMatchObject({ _tag: "ChunkStoreError", operation: "beat", transient: ofStore, code })
      }))
  }
})
