/**
 * Finds calls none of whose chunks is in the queue, in the ledger or among the dead letters. They are what a restore without
 * the rows of such a table leaves, or a deletion by hand; and also the pruning of a call's discarded dead letters.
 */
import type { Tables } from "./tables.ts"

/** What was found among the calls that were examined. */
export interface Unaccounted {
  readonly examined: number
  readonly count: number
  /** One of them. */
  readonly callId: string | null
}

/**
 * Examines the oldest and the newest thousand calls whose outputs are not pruned, by an index. That is sound while workers
 * run: chunks move between the tables in one commit, and a statement sees one snapshot.
 */
export const unaccounted = ({ call, dead, ledger, queue, sql }: Tables) =>
  sql<Unaccounted>`
    with examined as materialized (
      (select call_id from ${call} where outputs is not null order by recorded_at limit 1000)
      union
      (select call_id from ${call} where outputs is not null order by recorded_at desc limit 1000)
    ), missing as (
      select call_id from examined e
      where not exists (select from ${queue} q where q.call_id = e.call_id)
        and not exists (select from ${ledger} l where l.call_id = e.call_id)
        and not exists (select from ${dead} d where d.call_id = e.call_id)
    )
    select (select pg_catalog.count(*)::int from examined) as examined, pg_catalog.count(*)::int as count,
      pg_catalog.min(call_id) as "callId"
    from missing`
