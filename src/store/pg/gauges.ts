/**
 * What gauges ask of a database: heads of partial indexes, so that a scrape costs a busy one next to nothing.
 */
import * as Effect from "effect/Effect"
import type { QueueGauges, SubscriptionGauges } from "../../Inspector.ts"
import { mostCounted } from "../../Metrics.ts"
import type { Tables } from "./tables.ts"

/** So many of the first by rank are looked at for the oldest: a higher priority is a head start, it does not hide them. */
const head = 1000

/**
 * In seconds: of the first by rank that nobody holds, and of those that wait for another attempt, whose time has come.
 * What is not due yet is younger than nothing.
 */
const age = ({ queue, sql }: Tables) =>
  sql`greatest(
      (
        select extract(epoch from pg_catalog.now() - pg_catalog.min(due_at)) from (
          select due_at, lease_until from ${queue} where state = 'ready' order by rank, seq limit ${head}
        ) first where lease_until is null or lease_until < pg_catalog.now()
      ),
      (
        select extract(epoch from pg_catalog.now() - due_at) from ${queue}
        where state = 'scheduled' and due_at <= pg_catalog.now() order by due_at, seq limit 1
      )
    )::pg_catalog.float8`

/** How long the oldest chunk that could be claimed has waited, in whole seconds. */
export const oldestDue = (t: Tables) =>
  Effect.map(
    t.sql<{ seconds: number | null }>`select pg_catalog.round(${age(t)})::pg_catalog.float8 as seconds`,
    ([row]) => row?.seconds ?? undefined
  )

/** All of the queue. The order by an index's columns is there so that it is this index that is read. */
export const queueGauges = (t: Tables) => {
  const { dead, queue, sql } = t
  const count = (state: string, order: string) =>
    sql`(
      select pg_catalog.count(*)::int from (
        select from ${queue} where state = ${sql.literal(`'${state}'`)} order by ${
      sql.literal(order)
    } limit ${mostCounted}
      ) counted
    )`
  return Effect.map(
    sql<Omit<QueueGauges, "oldest"> & { readonly oldest: number | null }>`
    select ${count("ready", "rank, seq")} as ready, ${count("scheduled", "due_at, seq")} as scheduled,
      ${count("waiting", "ordering_key, namespace, seq")} as waiting, ${
      count("parked", "namespace, schema_identity")
    } as parked,
      (
        select pg_catalog.count(*)::int from (
          select from ${dead} where discarded_at is null order by died_at limit ${mostCounted}
        ) counted
      ) as dead,
      ${age(t)} as oldest`,
    // one row, whatever there is
    ([row]) => ({ ...row!, oldest: row!.oldest ?? undefined })
  )
}

/** So many subscriptions have gauges of their own: those with the oldest unread entry. */
const mostSubscriptions = 100

/** The age is one descent of an index for each subscription, and only those that are shown are counted. */
export const subscriptionGauges = ({ ledger, sql, subscription }: Tables) =>
  sql<SubscriptionGauges>`
    select s.name, s.attempts, coalesce(greatest(0, extract(epoch from pg_catalog.now() - s.persisted_at)), 0)::pg_catalog.float8 as age,
      (
        select pg_catalog.count(*)::int from (
          select from ${ledger} e where (e.xact, e.seq) > (s.xact, s.seq) order by e.xact, e.seq limit ${mostCounted}
        ) unread
      ) as unread
    from (
      select name, attempts, xact, seq, (
        select persisted_at from ${ledger} e where (e.xact, e.seq) > (s.xact, s.seq) order by e.xact, e.seq limit 1
      ) as persisted_at
      from ${subscription} s order by persisted_at nulls last, name limit ${mostSubscriptions}
    ) s`
