/**
 * The next user of a connection finds its session as it began.
 */
import { PgClient } from "@effect/sql-pg"
import { it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Reactivity } from "effect/reactivity"
import * as Redacted from "effect/Redacted"
import { expect } from "vitest"
import { inTransaction } from "../../src/store/pg/connection.ts"
import { asRole, freshDatabase } from "../support/Postgres.ts"

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
    }).pipe(Effect.scoped, Effect.provide(Reactivity.layer)), 30_000)
}
