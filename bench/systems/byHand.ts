/**
 * The least work that hands records to a program: the limit's tables and claim, but the payload comes to Node, is decoded by
 * its Schema, and goes back as rows. Written by hand for this one table: three lanes of plain statements through
 * `@effect/sql-pg`, no handlers, no retries, no events, no metrics.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { Pool } from "pg"
import { median } from "../harness/rounds.ts"
import { limitClaim, limitFill, limitTables } from "./limit.ts"
import { client, insertMany, newMessage, PatientReply } from "./sluice.ts"
import type { System } from "./system.ts"
import { tally } from "./tally.ts"

// the claim, with what the handler needs
const claim = limitClaim.replace(
  "returning q.seq",
  "returning q.seq, q.call_id, (select payload::text from limit_call c where c.call_id = q.call_id) as payload"
)

const decode = Schema.decodeUnknownSync(PatientReply.schema)

/** Written by hand. */
export const byHand: System = {
  about: "no library: three lanes of plain statements, batch 500",
  open: async (url, { batch = 500, inFlight = 3 }) => {
    const pool = new Pool({ connectionString: url, max: 1 })
    await pool.query(limitTables)
    const scope = Scope.makeUnsafe()
    const context = await Effect.runPromise(Layer.buildWithScope(client(url, inFlight), scope))
    const seen = tally()
    const claimMillis: Array<number> = []
    let claimed = 0
    const cycle = Effect.fnUntraced(function*(sql: PgClient.PgClient) {
      const token = crypto.randomUUID()
      const began = performance.now()
      const rows = yield* sql.unsafe<{ seq: bigint; call_id: string; payload: string }>(claim, [batch, token])
      if (rows.length === 0) return 0
      claimMillis.push(performance.now() - began)
      claimed += rows.length
      const messages = rows.map((row) => newMessage(row.call_id, decode(JSON.parse(row.payload))))
      yield* sql.withTransaction(Effect.gen(function*() {
        const made = yield* insertMany(sql, messages)
        yield* sql`
          with gone as (
            delete from limit_queue where seq = any(${rows.map((row) => row.seq)}::bigint[])
              and lease_token = ${token}::uuid
          )
          insert into limit_ledger (call_id, schema_identity, handler, object_id)
          select call_id, ${PatientReply.identity}, 'chatlab/patient-reply', object_id
          from unnest(
            ${messages.map((one) => one.callId)}::text[], ${made.map((one) => one.id)}::bigint[]
          ) as l(call_id, object_id)`
      }))
      seen.done(rows.length)
      return rows.length
    })
    const inLanes = (lane: (sql: PgClient.PgClient) => Effect.Effect<void, SqlError>) =>
      Effect.flatMap(
        PgClient.PgClient,
        (sql) =>
          Effect.all(Array.from({ length: inFlight }, () => lane(sql)), { concurrency: "unbounded", discard: true })
      ).pipe(
        Effect.provideContext(context),
        Effect.runPromise
      )
    const drain = async (count: number) => {
      let done = 0
      await inLanes(Effect.fnUntraced(function*(sql) {
        while (done < count) {
          const some = yield* cycle(sql)
          if (some === 0) break
          done += some
        }
      }))
      if (done !== count) throw new Error(`${done} of ${count} were drained`)
    }
    let stopping = false
    let working: Promise<void> | undefined
    const work = Effect.fnUntraced(function*(sql: PgClient.PgClient) {
      while (!stopping) {
        if ((yield* cycle(sql)) === 0) yield* Effect.sleep("10 millis")
      }
    })
    return {
      fill: async (calls) => {
        await pool.query(limitFill(calls))
      },
      drain,
      worker: {
        start: async () => {
          stopping = false
          claimMillis.length = 0
          working = inLanes(work)
        },
        stop: async () => {
          stopping = true
          await working
        },
        figures: () => ({ ...seen.figures(), claimed, claimMillis: median(claimMillis) })
      },
      close: async () => {
        await Effect.runPromise(Scope.close(scope, Exit.void))
        await pool.end()
      }
    }
  }
}
