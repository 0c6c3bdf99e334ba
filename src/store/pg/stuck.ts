/**
 * Lists chunks that do not progress immediately, and why: the first of each sort, found by indexes. For operators, not for
 * scrapes.
 */
import type { Fragment } from "effect/sql/Statement"
import type { StuckChunk, StuckRequest } from "../../Inspector.ts"
import { callBefore } from "./behind.ts"
import type { Tables } from "./tables.ts"

/**
 * `held`: a worker holds it, and it has been due for more than five minutes: it takes long, or was claimed late. `expired`:
 * its lease has ended and no worker has claimed it again. Both are searched among the first thousand chunks by rank. Those
 * that failed are searched among the first scheduled chunks: a million that wait for their time would take a quarter of a
 * second.
 */
export const stuck = (t: Tables, { limit, namespace }: StuckRequest, deadBlocksKey: boolean) => {
  const { failure, queue, sql } = t
  const only = namespace === undefined ? sql`true` : sql`namespace = ${namespace}`
  const sort = (why: StuckChunk["why"], from: Fragment, condition: string, order: string) =>
    sql`select ${sql.literal(`'${why}'`)} as why, sorted.* from (
      select * from ${from} where ${sql.literal(condition)} and ${only} order by ${sql.literal(order)} limit ${limit}
    ) sorted`
  const first = sql`(select * from ${queue} where state = 'ready' order by rank, seq limit 1000) ready`
  const soon = sql`(select * from ${queue} where state = 'scheduled' order by due_at, seq limit 100000) soon`
  return sql<StuckChunk>`
    with found as materialized (
      ${sort("scheduled", soon, "attempts > 0", "due_at, seq")}
      union all
      ${sort("expired", first, "lease_until < pg_catalog.now() - interval '5 seconds'", "seq")}
      union all
      ${
    sort("held", first, "lease_until > pg_catalog.now() and due_at < pg_catalog.now() - interval '5 minutes'", "seq")
  }
      union all
      ${sort("parked", sql`${queue}`, "state = 'parked'", "namespace, schema_identity")}
      union all
      ${sort("waiting", sql`${queue}`, "state = 'waiting'", "ordering_key, namespace, seq")}
    )
    select why, call_id as "callId", namespace, schema_identity as "schemaIdentity", part, attempts, crashes,
      ordering_key as "orderingKey", parked_for as "parkedFor",
      case when why = 'scheduled' then extract(epoch from due_at - pg_catalog.now())::pg_catalog.float8 end as next,
      case when why <> 'scheduled' then greatest(0, extract(epoch from pg_catalog.now() - due_at))::pg_catalog.float8 end as due,
      leased_by as worker,
      ${callBefore(t, "found", deadBlocksKey)} as behind,
      (
        select f.message from ${failure} f
        where f.call_id = found.call_id and f.schema_identity = found.schema_identity and f.part = found.part
        order by f.id desc limit 1
      ) as error
    from found`
}
