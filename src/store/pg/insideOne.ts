/**
 * The statement of the verb `persistInside` for one chunk that becomes one row: a worker with little to do finds one at a
 * time, and somebody may wait for it. It does what the statement for many does, without matching rows to chunks, so that the
 * server starts half of the plan.
 */
import type { InsideRequest } from "../../ChunkStore.ts"
import { type Compiled, identifier, literal } from "./declared.ts"
import { givenOf, longestId, longestWait, type Options, readyOf, rowsOf, scheduledOf } from "./insideStatement.ts"
import type { Tables } from "./tables.ts"

/** Whether the statement can do what is asked. */
export const isOne = ({ limit }: InsideRequest, { elements }: Compiled): boolean => limit === 1 && elements === ""

/**
 * Its row is that of the statement for many. It locks the second chunk as well, to know whether there is one: the drain asks
 * again at once if so. If a trigger keeps the row from being written, `exact` fails.
 */
export const persistOne = (t: Tables, request: InsideRequest, compiled: Compiled, options: Options) => {
  const { callSubscription, ledger, queue, sql } = t
  const { declaration, handler, handlerVersion, kind } = request
  const { columns, id, onConflict, table } = compiled
  const text = sql.literal
  return rowsOf(sql`
    with limited as materialized (
      select pg_catalog.set_config('lock_timeout', ${longestWait}, true) as wait
    ), ${readyOf(t, request, options, 2)}, first as materialized (
      select * from ready order by rank, seq limit 1
    ), answer as materialized (
      ${givenOf(t, request, sql`select 1 as n, * from first where mine`)}
    ), written as (
      insert into ${text(table)} (${
    text(columns.map(({ name }) => identifier(name)).join(", "))
  }) overriding system value
      select ${text(columns.map(({ value }) => value).join(", "))} from answer g
      ${text(onConflict)}
      returning ${text(identifier(id))}::pg_catalog.text as id
    ), gone as (
      delete from ${queue} where seq = any(array(select seq from answer)) returning 1
    ), kept as (
      insert into ${ledger} (
        seq, call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects
      )
      select seq, call_id, ${kind.schemaIdentity}, part, namespace, ${kind.version}::int, ${handler},
        ${handlerVersion}::int, pg_catalog.jsonb_build_array(
          pg_catalog.jsonb_build_object('type', ${text(literal(declaration.object))}::pg_catalog.text, 'id', id)
        )
      from answer cross join written
    )
    select pg_catalog.json_build_array(
        extract(epoch from pg_catalog.now()) * 1000.0,
        case when e.ended then first.rank - interval '1 second' else first.rank end,
        case when e.ended then '0' else first.seq::pg_catalog.text end,
        e.ended,
        case when a.seq is null and first.seq is not null then pg_catalog.json_build_array(
          first.namespace, first.schema_identity, first.schema_version, first.fingerprint, first.plain
        ) end,
        exists (select from ${scheduledOf(t, request)} due where e.ended or due.rank <= first.rank),
        exists (select from ${callSubscription})
      )::pg_catalog.text,
      1 / (
        (a.seq is null) = (w.id is null) and w.id is distinct from ''
        and (select pg_catalog.count(*) from gone) = (select pg_catalog.count(*) from written)
        and coalesce(pg_catalog.octet_length(w.id), 0) <= ${text(String(longestId))}
      )::int,
      case when a.seq is not null then pg_catalog.json_build_array(
        pg_catalog.json_build_array(a.call_id), pg_catalog.json_build_array(w.id),
        pg_catalog.json_build_array((pg_catalog.date_part('epoch', a.recorded_at) * 1000)::bigint),
        pg_catalog.json_build_array(a.service), pg_catalog.json_build_array(a.part),
        pg_catalog.json_build_array(a.namespace), pg_catalog.json_build_array(a.correlation_id),
        pg_catalog.json_build_array(coalesce(a.told, '{}')::pg_catalog.json)
      )::pg_catalog.text end
    from (select pg_catalog.count(*) < 2 as ended from ready) e
    left join first on true
    left join answer a on true
    left join written w on true`)
}
