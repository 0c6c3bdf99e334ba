/**
 * What a doctor asks of a database: catalogs and indexed reads only, so that it is cheap on a busy one.
 */
import type * as SqlClient from "effect/sql/SqlClient"
import type { Kind, ParkReason } from "../../ChunkStore.ts"
import { alive } from "./beat.ts"
import type { Session } from "./session.ts"

/** What the catalogs say. */
export interface Vitals {
  readonly clockMillis: number
  readonly tables: boolean
  /** Whether this role is shown other roles' sessions. */
  readonly seesAll: boolean
}

/** The server's clock, and whether Sluice's tables are there. Asks by the catalog: a schema may be closed to this role. */
export const vitals = (session: Session, schema: string) =>
  session.run<Vitals>(
    `select (extract(epoch from pg_catalog.clock_timestamp()) * 1000.0)::pg_catalog.float8 as "clockMillis",
      exists (
        select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and c.relname = 'chunk_queue'
      ) as tables,
      pg_catalog.pg_has_role('pg_read_all_stats', 'usage') as "seesAll"`,
    [schema]
  )

/** Indexes that are there and can be used, by name. */
export const indexes = (sql: SqlClient.SqlClient, schema: string) =>
  sql<{ name: string; valid: boolean }>`
    select c.relname as name, i.indisvalid as valid
    from pg_index i join pg_class c on c.oid = i.indexrelid
    join pg_namespace n on n.oid = c.relnamespace where n.nspname = ${schema}`

/** How much of the queue is dead, and when it was last cleaned; how large its indexes are beside it. */
export const vacuum = (sql: SqlClient.SqlClient, schema: string) =>
  sql<{ live: number; dead: number; last: number | null; heap: number; indexes: number }>`
    select n_live_tup::int as live, n_dead_tup::int as dead,
      pg_catalog.round(extract(epoch from pg_catalog.now() - greatest(last_autovacuum, last_vacuum)))::int as last,
      pg_catalog.pg_relation_size(relid)::pg_catalog.float8 as heap, pg_catalog.pg_indexes_size(relid)::pg_catalog.float8 as indexes
    from pg_stat_user_tables where schemaname = ${schema} and relname = 'chunk_queue'`

/**
 * The oldest transaction that keeps vacuum from cleaning, and whose it is: one that has a snapshot, or, idle between its
 * statements, has written. Of other roles' sessions only who may read all statistics is shown this.
 */
export const snapshots = (sql: SqlClient.SqlClient) =>
  sql<{ pid: number; seconds: number; application: string; state: string }>`
    select pid, pg_catalog.round(extract(epoch from pg_catalog.now() - xact_start))::int as seconds, application_name as application, state
    from pg_stat_activity
    where (backend_xmin is not null or backend_xid is not null) and pid <> pg_catalog.pg_backend_pid() and xact_start is not null
    order by xact_start limit 1`

/** The oldest transaction that was prepared for a two-phase commit and is neither committed nor rolled back. */
export const prepared = (sql: SqlClient.SqlClient) =>
  sql<{ gid: string; database: string; seconds: number }>`
    select gid, database::pg_catalog.text, pg_catalog.round(extract(epoch from pg_catalog.now() - prepared))::int as seconds
    from pg_catalog.pg_prepared_xacts order by prepared limit 1`

/** Who holds a snapshot for another server: a replication slot, or a standby that says what its queries see. */
export interface Replica {
  readonly slot: string | null
  readonly application: string
  readonly active: boolean
  /** How many transactions have begun since. */
  readonly age: number
}

/** The oldest of these. A slot's time is not known, only how many transactions ago. */
export const replicas = (sql: SqlClient.SqlClient) =>
  sql<Replica>`
    select slot, application, active, age from (
      select slot_name::pg_catalog.text as slot, '' as application, active, pg_catalog.age(xmin) as age
      from pg_catalog.pg_replication_slots where xmin is not null
      union all
      select null, application_name, true, pg_catalog.age(backend_xmin)
      from pg_catalog.pg_stat_activity where backend_type = 'walsender' and backend_xmin is not null
    ) holding order by age desc limit 1`

