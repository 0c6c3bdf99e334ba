/**
 * The doctor's queries of the server's catalogs. They do not read Sluice's tables.
 */
import type { Session } from "./session.ts"
import type { Tables } from "./tables.ts"

/** Basic facts from the catalogs. */
export interface Vitals {
  readonly clockMillis: number
  readonly tables: boolean
  /** Whether this role sees other roles' sessions. */
  readonly seesAll: boolean
}

/**
 * The server's clock, and whether Sluice's tables exist. Queries the catalog, because this role may lack rights on the
 * schema.
 */
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

/** The indexes of the schema by name, and whether each is valid. */
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

/** The share of dead rows in the queue, when it was last vacuumed, and the sizes of table and indexes. */
export const vacuum = ({ sql }: Tables, schema: string) =>
  sql<Vacuum>`
    select n_live_tup::int as live, n_dead_tup::int as dead,
      pg_catalog.round(extract(epoch from pg_catalog.now() - greatest(last_autovacuum, last_vacuum)))::int as last,
      pg_catalog.pg_relation_size(relid)::pg_catalog.float8 as heap, pg_catalog.pg_indexes_size(relid)::pg_catalog.float8 as indexes
    from pg_catalog.pg_stat_user_tables where schemaname = ${schema} and relname = 'chunk_queue'`

/** A session that holds a snapshot, or whose open transaction has written. */
export interface HoldingSession {
  readonly pid: number
  readonly seconds: number
  readonly application: string
  readonly state: string
}

/**
 * The oldest transaction that keeps vacuum from cleaning, with its session. It has a snapshot, or is idle between statements
 * after it has written. Other roles' sessions are visible only to roles that may read all statistics.
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

/** The oldest prepared transaction that is neither committed nor rolled back. */
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

/** The oldest of these. A slot's age in time is unknown; only the number of transactions is known. */
export const replicas = ({ sql }: Tables) =>
  sql<Replica>`
    select slot, application, active, age from (
      select slot_name::pg_catalog.text as slot, '' as application, active, pg_catalog.age(xmin) as age
      from pg_catalog.pg_replication_slots where xmin is not null
      union all
      select null, application_name, true, pg_catalog.age(backend_xmin)
      from pg_catalog.pg_stat_activity where backend_type = 'walsender' and backend_xmin is not null
    ) holding order by age desc limit 1`
