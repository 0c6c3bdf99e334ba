/**
 * What gauges ask of a database: heads of partial indexes, so that a scrape costs a busy one next to nothing.
 */
import type * as SqlClient from "effect/sql/SqlClient"

/** Chunks by where they stand, each counted up to a limit, and how long the oldest due one has waited. */
export interface Gauges {
  readonly ready: number
  readonly scheduled: number
  readonly waiting: number
  readonly parked: number
  readonly dead: number
  readonly oldest: number | null
}

/** So many of the first by rank are looked at for the oldest: a higher priority is a head start, it does not hide them. */
const head = 1000

/**
 * In seconds: of the first by rank that nobody holds, and of those that wait for another attempt, whose time has come.
 * What is not due yet is younger than nothing.
 */
const age = (sql: SqlClient.SqlClient, schema: string) => {
  const queue = sql(`${schema}.chunk_queue`)
  return sql`greatest(
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
}

/** How long the oldest chunk that could be claimed has waited. */
export const oldestDue = (sql: SqlClient.SqlClient, schema: string) =>
  sql<{ seconds: number | null }>`select pg_catalog.round(${age(sql, schema)})::pg_catalog.float8 as seconds`

/** All of them. The order by an index's columns is there so that it is this index that is read. */
export const gauges = (sql: SqlClient.SqlClient, schema: string, most: number) => {
  const queue = sql(`${schema}.chunk_queue`)
  const count = (state: string, order: string) =>
    sql`(
      select pg_catalog.count(*)::int from (
        select from ${queue} where state = ${sql.literal(`'${state}'`)} order by ${sql.literal(order)} limit ${most}
      ) counted
    )`
  return sql<Gauges>`
    select ${count("ready", "rank, seq")} as ready, ${count("scheduled", "due_at, seq")} as scheduled,
      ${count("waiting", "ordering_key, namespace, seq")} as waiting, ${
    count("parked", "namespace, schema_identity")
  } as parked,
      (
        select pg_catalog.count(*)::int from (
          select from ${sql(`${schema}.dead_letter`)} where discarded_at is null order by died_at limit ${most}
        ) counted
      ) as dead,
      ${age(sql, schema)} as oldest`
}

/** How far behind a durable subscription is. */
export interface SubscriptionLag {
  readonly name: string
  readonly attempts: number
  readonly unread: number
  readonly age: number
}

/** So many subscriptions have gauges of their own: those with the oldest unread entry. */
const mostSubscriptions = 100

/** The age is one descent of an index for each subscription, and only those that are shown are counted. */
export const subscriptionLags = (sql: SqlClient.SqlClient, schema: string, most: number) => {
  const ledger = sql(`${schema}.persisted_chunk`)
  return sql<SubscriptionLag>`
    select s.name, s.attempts, coalesce(greatest(0, extract(epoch from pg_catalog.now() - s.persisted_at)), 0)::pg_catalog.float8 as age,
      (
        select pg_catalog.count(*)::int from (
          select from ${ledger} e where (e.xact, e.seq) > (s.xact, s.seq) order by e.xact, e.seq limit ${most}
        ) unread
      ) as unread
    from (
      select name, attempts, xact, seq, (
        select persisted_at from ${ledger} e where (e.xact, e.seq) > (s.xact, s.seq) order by e.xact, e.seq limit 1
      ) as persisted_at
      from ${sql(`${schema}.subscription`)} s order by persisted_at nulls last, name limit ${mostSubscriptions}
    ) s`
}
