/**
 * What people ask.
 */
import type { ChunkKey } from "../../ServiceCall.ts"
import { iso, objects } from "./json.ts"
import type { Tables } from "./tables.ts"

const ledgerEntry = (row: string) => `
  json_build_object(
    'key', json_build_object('callId', ${row}.call_id, 'schemaIdentity', ${row}.schema_identity, 'part', ${row}.part),
    'namespace', ${row}.namespace, 'schemaVersion', ${row}.schema_version, 'handler', ${row}.handler,
    'handlerVersion', ${row}.handler_version, 'objects', ${objects(`${row}.objects`)}, 'persistedAt', ${
  iso(`${row}.persisted_at`)
}
  )`

/** The ledger rows of these keys. */
export const ledger = ({ ledger, sql }: Tables, keys: ReadonlyArray<ChunkKey>) =>
  sql<{ entry: unknown }>`
    select ${sql.literal(ledgerEntry("l"))} as entry
    from unnest(
      ${keys.map((key) => key.callId)}::text[],
      ${keys.map((key) => key.schemaIdentity)}::text[],
      ${keys.map((key) => key.part)}::text[]
    ) k(call_id, schema_identity, part)
    join ${ledger} l using (call_id, schema_identity, part)`

/** A call and what became of each of its chunks, as one JSON value of the port's `CallView`. */
export const call = (
  { call, dead, failure, ledger, queue, sql }: Tables,
  callId: string,
  deadBlocksKey: boolean
) =>
  sql<{ view: unknown }>`
    with chunk as (
      select call_id, schema_identity, part, namespace, schema_version, attempts, crashes, seq, ordering_key,
        case when lease_until > now() then 'in-flight' when state = 'ready' then 'pending' else state end as state,
        case when state in ('ready', 'scheduled') then due_at end as due_at,
        case when lease_until > now() then lease_until end as leased_until,
        case when lease_until > now() then leased_by end as leased_by, parked_for, null::json as death,
        (
          select call_id from (
            select call_id, seq from ${queue} o
            where o.ordering_key = q.ordering_key and o.namespace = q.namespace and o.seq < q.seq
            union all
            select call_id, seq from ${dead} d
            where d.ordering_key = q.ordering_key and d.namespace = q.namespace and d.seq < q.seq
              and d.discarded_at is null and ${deadBlocksKey}
          ) older order by seq limit 1
        ) as behind
      from ${queue} q where call_id = ${callId}
      union all
      select call_id, schema_identity, part, namespace, schema_version, attempts, crashes, seq, ordering_key,
        case when discarded_at is null then 'dead' else 'discarded' end, null, null, null, null,
        json_build_object('reason', reason, 'message', message, 'at', ${sql.literal(iso("died_at"))}), null
      from ${dead} where call_id = ${callId}
      union all
      select call_id, schema_identity, part, namespace, schema_version, 0, 0, seq,
        (select ordering_key from ${call} c where c.call_id = l.call_id),
        case when objects = '[]' then 'nothing-to-create' else 'persisted' end, null, null, null, null, null, null
      from ${ledger} l where call_id = ${callId}
        -- a chunk redriven after it was persisted is in both: what it is doing now comes first
        and not exists (select from ${queue} q where q.call_id = l.call_id
          and q.schema_identity = l.schema_identity and q.part = l.part)
        and not exists (select from ${dead} d where d.call_id = l.call_id
          and d.schema_identity = l.schema_identity and d.part = l.part)
    )
    select json_build_object(
      'callId', c.call_id, 'namespace', c.namespace, 'service', c.service, 'correlationId', c.correlation_id,
      'status', c.status, 'error', c.error,
      'recordedAt', ${sql.literal(iso("c.recorded_at"))}, 'finishedAt', ${sql.literal(iso("c.finished_at"))},
      'context', case when json_typeof(c.context) = 'object' then c.context else '{}' end,
      'trace', case when c.trace ->> 'traceId' is not null and c.trace ->> 'spanId' is not null then
        json_build_object('traceId', c.trace ->> 'traceId', 'spanId', c.trace ->> 'spanId') end,
      'outputs', array_to_json(c.outputs),
      'chunks', coalesce((
        select json_agg(json_build_object(
          'key', json_build_object('callId', k.call_id, 'schemaIdentity', k.schema_identity, 'part', k.part),
          'namespace', k.namespace, 'schemaVersion', k.schema_version, 'state', k.state, 'attempts', k.attempts,
          'crashes', k.crashes, 'dueAt', ${sql.literal(iso("k.due_at"))},
          'leasedUntil', ${sql.literal(iso("k.leased_until"))}, 'leasedBy', k.leased_by, 'parkedFor', k.parked_for,
          'orderingKey', k.ordering_key, 'behind', k.behind, 'death', k.death,
          'failures', coalesce((
            select json_agg(json_build_object(
              'at', ${sql.literal(iso("f.at"))}, 'attempt', f.attempt, 'handler', f.handler, 'kind', f.kind,
              'message', f.message
            ) order by f.id)
            from ${failure} f
            where f.call_id = k.call_id and f.schema_identity = k.schema_identity and f.part = k.part
          ), '[]'),
          'ledger', (
            select ${sql.literal(ledgerEntry("l"))} from ${ledger} l
            where l.call_id = k.call_id and l.schema_identity = k.schema_identity and l.part = k.part
          )
        ) order by k.seq)
        from chunk k
      ), '[]')
    ) as view
    from ${call} c where c.call_id = ${callId}`

