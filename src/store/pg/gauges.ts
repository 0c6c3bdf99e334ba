/**
 * The queries of the gauges. They read only the heads of partial indexes, so a scrape is cheap on a busy database.
 */
import * as Effect from "effect/Effect"
import type { Feed } from "../../EventLog.ts"
import type { QueueGauges, SubscriptionGauges } from "../../Inspector.ts"
import { mostCounted } from "../../Metrics.ts"
import { isOf, linesOf } from "./feeds.ts"
import type { Tables } from "./tables.ts"

/**
 * How many of the first chunks by rank are searched for the oldest one: priority is only a head start, it does not hide
 * them.
 */
const head = 1000

/**
 * The age in seconds of the oldest due chunk: among the first free ones by rank, and among due retries. Chunks that are not
 * due yet do not count.
 */
const age = ({ queue, sql }: Tables) =>
  sql`greatest(
      (
        select extract(epoch from pg_catalog.now() - pg_catalog.min(due_at)) from (
          select due_at, lease_until from ${queue} where state = 'ready' order by rank, seq limit ${head}
        ) first where due_at <= pg_catalog.now() and (lease_until is null or lease_until < pg_catalog.now())
      ),
      (
        select extract(epoch from pg_catalog.now() - due_at) from ${queue}
        where state = 'scheduled' and due_at <= pg_catalog.now() order by due_at, seq limit 1
      )
    )::pg_catalog.float8`

/** How long the oldest claimable chunk has waited, in whole seconds. */
export const oldestDue = (t: Tables) =>
  Effect.map(
    t.sql<{ seconds: number | null }>`select pg_catalog.round(${age(t)})::pg_catalog.float8 as seconds`,
    ([row]) => row?.seconds ?? undefined
  )

/** The gauges of the whole queue. `order by` names an index's columns to make the server use that index. */
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
    // the statement always returns one row
    ([row]) => ({ ...row!, oldest: row!.oldest ?? undefined })
  )
}

/** How many subscriptions have gauges: those with the oldest unread entries. */
const mostSubscriptions = 100

/** The gauges of subscriptions. The age is one descent of an index each, and only the listed ones are counted. */
export const subscriptionGauges = (t: Tables) => {
  const { sql, subscription } = t
  const unread = (feed: Feed) =>
    sql`${linesOf(t, feed)} e where (e.xact, e.seq) > (s.xact, s.seq) order by e.xact, e.seq`
  const count = (feed: Feed) =>
    sql`(select pg_catalog.count(*)::int from (select from ${unread(feed)} limit ${mostCounted}) unread)`
  const ofFeed = (feed: Feed) =>
    sql`
      select name, attempts, xact, seq, ${feed}::pg_catalog.text as feed, (select e.at from ${
      unread(feed)
    } limit 1) as at
      from ${subscription} s where ${isOf(t, feed)}`
  return sql<SubscriptionGauges>`
    select s.name, s.attempts, coalesce(greatest(0, extract(epoch from pg_catalog.now() - s.at)), 0)::pg_catalog.float8 as age,
      case s.feed when 'calls' then ${count("calls")} else ${count("objects")} end as unread
    from (
      select * from (${ofFeed("objects")} union all ${ofFeed("calls")}) every
      order by at nulls last, name limit ${mostSubscriptions}
    ) s`
}
