/**
 * Phase 1: calls and a queue row for each of their outputs, or neither.
 */
import * as DateTime from "effect/DateTime"
import { type Recorded, recorded, textOf } from "../../internal/recorded.ts"
import type { CallSpec, ServiceCall } from "../../ServiceCall.ts"
import { type Column, rowsOf } from "./columns.ts"
import type { Tables } from "./tables.ts"

/** A call with its JSON as text. */
export interface Given {
  readonly call: ServiceCall
  readonly text: Recorded
}

/** A call as the statements below take it. */
export const given = (call: ServiceCall): Given => ({ call, text: recorded(call) })

const priorityOf = (call: CallSpec): number => call.orderingKey === undefined ? call.priority ?? 0 : 0

const orNull = (text: string): string | null => text === "" ? null : text

// what becomes of a call that is there: it is completed if it was begun, and otherwise left as it is
const completed = `
  on conflict (call_id) do update set
    namespace = excluded.namespace, service = excluded.service, correlation_id = excluded.correlation_id,
    status = 'succeeded', context = excluded.context, input = excluded.input, details = excluded.details,
    trace = excluded.trace, outputs = excluded.outputs, error = null,
    ordering_key = excluded.ordering_key, priority = excluded.priority, not_before = excluded.not_before,
    run_token = null, run_until = null, started_at = excluded.started_at, finished_at = excluded.finished_at,
    recorded_at = now()
  where c.status <> 'succeeded'`

const timeOf = (time: DateTime.Utc | undefined): string => time === undefined ? "" : DateTime.formatIso(time)

/**
 * Records one call with one output. A call that is there and has not succeeded (it was begun) is completed; one that has
 * succeeded is left as it is, and so is its chunk. Answers with a row when it was recorded.
 *
 * The same as {@link recordMany}, without arrays and joins and put together once: most calls come like this, one by one,
 * and whoever made them waits for it.
 */
export const recordOne = ({ schema, sql }: Tables) => {
  const statement = `
    with recorded as (
      insert into ${schema}.service_call as c (
        call_id, namespace, service, correlation_id, status, context, input, details, trace, outputs, ordering_key,
        priority, not_before, started_at, finished_at
      ) values (
        $1, $2, $3, $4, 'succeeded', $5, $6, $7, $8, array[$9::json], $10, $11, $12, $13, coalesce($14::timestamptz, now())
      )
      ${completed}
      returning call_id, namespace, ordering_key, priority, greatest(now(), not_before) as due_at
    )
    insert into ${schema}.chunk_queue (
      call_id, namespace, ordering_key, priority, due_at, rank, state, schema_identity, schema_version, part, bytes
    )
    select call_id, namespace, ordering_key, priority, due_at, due_at - priority * interval '1 minute',
      case when due_at > now() then 'scheduled' else 'ready' end, $15, $16, $17, $18
    from recorded
    returning call_id`
  return ({ call: one, text }: Given) => {
    const [output] = one.outputs
    return sql.unsafe<{ call_id: string }>(statement, [
      one.callId,
      one.namespace,
      one.service,
      one.correlationId ?? one.callId,
      text.context,
      orNull(text.input),
      orNull(textOf(one.details)),
      orNull(textOf(one.trace)),
      text.outputs[0],
      one.orderingKey ?? null,
      priorityOf(one),
      orNull(timeOf(one.notBefore)),
      orNull(timeOf(one.startedAt)),
      orNull(timeOf(one.finishedAt)),
      output?.schema,
      output?.version,
      output?.part ?? "",
      text.bytes[0]
    ])
  }
}

// In an array of texts an absent value is the empty text: none of these columns can hold it, and an array of nothing but
// nulls has no type.
const specColumns = (calls: ReadonlyArray<Given>): ReadonlyArray<Column> => [
  { name: "call_id", type: "text", values: calls.map(({ call }) => call.callId) },
  { name: "namespace", type: "text", values: calls.map(({ call }) => call.namespace) },
  { name: "service", type: "text", values: calls.map(({ call }) => call.service) },
  { name: "correlation_id", type: "text", values: calls.map(({ call }) => call.correlationId ?? call.callId) },
  { name: "context", type: "text", values: calls.map(({ text }) => text.context) },
  { name: "input", type: "text", values: calls.map(({ text }) => text.input) },
  { name: "ordering_key", type: "text", values: calls.map(({ call }) => call.orderingKey ?? "") }
]

/** What is known of calls before their services have run, as rows of texts. */
export const specRows = (t: Tables, calls: ReadonlyArray<Given>) => rowsOf(t, specColumns(calls))

/**
 * Records calls of different ids, as {@link recordOne} does each. Answers with the ids that were recorded.
 *
 * JSON is handed over as it is: the server only looks whether it is JSON. Calls are written in the order of their ids, so
 * that two that write the same ones cannot wait for each other; chunks get their `seq` in the order given, which is the
 * order of recording.
 */
