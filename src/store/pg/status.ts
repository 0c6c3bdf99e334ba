/**
 * Counts chunks by kind. Of the queue it counts the first chunks of each state; if a state has more, it estimates their
 * number from a sample of pages. Of the ledger it reads only what is not counted yet.
 */
import * as Effect from "effect/Effect"
import type { Fragment } from "effect/sql/Statement"
import { KindStatus } from "../../CallView.ts"
import { mostExact } from "../../Inspector.ts"
import { iso, readRows } from "./json.ts"
import { linesAfter, mostAfter, place } from "./ledgerTotals.ts"
import type { Tables } from "./tables.ts"

/** The pages of the sample. Each has about twenty chunks. */
const sampledPages = 1000
/** The size of a page, in bytes. */
const page = 8192

/** The columns of a chunk that are counted; `state` is `in-flight` while a worker holds it. */
const chunk = `namespace, schema_identity, schema_version, recorded_at, due_at,
        case when state = 'ready' and lease_until > pg_catalog.now() then 'in-flight' else state end as state`

/** The counts of chunks, by kind and state. */
const counts = `namespace, schema_identity, state, pg_catalog.count(*)::pg_catalog.numeric as chunks,
        pg_catalog.count(*) filter (where state = 'ready' or (state = 'scheduled' and due_at <= pg_catalog.now()))::pg_catalog.numeric
          as due,
        pg_catalog.min(recorded_at) as oldest, pg_catalog.max(schema_version) as newest`

/** Counts all chunks of the queue, by kind and state. */
const all = ({ queue, sql }: Tables) =>
  sql`outstanding as materialized (
      select ${sql.literal(counts)}, false as about from (select ${
    sql.literal(chunk)
  } from ${queue}) chunk group by 1, 2, 3
    )`

/**
 * The same with estimates for a state of more than {@link mostExact} chunks. Each list is read in the order of an index.
 * Workers hold the first chunks by rank, so those in flight are among the first and are never estimated.
 */
const about = ({ queue, schema, sql }: Tables) => {
  const first = (state: string, order: string) =>
    sql.literal(`(
        select ${chunk} from ${schema}.chunk_queue where state = '${state}' order by ${order} limit ${mostExact + 1}
      )`)
  // the same type on both sides of each operator: for two types, an operator that others created may be a closer match
  const share = sql`least(1, ${sampledPages * page}::pg_catalog.float8 / greatest(1, pg_catalog.pg_relation_size(
        ${`${schema}.chunk_queue`}::pg_catalog.regclass
      ))::pg_catalog.float8)`
  return sql`first as materialized (
      ${first("ready", "rank, seq")} union all ${first("scheduled", "due_at, seq")}
      union all ${first("waiting", "ordering_key, namespace, seq")}
      union all ${first("parked", "namespace, schema_identity, parked_for, schema_version")}
    ), many as materialized (
      select case when state = 'in-flight' then 'ready' else state end as state from first
      group by 1 having pg_catalog.count(*) > ${mostExact}
    ), sampled as materialized (
      select ${sql.literal(chunk)} from ${queue} tablesample system (100::pg_catalog.float8 * ${share})
      where exists (select from many) and state in (select state from many)
    ), outstanding as materialized (
      -- an estimate is never below what was counted
      select namespace, schema_identity, state, pg_catalog.max(chunks) as chunks, pg_catalog.max(due) as due,
        pg_catalog.min(oldest) as oldest, pg_catalog.max(newest) as newest, state in (select state from many) as about
      from (
        select ${sql.literal(counts)} from first group by 1, 2, 3
        union all
        select namespace, schema_identity, state, pg_catalog.round(chunks / ${share}::pg_catalog.numeric),
          pg_catalog.round(due / ${share}::pg_catalog.numeric), oldest, newest
        from (select ${sql.literal(counts)} from sampled where state <> 'in-flight' group by 1, 2, 3) sample
      ) figure group by 1, 2, 3
    )`
}

const statement = (t: Tables, outstanding: Fragment, most: number | undefined) => {
  const { dead, ledgerTotal, sql } = t
  const sum = (of: string) => sql.literal(`coalesce(pg_catalog.sum(chunks) filter (where state = '${of}'), 0)`)
  return sql<{ row: unknown; after: number }>`
    with ${outstanding}, place as materialized (select * from ${place(t)} place),
    after as materialized (
      select namespace, schema_identity, pg_catalog.count(*) as persisted
      from place cross join lateral ${linesAfter(t, "place", most)} line group by 1, 2
    ), counted as (
      select namespace, schema_identity, state, chunks, due, oldest, newest, about from outstanding
      union all
      select namespace, schema_identity, 'dead', pg_catalog.count(*), 0, null, null, false
      from ${dead} where discarded_at is null group by 1, 2
      union all
      select namespace, schema_identity, 'persisted', persisted, 0, null, null, false from after
      union all
      select namespace, schema_identity, 'persisted', chunks, 0, null, null, false from ${ledgerTotal}
      where (select counted from place)
    )
    select pg_catalog.json_build_object(
      'namespace', namespace, 'schemaIdentity', schema_identity,
      'ready', ${sum("ready")}, 'due', pg_catalog.sum(due), 'inFlight', ${sum("in-flight")},
      'scheduled', ${sum("scheduled")}, 'waiting', ${sum("waiting")}, 'parked', ${sum("parked")},
      'dead', ${sum("dead")}, 'persisted', ${sum("persisted")}, 'newestVersion', pg_catalog.max(newest),
      'oldest', ${sql.literal(iso("pg_catalog.min(oldest)"))}, 'about', pg_catalog.bool_or(about)
    ) as row, (select pg_catalog.sum(persisted) from after)::pg_catalog.float8 as after
    from counted group by namespace, schema_identity order by namespace, schema_identity`
}

/** The number of chunks of each kind in each state. `exact`: counts all chunks of the queue. */
export const status = (t: Tables, exact: boolean) => {
  const outstanding = (exact ? all : about)(t)
  return readRows(KindStatus)(
    Effect.flatMap(
      statement(t, outstanding, mostAfter),
      (rows) => (rows[0]?.after ?? 0) < mostAfter ? Effect.succeed(rows) : statement(t, outstanding, undefined)
    )
  )
}
