/**
 * Counts chunks by kind. Reads the whole queue and counts the ledger, so it is for operators, not for scrapes.
 */
import { KindStatus } from "../../CallView.ts"
import { iso, readRows } from "./json.ts"
import type { Tables } from "./tables.ts"

/** The number of chunks of each kind in each state. */
export const status = ({ dead, ledger, queue, sql }: Tables) =>
  readRows(KindStatus)(sql<{ row: unknown }>`
    with counted as (
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
      select namespace, schema_identity, 0, 0, 0, 0, 0, 0, 0, pg_catalog.count(*), null, null from ${ledger} group by 1, 2
    )
    select pg_catalog.json_build_object(
      'namespace', namespace, 'schemaIdentity', schema_identity,
      'ready', pg_catalog.sum(ready), 'due', pg_catalog.sum(ready) + pg_catalog.sum(scheduled_due),
      'inFlight', pg_catalog.sum(in_flight), 'scheduled', pg_catalog.sum(scheduled), 'waiting', pg_catalog.sum(waiting), 'parked', pg_catalog.sum(parked),
      'dead', pg_catalog.sum(dead), 'persisted', pg_catalog.sum(persisted), 'newestVersion', pg_catalog.max(newest), 'oldest', ${
    sql.literal(iso("pg_catalog.min(oldest)"))
  }
    ) as row
    from counted group by namespace, schema_identity order by namespace, schema_identity`)
