/**
 * What a doctor asks of the server: its catalogs, and nothing of Sluice's tables.
 */
import type { Session } from "./session.ts"
import type { Tables } from "./tables.ts"

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
export const indexes = ({ sql }: Tables, schema: string) =>
  sql<{ name: string; valid: boolean }>`
    select c.relname as name, i.indisvalid as valid
    from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = ${schema}`

/** How much of the queue's table is dead, and how large its indexes are. Sizes are bytes. */
export interface Vacuum {
  readonly live: number
  readonly dead: number
  /** Seconds since it was last cleaned. */
  readonly last: number | null
  readonly heap: number
  readonly indexes: number
}

/** How much of the queue is dead, and when it was last cleaned; how large its indexes are beside it. */
export const vacuum = ({ sql }: Tables, schema: string) =>
  sql<Vacuum>`
    select n_live_tup::int as live, n_dead_tup::int as dead,
      pg_catalog.round(extract(epoch from pg_catalog.now() - greatest(last_autovacuum, last_vacuum)))::int as last,
      pg_catalog.pg_relation_size(relid)::pg_catalog.float8 as heap, pg_catalog.pg_indexes_size(relid)::pg_catalog.float8 as indexes
    from pg_catalog.pg_stat_user_tables where schemaname = ${schema} and relname = 'chunk_queue'`

/** A session that holds a snapshot, or has written and is not over. */
export interface HoldingSession {
  readonly pid: number
  readonly seconds: number
  readonly application: string
  readonly state: string
}

/**
 * The oldest transaction that keeps vacuum from cleaning, and whose it is: one that has a snapshot, or, idle between its
 * statements, has written. Of other roles' sessions only who may read all statistics is shown this.
 */
export const snapshots = ({ sql }: Tables) =>
  sql<HoldingSession>`
    select pid, pg_catalog.round(extract(epoch from pg_catalog.now() - xact_start))::int as seconds, application_name as application, state
    from pg_catalog.pg_stat_activity
    where (backend_xmin is not null or backend_xid is not null) and pid <> pg_catalog.pg_backend_pid() and xact_start is not null
    order by xact_start limit 1`

/** A transaction that was prepared for a two-phase commit. */
export interface PreparedTransaction {
  readonly gid: string
  readonly database: string
  readonly seconds: number
}

/** The oldest transaction that was prepared for a two-phase commit and is neither committed nor rolled back. */
export const prepared = ({ sql }: Tables) =>
  sql<PreparedTransaction>`
    select gid, database::pg_catalog.text, pg_catalog.round(extract(epoch from pg_catalog.now() - prepared))::int as seconds
    from pg_catalog.pg_prepared_xacts order by prepared limit 1`

/** A replication slot, or a standby without one, that holds a snapshot for another server. */
export interface Replica {
  readonly slot: string | null
  readonly application: string
  readonly active: boolean
  /** How many transactions have begun since. */
  readonly age: number
}

/** The oldest of these. A slot's time is not known, only how many transactions ago. */
export const replicas = ({ sql }: Tables) =>
  sql<Replica>`
    select slot, application, active, age from (
      select slot_name::pg_catalog.text as slot, '' as application, active, pg_catalog.age(xmin) as age
      from pg_catalog.pg_replication_slots where xmin is not null
      union all
      select null, application_name, true, pg_catalog.age(backend_xmin)
      from pg_catalog.pg_stat_activity where backend_type = 'walsender' and backend_xmin is not null
    ) holding order by age desc limit 1`