/** Leases that ended long ago and nobody took up. What ran out is first in line: the rest of the queue is not read. */
export const staleLeases = (sql: SqlClient.SqlClient, schema: string) =>
  sql<{ count: number }>`
    select pg_catalog.count(*)::int as count from (
      select lease_until from ${sql(`${schema}.chunk_queue`)} where state = 'ready' order by rank, seq limit 1000) first
    where lease_until < pg_catalog.now() - interval '5 minutes'`

/** Chunks that failed and wait for another attempt. */
export interface Retrying {
  /** Counted up to a thousand. */
  readonly count: number
  /** How long ago the oldest of them failed first. */
  readonly seconds: number | null
  readonly callId: string | null
  /** The latest error. */
  readonly message: string | null
}

/** What fails again and again: the first to come again, when they began to fail, and the latest error. */
export const retrying = (sql: SqlClient.SqlClient, schema: string) => {
  const failure = sql(`${schema}.chunk_failure`)
  return sql<Retrying>`
    with failing as materialized (
      select call_id, schema_identity, part, seq from (
        select call_id, schema_identity, part, seq, attempts from ${sql(`${schema}.chunk_queue`)}
        where state = 'scheduled' order by due_at, seq limit 1000
      ) first where attempts > 0
    ), latest as (
      select call_id, message from failing cross join lateral (
        select id, message from ${failure} f
        where f.call_id = failing.call_id and f.schema_identity = failing.schema_identity and f.part = failing.part
        order by id desc limit 1
      ) f order by id desc limit 1
    )
    select (select pg_catalog.count(*)::int from failing) as count,
      (
        select pg_catalog.round(extract(epoch from pg_catalog.now() - pg_catalog.min(f.at)))::pg_catalog.float8
        from (select * from failing order by seq limit 1) oldest
        join ${failure} f using (call_id, schema_identity, part)
      ) as seconds,
      (select call_id from latest) as "callId", (select message from latest) as message`
}

/** Chunks behind a dead letter of their ordering key, counted up to a thousand, and one of the calls that hold them up. */
export const heldUp = (sql: SqlClient.SqlClient, schema: string) =>
  sql<{ count: number; callId: string | null }>`
    select pg_catalog.count(*)::int as count, pg_catalog.min(call_id) as "callId" from (
      select d.call_id from (
        select call_id, ordering_key, namespace, seq from ${sql(`${schema}.dead_letter`)}
        where ordering_key is not null and discarded_at is null limit 1000
      ) d cross join lateral (
        select seq from ${sql(`${schema}.chunk_queue`)} q
        where q.ordering_key = d.ordering_key and q.namespace = d.namespace and q.seq > d.seq order by q.seq limit 1000
      ) behind limit 1000
    ) held_up`

/**
 * Kinds that no living worker serves and none has parked, of a namespace nobody drains: among the first thousand chunks that
 * are ready, and the first thousand whose retry or first time is due.
 */
export const unserved = (sql: SqlClient.SqlClient, schema: string) => {
  const queue = sql(`${schema}.chunk_queue`)
  return sql<Kind>`
    with served as materialized (
      select s ->> 'namespace'::pg_catalog.text as namespace, s ->> 'schemaIdentity'::pg_catalog.text as schema_identity
      from ${sql(`${schema}.worker`)} cross join lateral pg_catalog.jsonb_array_elements(serves) s
      where beat_at > pg_catalog.now() - ${sql.literal(alive)}
    )
    select distinct namespace, schema_identity as "schemaIdentity" from (
      (
        select namespace, schema_identity, lease_until from ${queue}
        where state = 'ready' order by rank, seq limit 1000
      ) union all (
        select namespace, schema_identity, null from ${queue}
        where state = 'scheduled' and due_at <= pg_catalog.now() order by due_at, seq limit 1000
      )
    ) first
    where (lease_until is null or lease_until < pg_catalog.now()) and not exists (
      select from served s where s.schema_identity = first.schema_identity and s.namespace in (first.namespace, 'core')
    )
    order by namespace, "schemaIdentity" limit 100`
}

