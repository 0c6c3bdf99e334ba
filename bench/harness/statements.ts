/**
 * What a server's statements cost, by `pg_stat_statements`.
 */
import type { Sql } from "./database.ts"
import type { Figures } from "./rounds.ts"

/** The setting of a server whose statements are counted. */
export const countingStatements = { shared_preload_libraries: "pg_stat_statements" }

/** The same, with the time for planning measured separately. */
export const timingPlans = { ...countingStatements, "pg_stat_statements.track_planning": "on" }

/** Milliseconds the server spent on Sluice's claims and on the ends of its batches, in this database. */
export const spent = async (sql: Sql): Promise<{ readonly claim: number; readonly settle: number }> => {
  const [row] = await sql<{ claim: number; settle: number }>(`
    select
      coalesce(sum(total_exec_time) filter (where query like '%skip locked%' and query like '%lease_until =%'), 0)
        as claim,
      coalesce(sum(total_exec_time) filter (where query like '%delete from%' and query like '%persisted_chunk%'), 0)
        as settle
    from pg_stat_statements
    where dbid = (select oid from pg_database where datname = current_database()) and query like '%chunk_queue%'`)
  return { claim: row?.claim ?? Number.NaN, settle: row?.settle ?? Number.NaN }
}

/** What each kind of statement of a drain took, in microseconds of the server's time, since the last reset. */
export const byKind = async (sql: Sql): Promise<Figures> => {
  const rows = await sql<{ kind: string; micros: number }>(`
    select case
        when query like '%insert into bench.message%' and query not like '%limit_ledger%' then 'rows'
        when query like '%skip locked%' then 'claim'
        when query like '%persisted_chunk%' or query like '%limit_ledger%' then 'settle'
        else 'others'
      end as kind,
      sum(total_exec_time + total_plan_time) * 1000 as micros
    from pg_stat_statements
    where dbid = (select oid from pg_database where datname = current_database())
    group by 1`)
  return Object.fromEntries(rows.map(({ kind, micros }) => [kind, micros]))
}

/**
 * How many statements and transactions a database has received so far. Statements that begin and end transactions are among
 * them. If they are prepared, the server counts only the first of each, so transactions are counted separately.
 */
export const givenTo = async (
  sql: Sql,
  database: string
): Promise<{ readonly statements: number; readonly transactions: number }> => {
  const [row] = await sql<{ statements: number; transactions: number }>(
    `select coalesce((select sum(calls) from pg_stat_statements where dbid = d.datid), 0)::float8 as statements,
       (d.xact_commit + d.xact_rollback)::float8 as transactions
     from pg_stat_database d where d.datname = $1`,
    [database]
  )
  return row ?? { statements: 0, transactions: 0 }
}
