/**
 * Phase 1 in one statement: the call, and a queue row for each output, or neither.
 */
import * as DateTime from "effect/DateTime"
import type { ServiceCall } from "../../ServiceCall.ts"
import type { Tables } from "./tables.ts"

/** One text for all calls: a single parameter, a single plan, whatever their number. */
export const toJson = (calls: ReadonlyArray<ServiceCall>): string =>
  JSON.stringify(calls.map((call, n) => ({
    n,
    call_id: call.callId,
    namespace: call.namespace,
    service: call.service,
    correlation_id: call.correlationId ?? call.callId,
    context: call.context ?? {},
    input: call.input,
    details: call.details,
    trace: call.trace,
    ordering_key: call.orderingKey,
    priority: call.orderingKey === undefined ? call.priority ?? 0 : 0,
    not_before: call.notBefore && DateTime.formatIso(call.notBefore),
    started_at: call.startedAt && DateTime.formatIso(call.startedAt),
    finished_at: call.finishedAt && DateTime.formatIso(call.finishedAt),
    outputs: call.outputs,
    chunks: call.outputs.map((output) => ({
      schema: output.schema,
      version: output.version,
      part: output.part ?? "",
      bytes: Buffer.byteLength(JSON.stringify(output.data))
    }))
  })))

const given = `
  select * from json_to_recordset($json) as g(
    n int, call_id text, namespace text, service text, correlation_id text, context jsonb, input jsonb, details jsonb,
    trace jsonb, ordering_key text, priority int, not_before timestamptz, started_at timestamptz,
    finished_at timestamptz, outputs jsonb, chunks json
  )`

const [givenBefore, givenAfter] = given.split("$json") as [string, string]

/**
 * Records calls of different ids. A call that is there and has not succeeded (it was begun) is completed; one that has
 * succeeded is left as it is, and so are its chunks. Answers with the ids that were recorded.
 */
export const record = ({ call, queue, sql }: Tables, json: string) =>
  sql<{ call_id: string }>`
    with given as materialized (
      ${sql.literal(givenBefore)}${json}::json${sql.literal(givenAfter)}
    ), recorded as (
      insert into ${call} as c (
        call_id, namespace, service, correlation_id, status, context, input, details, trace, outputs, ordering_key,
        priority, not_before, started_at, finished_at
      )
      select call_id, namespace, service, correlation_id, 'succeeded', context, input, details, trace, outputs,
        ordering_key, priority, not_before, started_at, coalesce(finished_at, now())
      from given order by n
      on conflict (call_id) do update set
        namespace = excluded.namespace, service = excluded.service, correlation_id = excluded.correlation_id,
        status = 'succeeded', context = excluded.context, input = excluded.input, details = excluded.details,
        trace = excluded.trace, outputs = excluded.outputs, error = null, ordering_key = excluded.ordering_key,
        priority = excluded.priority, not_before = excluded.not_before, run_token = null, run_until = null,
        started_at = excluded.started_at, finished_at = excluded.finished_at, recorded_at = now()
      where c.status <> 'succeeded'
      returning call_id
    ), queued as (
      -- rows get their seq in this order: that is the order of recording
      insert into ${queue} (
        state, priority, due_at, rank, schema_version, position, bytes, namespace, schema_identity, call_id, part,
        ordering_key
      )
      select case when g.not_before > now() then 'scheduled' else 'ready' end,
        g.priority, due.at, due.at - g.priority * interval '1 minute',
        (o.chunk ->> 'version')::int, o.position - 1, (o.chunk ->> 'bytes')::int,
        g.namespace, o.chunk ->> 'schema', g.call_id, o.chunk ->> 'part', g.ordering_key
      from given g
      join recorded using (call_id)
      cross join lateral json_array_elements(g.chunks) with ordinality as o(chunk, position)
      cross join lateral (select greatest(now(), g.not_before) as at) due
      order by g.n, o.position
    )
    select call_id from recorded`

/**
 * Of calls that were not recorded because they are there: whether they are the same. Times, details and trace may
 * differ; input and result that were pruned can no longer be compared and count as the same.
 */
export const compare = ({ call, sql }: Tables, json: string) =>
  sql<{ call_id: string; same: boolean }>`
    with given as (
      ${sql.literal(givenBefore)}${json}::json${sql.literal(givenAfter)}
    )
    select c.call_id, c.namespace = g.namespace and c.service = g.service and c.context = g.context
      and c.ordering_key is not distinct from g.ordering_key
      and (c.outputs is null or (c.outputs = g.outputs and c.input is not distinct from g.input)) as same
    from given g join ${call} c using (call_id)`