/** Kinds that are parked, and why: a walk over the distinct kinds and reasons, not over the parked. */
export const parkedKinds = (sql: SqlClient.SqlClient, schema: string) => {
  const queue = sql(`${schema}.chunk_queue`)
  return sql<Kind & { readonly reason: ParkReason }>`
    with recursive walk as (
      (select namespace, schema_identity, parked_for from ${queue} where state = 'parked'
        order by namespace, schema_identity, parked_for limit 1)
      union all
      select n.* from walk w cross join lateral (
        select namespace, schema_identity, parked_for from ${queue} q
        where state = 'parked'
          and (q.namespace, q.schema_identity, q.parked_for) > (w.namespace, w.schema_identity, w.parked_for)
        order by namespace, schema_identity, parked_for limit 1) n
    ) select namespace, schema_identity as "schemaIdentity", parked_for as reason from walk limit 100`
}

/** Workers that lived in the last half minute. */
export const workers = (sql: SqlClient.SqlClient, schema: string) =>
  sql<{ alive: number }>`
    select pg_catalog.count(*)::int as alive from ${sql(`${schema}.worker`)} where beat_at > pg_catalog.now() - ${
    sql.literal(alive)
  }`

/** How many of these workers live. */
export const beating = (sql: SqlClient.SqlClient, schema: string, workers: ReadonlyArray<string>) =>
  sql<{ count: number }>`
    select pg_catalog.count(*)::int as count from ${sql(`${schema}.worker`)}
    where id = any(${workers}::pg_catalog.text[]) and beat_at > pg_catalog.now() - ${sql.literal(alive)}`

/** Letters that wait for a person; counted up to a thousand. */
export const deadLetters = (sql: SqlClient.SqlClient, schema: string) =>
  sql<{ count: number }>`
    select pg_catalog.count(*)::int as count from (
      select from ${sql(`${schema}.dead_letter`)} where discarded_at is null limit 1000) letters`

/**
 * About how many chunks a drain until empty has before it: those in others' hands are counted, retries that are due are not.
 * Not for a doctor: it reads them.
 */
export const ready = (sql: SqlClient.SqlClient, schema: string, namespace: string | undefined) =>
  sql<{ count: number }>`
    select pg_catalog.count(*)::int as count from ${sql(`${schema}.chunk_queue`)}
    where state = 'ready' and due_at <= pg_catalog.now() ${
    namespace === undefined ? sql`` : sql`and namespace = ${namespace}`
  }`

/** How many chunks were persisted in the last minute, counted up to so many: the end of an index, read backwards. */
export const persistedLately = (sql: SqlClient.SqlClient, schema: string, most: number) =>
  sql<{ count: number }>`
    select pg_catalog.count(*)::int as count from (
      select persisted_at from ${sql(`${schema}.persisted_chunk`)} order by xact desc, seq desc limit ${most}) lately
    where persisted_at > pg_catalog.now() - interval '1 minute'`

/** Whether anything of a kind (`*` is any) is outstanding or dead, or some worker serves it. */
export const isKnown = (sql: SqlClient.SqlClient, schema: string, namespace: string, identity: string) =>
  sql<{ known: boolean }>`
    select exists (
      select from ${sql(`${schema}.chunk_queue`)}
      where ${namespace}::pg_catalog.text in ('*', namespace) and ${identity}::pg_catalog.text in ('*', schema_identity)
    ) or exists (
      select from ${sql(`${schema}.dead_letter`)}
      where ${namespace}::pg_catalog.text in ('*', namespace) and ${identity}::pg_catalog.text in ('*', schema_identity)
    ) or exists (
      select from ${sql(`${schema}.worker`)} cross join lateral pg_catalog.jsonb_array_elements(serves) s
      where ${identity}::pg_catalog.text in ('*', s ->> 'schemaIdentity'::pg_catalog.text) and (
        ${namespace}::pg_catalog.text in ('*', s ->> 'namespace'::pg_catalog.text) or s ->> 'namespace'::pg_catalog.text = 'core'
      )
    ) as known`
