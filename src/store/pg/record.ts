/**
 * Phase 1: calls and a queue row for each of their outputs, or neither.
 */
import * as DateTime from "effect/DateTime"
import { type Recorded, recorded, textOf } from "../../internal/recorded.ts"
import type { CallSpec, ServiceCall } from "../../ServiceCall.ts"
import type { Tables } from "./tables.ts"

// In an array of texts an absent value is the empty text: none of these columns can hold it, and an array of nothing but
// nulls has no type.
const timeOf = (time: DateTime.Utc | undefined): string => time === undefined ? "" : DateTime.formatIso(time)

const priorityOf = (call: CallSpec): number => call.orderingKey === undefined ? call.priority ?? 0 : 0

/** A call with its JSON as text. */
export interface Given {
  readonly call: ServiceCall
  readonly text: Recorded
}

/** A call as the statements below take it. */
export const given = (call: ServiceCall): Given => ({ call, text: recorded(call) })

/**
 * What is known of a call before its service has run, as arrays for `unnest`: call_id, namespace, service, correlation_id,
 * context, input, ordering_key.
 */
export const columns = ({ sql }: Tables, calls: ReadonlyArray<Given>) =>
  sql`
        ${calls.map(({ call }) => call.callId)}::text[],
        ${calls.map(({ call }) => call.namespace)}::text[],
        ${calls.map(({ call }) => call.service)}::text[],
        ${calls.map(({ call }) => call.correlationId ?? call.callId)}::text[],
        ${calls.map(({ text }) => text.context)}::text[],
        ${calls.map(({ text }) => text.input)}::text[],
        ${calls.map(({ call }) => call.orderingKey ?? "")}::text[]`

/**
 * Records calls of different ids. A call that is there and has not succeeded (it was begun) is completed; one that has
 * succeeded is left as it is, and so are its chunks. Answers with the ids that were recorded.
 *
 * Columns are given as arrays, so that the statement is one whatever their number, and JSON as it is: the server only
 * looks whether it is JSON. Calls are written in the order of their ids, so that two that write the same ones cannot wait
 * for each other; chunks get their `seq` in the order given, which is the order of recording.
 */
export const record = (t: Tables, calls: ReadonlyArray<Given>) => {
  const { call, queue, sql } = t
  const chunks = calls.flatMap(({ call: { outputs }, text: { bytes } }, index) =>
    outputs.map(({ part = "", schema, version }, position) => ({
      n: index + 1,
      position,
      schema,
      version,
      part,
      bytes: bytes[position] ?? 0
    }))
  )
  return sql<{ call_id: string }>`
    with given as materialized (
      select * from unnest(${columns(t, calls)},
        ${calls.map((one) => textOf(one.call.details))}::text[],
        ${calls.map((one) => textOf(one.call.trace))}::text[],
        ${calls.map((one) => one.text.outputs)}::text[],
        ${calls.map((one) => one.call.outputs.length)}::int[],
        ${calls.map((one) => priorityOf(one.call))}::int[],
        ${calls.map((one) => timeOf(one.call.notBefore))}::text[],
        ${calls.map((one) => timeOf(one.call.startedAt))}::text[],
        ${calls.map((one) => timeOf(one.call.finishedAt))}::text[]
      ) with ordinality as g(
        call_id, namespace, service, correlation_id, context, input, ordering_key, details, trace, outputs, output_count,
        priority, not_before, started_at, finished_at, n
      )
    ), recorded as (
      insert into ${call} as c (
        call_id, namespace, service, correlation_id, status, context, input, details, trace, outputs, output_count,
        ordering_key, priority, not_before, started_at, finished_at
      )
      select call_id, namespace, service, correlation_id, 'succeeded', context::json, nullif(input, '')::json,
        nullif(details, '')::json, nullif(trace, '')::json, outputs::json, output_count, nullif(ordering_key, ''), priority,
        nullif(not_before, '')::timestamptz, nullif(started_at, '')::timestamptz,
        coalesce(nullif(finished_at, '')::timestamptz, now())
      from given order by call_id collate "C"
      on conflict (call_id) do update set
        namespace = excluded.namespace, service = excluded.service, correlation_id = excluded.correlation_id,
        status = 'succeeded', context = excluded.context, input = excluded.input, details = excluded.details,
        trace = excluded.trace, outputs = excluded.outputs, output_count = excluded.output_count, error = null,
        ordering_key = excluded.ordering_key, priority = excluded.priority, not_before = excluded.not_before,
        run_token = null, run_until = null, started_at = excluded.started_at, finished_at = excluded.finished_at,
        recorded_at = now()
      where c.status <> 'succeeded'
      returning call_id
    ), queued as (
      insert into ${queue} (
        state, priority, due_at, rank, schema_version, position, bytes, namespace, schema_identity, call_id, part,
        ordering_key
      )
      select case when due.at > now() then 'scheduled' else 'ready' end,
        g.priority, due.at, due.at - g.priority * interval '1 minute',
        o.version, o.position, o.bytes, g.namespace, o.schema, g.call_id, o.part, nullif(g.ordering_key, '')
      from unnest(
        ${chunks.map((chunk) => chunk.n)}::int[], ${chunks.map((chunk) => chunk.position)}::int[],
        ${chunks.map((chunk) => chunk.schema)}::text[], ${chunks.map((chunk) => chunk.version)}::int[],
        ${chunks.map((chunk) => chunk.part)}::text[], ${chunks.map((chunk) => chunk.bytes)}::int[]
      ) as o(n, position, schema, version, part, bytes)
      join given g using (n)
      join recorded using (call_id)
      cross join lateral (select greatest(now(), nullif(g.not_before, '')::timestamptz) as at) due
      order by o.n, o.position
    )
    select call_id from recorded`
}

/**
 * Of calls that were not recorded because they are there: whether they are the same. Times, details, trace, correlation
 * id and priority may differ; input and result that were pruned can no longer be compared and count as the same.
 */
export const compare = (t: Tables, calls: ReadonlyArray<Given>) => {
  const { call, sql } = t
  return sql<{ call_id: string; same: boolean }>`
    select c.call_id, c.namespace = g.namespace and c.service = g.service and c.context::jsonb = g.context::jsonb
      and c.ordering_key is not distinct from nullif(g.ordering_key, '')
      and (
        c.outputs is null
        or (c.outputs::jsonb = g.outputs::jsonb and c.input::jsonb is not distinct from nullif(g.input, '')::jsonb)
      ) as same
    from unnest(${columns(t, calls)},
        ${calls.map((one) => one.text.outputs)}::text[]
      ) as g(call_id, namespace, service, correlation_id, context, input, ordering_key, outputs)
    join ${call} c using (call_id)`
}
