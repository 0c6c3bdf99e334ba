/**
 * The ends of calls. A call is open from its recording on, if a subscription is told ends then; and it ends when no chunk of it
 * is in the queue.
 *
 * This is looked at after the commit that settles a chunk, in a statement of its own. Two workers that settle the last two
 * chunks of a call at the same time each see the other's chunk in the queue; of the two statements after their commits, the
 * later one sees neither. Where a worker dies between the two, the beat of another finds the call.
 *
 * Whoever deletes the row of the open call writes the end. A call is opened by the recording that completes it, which happens
 * once: so its end is told once, also when dead letters of it are redriven later.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Fragment } from "effect/sql/Statement"
import type { Tables } from "./tables.ts"

/** How many open calls one beat looks at. */
const portionSize = 5000

/** The result of a look. */
interface Closed {
  readonly looked: number
  readonly last: string | null
  readonly ended: number
}

/**
 * Ends those of the open calls in `looked` that have no chunk in the queue. A call that another transaction ends at this moment
 * is left to it.
 */
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
 * Ends those of these calls that are open and have no chunk left. To be run after the commit that settled a chunk of them. If it
 * fails, the next beat does so.
 */
export const closeCalls = (
  t: Tables,
  callIds: ReadonlyArray<string>,
  told: Effect.Effect<void>
): Effect.Effect<void> => {
  const ids = [...new Set(callIds)]
  return t.client.statement(close(t, t.sql`select pg_catalog.unnest(${ids}::pg_catalog.text[]) as call_id`)).pipe(
    Effect.tap(([row]) => (row?.ended ?? 0) > 0 ? told : Effect.void),
    Effect.ignoreCause({ log: "Debug" }),
    // The transaction is over, but what runs after its commit is still within its scope, and finds its connection.
    Effect.updateContext((context: Context.Context<never>) => Context.omit(t.sql.transactionService)(context))
  )
}

/** Ends open calls that nobody ended, a portion each time it is run, in the order of their ids. */
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
