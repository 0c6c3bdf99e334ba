/**
 * The ends of calls. If a subscription to ends exists, a call is open from its recording on. It ends when none of its chunks
 * is in the queue.
 *
 * A statement of its own checks this after the commit that settles a chunk. Two workers that settle the last two chunks of a
 * call at the same time each see the other's chunk in the queue; of the two statements after their commits, the later one
 * sees neither. If a worker dies between commit and statement, the beat of another ends the call.
 *
 * The statement that deletes the row of the open call writes the end. Only the recording that completes a call opens it,
 * which happens once: so a call has one end, even if its dead letters are redriven later.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Fragment } from "effect/sql/Statement"
import { limitOf } from "./client.ts"
import { aside } from "./connection.ts"
import type { Tables } from "./tables.ts"

/** How long the check of some calls may take. The settlement of their chunks waits for it. */
const longestClose = Duration.seconds(5)

/** How many open calls one beat looks at. */
const portionSize = 5000

/** The result of one check. */
interface Closed {
  readonly looked: number
  readonly last: string | null
  readonly ended: number
}

/** Ends the open calls in `looked` that have no chunk in the queue. Skips a call that another transaction is ending. */
const close = ({ callEnd, dead, ledger, log, openCall, queue, sql }: Tables, looked: Fragment) =>
  sql<Closed>`
    with looked as materialized (
      ${looked}
    ), done as materialized (
      select o.call_id from ${openCall} o
      where o.call_id = any(array(select call_id from looked))
        and not exists (select from ${queue} q where q.call_id = o.call_id)
        -- without it the numbers of the log are not known yet
        and exists (select from ${log})
      order by o.call_id for update skip locked
    ), closed as (
      delete from ${openCall} o using done d where o.call_id = d.call_id
    ), ended as (
      insert into ${callEnd} (call_id, persisted, dead, xact)
      select d.call_id,
        (select pg_catalog.count(*)::int from ${ledger} l where l.call_id = d.call_id),
        (select pg_catalog.count(*)::int from ${dead} b where b.call_id = d.call_id),
        (l.base + pg_catalog.pg_current_xact_id()::pg_catalog.text::bigint)::pg_catalog.text::pg_catalog.xid8
      from done d cross join (select base from ${log} limit 1) l
      on conflict do nothing
      returning 1
    )
    select (select pg_catalog.count(*)::int from looked) as looked, (select pg_catalog.max(call_id) from looked) as last,
      (select pg_catalog.count(*)::int from ended) as ended`

/**
 * Ends those of these calls that are open and have no chunk left. Runs after the commit that settled a chunk of theirs. If
 * it fails, the beats end them.
 */
export const closeCalls = (
  t: Tables,
  callIds: ReadonlyArray<string>,
  told: Effect.Effect<void>
): Effect.Effect<void> => {
  const ids = [...new Set(callIds)]
  return t.client.statement(close(t, t.sql`select pg_catalog.unnest(${ids}::pg_catalog.text[]) as call_id`)).pipe(
    Effect.timeout(limitOf(t.sql, longestClose)),
    Effect.tap(([row]) => (row?.ended ?? 0) > 0 ? told : Effect.void),
    Effect.ignoreCause({ log: "Debug" }),
    // this runs after the commit, but within the transaction's scope
    aside(t.sql)
  )
}

/** Ends open calls that have no outstanding chunk. Each run checks a portion, in the order of the ids. */
export const makeClosing = (t: Tables, told: Effect.Effect<void>): Effect.Effect<void> => {
  let after = ""
  return Effect.suspend(() =>
    t.client.statement(
      close(t, t.sql`select call_id from ${t.openCall} where call_id > ${after} order by call_id limit ${portionSize}`)
    )
  ).pipe(
    Effect.tap(([row]) => {
      after = row === undefined || row.looked < portionSize ? "" : row.last ?? ""
      return (row?.ended ?? 0) > 0 ? told : Effect.void
    }),
    Effect.ignoreCause({ log: "Debug" })
  )
}