export const recordMany = (t: Tables, calls: ReadonlyArray<Given>) => {
  const { call, queue, sql } = t
  const rows = rowsOf(t, [
    ...specColumns(calls),
    { name: "details", type: "text", values: calls.map(({ call }) => textOf(call.details)) },
    { name: "trace", type: "text", values: calls.map(({ call }) => textOf(call.trace)) },
    { name: "priority", type: "int", values: calls.map(({ call }) => priorityOf(call)) },
    { name: "not_before", type: "text", values: calls.map(({ call }) => timeOf(call.notBefore)) },
    { name: "started_at", type: "text", values: calls.map(({ call }) => timeOf(call.startedAt)) },
    { name: "finished_at", type: "text", values: calls.map(({ call }) => timeOf(call.finishedAt)) }
  ])
  const chunks = calls.flatMap(({ call, text }, index) =>
    call.outputs.map((output, position) => ({
      ...output,
      call: index + 1,
      position,
      text: text.outputs[position] ?? "",
      bytes: text.bytes[position] ?? 0
    }))
  )
  const chunkRows = rowsOf(t, [
    { name: "call", type: "int", values: chunks.map((chunk) => chunk.call) },
    { name: "position", type: "int", values: chunks.map((chunk) => chunk.position) },
    { name: "schema", type: "text", values: chunks.map((chunk) => chunk.schema) },
    { name: "version", type: "int", values: chunks.map((chunk) => chunk.version) },
    { name: "part", type: "text", values: chunks.map((chunk) => chunk.part ?? "") },
    { name: "bytes", type: "int", values: chunks.map((chunk) => chunk.bytes) },
    { name: "output", type: "text", values: chunks.map((chunk) => chunk.text) }
  ])
  return sql<{ call_id: string }>`
    with given as materialized (
      ${rows}
    ), chunk as materialized (
      ${chunkRows}
    ), recorded as (
      insert into ${call} as c (
        call_id, namespace, service, correlation_id, status, context, input, details, trace, outputs, ordering_key, priority,
        not_before, started_at, finished_at
      )
      select call_id, namespace, service, correlation_id, 'succeeded', context::json, nullif(input, '')::json,
        nullif(details, '')::json, nullif(trace, '')::json, coalesce(o.outputs, '{}'), nullif(ordering_key, ''), priority,
        nullif(not_before, '')::timestamptz, nullif(started_at, '')::timestamptz,
        coalesce(nullif(finished_at, '')::timestamptz, now())
      from given
      left join (select call, array_agg(output::json order by n) as outputs from chunk group by call) o on o.call = given.n
      order by call_id collate "C"
      ${sql.literal(completed)}
      returning call_id
    ), queued as (
      insert into ${queue} (
        state, priority, due_at, rank, schema_version, position, bytes, namespace, schema_identity, call_id, part,
        ordering_key
      )
      select case when due.at > now() then 'scheduled' else 'ready' end,
        g.priority, due.at, due.at - g.priority * interval '1 minute',
        o.version, o.position, o.bytes, g.namespace, o.schema, g.call_id, o.part, nullif(g.ordering_key, '')
      from chunk o
      join given g on g.n = o.call
      join recorded using (call_id)
      cross join lateral (select greatest(now(), nullif(g.not_before, '')::timestamptz) as at) due
      order by o.n
    )
    select call_id from recorded`
}

/**
 * Whether JSON that is stored is the same as JSON text that is given. What a hand wrote may be no `jsonb`: escapes of NUL
 * and of half a character. That is compared as it stands.
 */
const sameJson = ({ sql }: Tables, stored: string, given: string) =>
  sql.literal(`case when ${stored}::text ~* '\\\\u(0000|d[89a-f])' then ${stored}::text = ${given}
      else ${stored}::jsonb = ${given}::jsonb end`)

/** Whether a call `c` that is there and one given, `g`, are the same as far as it was known before the service ran. */
export const sameQuestion = (t: Tables) =>
  t.sql`(c.namespace = g.namespace and c.service = g.service and ${sameJson(t, "c.context", "g.context")}
    and c.ordering_key is not distinct from nullif(g.ordering_key, ''))`

/** Whether they were asked the same. An input that is null is none. */
export const sameInput = (t: Tables) =>
  t.sql`${sameJson(t, "coalesce(c.input, 'null')", "coalesce(nullif(g.input, ''), 'null')")}`

/**
 * Of calls that were not recorded because they are there: whether they are the same. Times, details, trace, correlation
 * id and priority may differ; input and result that were pruned can no longer be compared and count as the same.
 */
export const compare = (t: Tables, calls: ReadonlyArray<Given>) => {
  const { call, sql } = t
  const rows = rowsOf(t, [
    ...specColumns(calls),
    { name: "outputs", type: "text", values: calls.map(({ text }) => `[${text.outputs.join()}]`) }
  ])
  return sql<{ call_id: string; same: boolean }>`
    select c.call_id, ${sameQuestion(t)} and (
      c.outputs is null or (${sameJson(t, "array_to_json(c.outputs)", "g.outputs")} and ${sameInput(t)})
    ) as same
    from (${rows}) g join ${call} c using (call_id)`
}
