/**
 * A caller's transaction that is read only: the error says so and does not pass. On a server that is read-only by default,
 * as before a failover, another try may succeed.
 */
import { it } from "@effect/vitest"
import { CallRecorder, DomainEvents, Drain, HandlerRegistry, Settings } from "effect-sluice"
import * as PgStore from "effect-sluice/store/PgStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect } from "vitest"
import { call } from "../contract/operators/dialogues.ts"
import { client, migratedDatabase, runAt } from "../support/Postgres.ts"

const on = (url: string, maxConnections: number) =>
  Layer.merge(CallRecorder.layer, Drain.layer).pipe(
    Layer.provide([HandlerRegistry.layer(), DomainEvents.layer]),
    Layer.provideMerge(Layer.fresh(PgStore.layer)),
    Layer.provide(Settings.layer({ listen: false })),
    Layer.provideMerge(Layer.fresh(client(url, { maxConnections })))
  )

/** The error of an effect in a transaction that begins like this. */
const within = (begin: string) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => Effect.flip(sql.withTransaction(effect)).pipe(Effect.provideService(SqlClient.BeginTransaction, begin))
  )

describe("a read-only transaction of the caller's", () => {
  it.live.each([1, 2])(
    "is what the error says, and it does not pass, also with %d connections",
    (maxConnections) =>
      Effect.gen(function*() {
        const url = yield* migratedDatabase()
        yield* Effect.gen(function*() {
          const { record, recordMany } = yield* CallRecorder.CallRecorder
          const { recordNow } = yield* Drain.Drain
          const readOnly = within("begin read only")
          const told = {
            _tag: "ChunkStoreError",
            transient: false,
            code: "25006",
            message: expect.stringMatching(
              /^record: .*: the transaction around it is read only: begin that read write, or do this outside of it/
            )
          }
          expect(yield* readOnly(record(call("a")))).toMatchObject(told)
          expect(yield* readOnly(recordMany([call("a"), call("b")]))).toMatchObject(told)
          expect(yield* readOnly(recordNow(call("a")))).toMatchObject(told)
          expect(yield* record(call("a"))).toBe("recorded")
        }).pipe(Effect.provide(on(url, maxConnections)))
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("may pass, if all transactions of the server are read-only", () =>
    Effect.gen(function*() {
      const url = yield* migratedDatabase()
      yield* Effect.gen(function*() {
        yield* CallRecorder.CallRecorder
        yield* runAt(url, `alter database ${new URL(url).pathname.slice(1)} set default_transaction_read_only = on`)
      }).pipe(Effect.provide(on(url, 2)))
      yield* Effect.gen(function*() {
        const { record } = yield* CallRecorder.CallRecorder
        expect(yield* within("begin")(record(call("a")))).toMatchObject({ transient: true, code: "25006" })
      }).pipe(Effect.provide(on(url, 2)))
    }).pipe(Effect.scoped), 60_000)
})
