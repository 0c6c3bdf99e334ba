/**
 * The next user of a connection finds its session as it began.
 */
import { PgClient } from "@effect/sql-pg"
import { it } from "@effect/vitest"
import { ChunkLedger } from "effect-sluice"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Reactivity } from "effect/reactivity"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { expect } from "vitest"
import { inTransaction } from "../../src/store/pg/connection.ts"
import { keyOf } from "../support/clinic.ts"
import { asRole, freshDatabase, runAt } from "../support/Postgres.ts"
import { application } from "./clinic.ts"

for (const version of [15, 18] as const) {
  it.live(`on Postgres ${version}, with the role that the client's options name`, () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase(version)
      const { role } = yield* asRole(url, "ward")
      const sql = yield* PgClient.make({
        url: Redacted.make(url),
        maxConnections: 1,
        startupOptions: `-c role=${role}`
      })
      const options = { begin: "begin isolation level read committed", limit: Duration.seconds(10) } as const
      const before = yield* sql`select current_user::text as role, pg_backend_pid() as pid`
      yield* inTransaction(sql, options, ({ lease }) => {
        if (lease !== undefined) lease.left.session = true
        return sql`set role none`
      })
      expect(yield* sql`select current_user::text as role, pg_backend_pid() as pid`).toEqual(before)
      expect(before).toMatchObject([{ role }])
    }).pipe(Effect.scoped, Effect.provide(Reactivity.layer)))
}

it.live(
  "and a session that cannot be set back is closed, also by a role that may not end it",
  () =>
    Effect.gen(function*() {
      const url = yield* freshDatabase()
      const own = yield* asRole(url, "bare")
      yield* runAt(
        url,
        "revoke usage on language plpgsql from public",
        "revoke execute on function pg_terminate_backend(int, bigint) from public"
      )
      const sql = yield* PgClient.make({ url: Redacted.make(own.url), maxConnections: 1 })
      const options = { begin: "begin isolation level read committed", limit: Duration.seconds(10) } as const
      yield* inTransaction(sql, options, ({ lease }) => {
        if (lease !== undefined) lease.left.session = true
        return sql`select set_config('app.tenant', 'knee', false)`
      })
      expect(yield* sql`select current_setting('app.tenant', true) as tenant`).toEqual([{ tenant: null }])
    }).pipe(Effect.scoped, Effect.provide(Reactivity.layer))
)

it.live(
  "after an effect of `once`, which may take on a role and set what it likes, but end no transaction",
  () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { once } = yield* ChunkLedger.ChunkLedger
      const seen = sql`select current_user::text as role, nullif(current_setting('app.tenant', true), '') as tenant`
      const before = yield* seen
      const local = yield* once(keyOf("a"), { namespace: "clinic" }, Effect.as(sql`set local role tenant_a`, []))
      expect(local.created).toBe(true)
      const session = Effect.andThen(sql`set app.tenant = 'knee'`, sql`set role tenant_a`)
      expect(yield* once(keyOf("b"), { namespace: "clinic" }, Effect.as(session, []))).toMatchObject({ created: true })
      expect(yield* seen).toEqual(before)
      const ended = yield* Effect.exit(once(keyOf("c"), { namespace: "clinic" }, Effect.as(sql`commit`, [])))
      expect(Exit.isFailure(ended) && Cause.pretty(ended.cause)).toContain("cannot begin or end a transaction")
      expect(yield* sql`select call_id from sluice.persisted_chunk order by 1`).toEqual([{ call_id: "a" }, {
        call_id: "b"
      }])
    }).pipe(Effect.provide(application({ deed: () => Effect.void, maxConnections: 1 })))
)
