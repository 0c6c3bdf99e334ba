/**
 * Counts chunks by kind. Reads the whole queue, so it is for operators, not for scrapes; of the ledger only what is not counted
 * yet.
 */
import * as Effect from "effect/Effect"
import { KindStatus } from "../../CallView.ts"
import { iso, readRows } from "./json.ts"
import { linesAfter, mostAfter, place } from "./ledgerTotals.ts"
import type { Tables } from "./tables.ts"

const counts = (t: Tables, most: number | undefined) => {
  const { dead, ledgerTotal, queue, sql } = t
  return sql<{ row: unknown; after: number }>`
    with place as materialized (select * from ${place(t)} place),
    after as materialized (
      select namespace, schema_identity, pg_catalog.count(*) as persisted
      from place cross join lateral ${linesAfter(t, "place", most)} line group by 1, 2
    ), counted as (
      select namespace, schema_identity,
        pg_catalog.count(*) filter (where state = 'ready' and lease_until is not null and lease_until > pg_catalog.now()) as in_flight,
        pg_catalog.count(*) filter (where state = 'ready' and (lease_until is null or lease_until <= pg_catalog.now())) as ready,
        pg_catalog.count(*) filter (where state = 'scheduled') as scheduled,
        pg_catalog.count(*) filter (where state = 'scheduled' and due_at <= pg_catalog.now()) as scheduled_due,
        pg_catalog.count(*) filter (where state = 'waiting') as waiting,
        pg_catalog.count(*) filter (where state = 'parked') as parked,
        0::bigint as dead, 0::bigint as persisted, pg_catalog.min(recorded_at) as oldest, pg_catalog.max(schema_version) as newest
      from ${queue} group by 1, 2
      union all
      select namespace, schema_identity, 0, 0, 0, 0, 0, 0, pg_catalog.count(*), 0, null, null
      from ${dead} where discarded_at is null group by 1, 2
      union all
      select namespace, schema_identity, 0, 0, 0, 0, 0, 0, 0, persisted, null, null from after
      union all
      select namespace, schema_identity, 0, 0, 0, 0, 0, 0, 0, chunks, null, null from ${ledgerTotal}
      where (select counted from place)
    )
    select pg_catalog.json_build_object(
      'namespace', namespace, 'schemaIdentity', schema_identity,
      'ready', pg_catalog.sum(ready), 'due', pg_catalog.sum(ready) + pg_catalog.sum(scheduled_due),
      'inFlight', pg_catalog.sum(in_flight), 'scheduled', pg_catalog.sum(scheduled), 'waiting', pg_catalog.sum(waiting), 'parked', pg_catalog.sum(parked),
      'dead', pg_catalog.sum(dead), 'persisted', pg_catalog.sum(persisted), 'newestVersion', pg_catalog.max(newest), 'oldest', ${
    sql.literal(iso("pg_catalog.min(oldest)"))
  }
    ) as row, (select pg_catalog.sum(persisted) from after)::pg_catalog.float8 as after
    from counted group by namespace, schema_identity order by namespace, schema_identity`
}

/** The number of chunks of each kind in each state. */
export const status = (t: Tables) =>
  readRows(KindStatus)(
    Effect.flatMap(
      counts(t, mostAfter),
      (rows) => (rows[0]?.after ?? 0) < mostAfter ? Effect.succeed(rows) : counts(t, undefined)
    )
  )