/** Counts by kind. */
export const status = ({ dead, ledger, queue, sql }: Tables) =>
  sql<{ row: unknown }>`
    with counted as (
      select namespace, schema_identity,
        count(*) filter (where state = 'ready' and lease_until is not null and lease_until > now()) as in_flight,
        count(*) filter (where state = 'ready' and (lease_until is null or lease_until <= now())) as ready,
        count(*) filter (where state = 'scheduled') as scheduled,
        count(*) filter (where state = 'scheduled' and due_at <= now()) as scheduled_due,
        count(*) filter (where state = 'scheduled' and attempts > 0) as retrying,
        count(*) filter (where state = 'waiting') as waiting,
        count(*) filter (where state = 'parked') as parked,
        0::bigint as dead, 0::bigint as persisted, min(recorded_at) as oldest
      from ${queue} group by 1, 2
      union all
      select namespace, schema_identity, 0, 0, 0, 0, 0, 0, 0, count(*), 0, null
      from ${dead} where discarded_at is null group by 1, 2
      union all
      select namespace, schema_identity, 0, 0, 0, 0, 0, 0, 0, 0, count(*), null from ${ledger} group by 1, 2
    )
    select json_build_object(
      'namespace', namespace, 'schemaIdentity', schema_identity,
      'pending', sum(ready) + sum(scheduled) - sum(retrying), 'due', sum(ready) + sum(scheduled_due),
      'inFlight', sum(in_flight), 'retrying', sum(retrying), 'waiting', sum(waiting), 'parked', sum(parked),
      'dead', sum(dead), 'persisted', sum(persisted), 'oldest', ${sql.literal(iso("min(oldest)"))}
    ) as row
    from counted group by namespace, schema_identity order by namespace, schema_identity`

/**
 * When something may be claimed next. Leases are looked for among the first thousand only: the rest ends no earlier than
 * a worker would poll.
 */
export const nextDue = ({ queue, sql }: Tables) =>
  sql<{ at: Date | null }>`
    select least(
      (select min(coalesce(lease_until, now())) from (
        select lease_until from ${queue} where state = 'ready' order by rank, seq limit 1000
      ) first),
      (select due_at from ${queue} where state = 'scheduled' order by due_at, seq limit 1)
    ) as at`
