/**
 * Phase 1: calls and a queue row for each of their outputs, or neither.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { type CallJson, callJson } from "../../internal/callJson.ts"
import { sameJson } from "../../internal/sameJson.ts"
import type { CallSpec, ServiceCall } from "../../ServiceCall.ts"
import { type Column, rowsOf } from "./columns.ts"
import type { Tables } from "./tables.ts"

/** A call with its JSON as text. */
export interface Given {
  readonly call: ServiceCall
  readonly text: CallJson
}

/** A call as the statements below take it. */
export const given = (call: ServiceCall): Given => ({ call, text: callJson(call) })

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
    recorded_at = pg_catalog.now()
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
        $1, $2, $3, $4, 'succeeded', $5, $6, $7, $8, array[$9::pg_catalog.json], $10, $11, $12, $13, coalesce($14::pg_catalog.timestamptz, pg_catalog.now())
      )
      ${completed}
      returning call_id, namespace, ordering_key, priority, greatest(pg_catalog.now(), not_before) as due_at
    )
    insert into ${schema}.chunk_queue (
      call_id, namespace, ordering_key, priority, due_at, rank, state, schema_identity, schema_version, part, bytes,
      shared_bytes
    )
    select call_id, namespace, ordering_key, priority, due_at, due_at - pg_catalog.make_interval(mins => priority),
      case when due_at > pg_catalog.now() then 'scheduled' else 'ready' end, $15, $16, $17, $18, $19
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
      orNull(text.details),
      orNull(text.trace),
      text.outputs[0],
      one.orderingKey ?? null,
      priorityOf(one),
      orNull(timeOf(one.notBefore)),
      orNull(timeOf(one.startedAt)),
      orNull(timeOf(one.finishedAt)),
      output?.schema,
      output?.version,
      output?.part ?? "",
      text.bytes[0],
      text.shared
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
    { name: "details", type: "text", values: calls.map(({ text }) => text.details) },
    { name: "trace", type: "text", values: calls.map(({ text }) => text.trace) },
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
      bytes: text.bytes[position] ?? 0,
      shared: text.shared
    }))
  )
  const chunkRows = rowsOf(t, [
    { name: "call", type: "int", values: chunks.map((chunk) => chunk.call) },
    { name: "position", type: "int", values: chunks.map((chunk) => chunk.position) },
    { name: "schema", type: "text", values: chunks.map((chunk) => chunk.schema) },
    { name: "version", type: "int", values: chunks.map((chunk) => chunk.version) },
    { name: "part", type: "text", values: chunks.map((chunk) => chunk.part ?? "") },
    { name: "bytes", type: "int", values: chunks.map((chunk) => chunk.bytes) },
    { name: "shared", type: "int", values: chunks.map((chunk) => chunk.shared) },
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
      select call_id, namespace, service, correlation_id, 'succeeded', context::pg_catalog.json, nullif(input, '')::pg_catalog.json,
        nullif(details, '')::pg_catalog.json, nullif(trace, '')::pg_catalog.json, coalesce(o.outputs, '{}'), nullif(ordering_key, ''), priority,
        nullif(not_before, '')::pg_catalog.timestamptz, nullif(started_at, '')::pg_catalog.timestamptz,
        coalesce(nullif(finished_at, '')::pg_catalog.timestamptz, pg_catalog.now())
      from given
      left join (select call, pg_catalog.array_agg(output::pg_catalog.json order by n) as outputs from chunk group by call) o on o.call = given.n
      order by call_id collate "C"
      ${sql.literal(completed)}
      returning call_id
    ), queued as (
      insert into ${queue} (
        state, priority, due_at, rank, schema_version, position, bytes, shared_bytes, namespace, schema_identity, call_id,
        part, ordering_key
      )
      select case when due.at > pg_catalog.now() then 'scheduled' else 'ready' end,
        g.priority, due.at, due.at - pg_catalog.make_interval(mins => g.priority),
        o.version, o.position, o.bytes, o.shared, g.namespace, o.schema, g.call_id, o.part, nullif(g.ordering_key, '')
      from chunk o
      join given g on g.n = o.call
      join recorded using (call_id)
      cross join lateral (select greatest(pg_catalog.now(), nullif(g.not_before, '')::pg_catalog.timestamptz) as at) due
      order by o.n
    )
    select call_id from recorded`
}

/** A call that is there, beside one that was given with its id. What is the same to the letter is not read: it is null. */
interface Compared {
  readonly call_id: string
  /** Namespace, service and ordering key are the same, and the rest is not too long to be compared. */
  readonly same: boolean
  /** Input and outputs were pruned, and can no longer be compared: they count as the same. */
  readonly pruned: boolean
  readonly context: string | null
  readonly input: string | null
  readonly outputs: string | null
}

/**
 * Looks at calls that were not recorded because they are there. A redelivered call is nearly always the same to the letter,
 * and the server sees that; the rest is compared where it was put together, by {@link sameJson}, because Postgres' own
 * comparison does not take every text that `json` takes.
 */
const beside = (t: Tables, calls: ReadonlyArray<Given>, longest: number) => {
  const { call, sql } = t
  const rows = rowsOf(t, [
    ...specColumns(calls),
    { name: "outputs", type: "text", values: calls.map(({ text }) => outputsText(text)) }
  ])
  return sql<Compared>`
    select c.call_id, c.outputs is null as pruned,
      c.fits and c.namespace = g.namespace and c.service = g.service
        and c.ordering_key is not distinct from nullif(g.ordering_key, '') as same,
      case when c.fits then nullif(c.context, g.context) end as context,
      case when c.fits then nullif(c.input, g.input) end as input,
      case when c.fits then nullif(c.outputs, g.outputs) end as outputs
    from (${rows}) g
    join lateral (
      select call_id, namespace, service, ordering_key, context, input, outputs,
        pg_catalog.octet_length(context) + pg_catalog.octet_length(input)
          + coalesce(pg_catalog.octet_length(outputs), 0) <= ${longest} as fits
      from (
        select call_id, namespace, service, ordering_key, context::pg_catalog.text, coalesce(input::pg_catalog.text, '') as input,
          pg_catalog.array_to_json(outputs)::pg_catalog.text as outputs
        from ${call} where call_id = g.call_id
      ) texts
    ) c on true`
}

const outputsText = (text: CallJson): string => `[${text.outputs.join()}]`

/** JSON text; the empty text is an input that was not given, and that is the same as null. */
const parse = (text: string): unknown => text === "" ? null : JSON.parse(text)

const isSame = ({ text }: Given, found: Compared): boolean => {
  const same = (stored: string | null, given: string) => stored === null || sameJson(parse(stored), parse(given))
  return found.same && same(found.context, text.context) &&
    (found.pruned || (same(found.input, text.input) && same(found.outputs, outputsText(text))))
}

/**
 * Of calls that were not recorded because they are there: whether they are the same. Times, details, trace, correlation
 * id and priority may differ; input and result that were pruned can no longer be compared and count as the same.
 */
export const compare = (t: Tables, calls: ReadonlyArray<Given>, longest: number) =>
  Effect.map(beside(t, calls, longest), (rows) => {
    const given = new Map(calls.map((one) => [one.call.callId, one]))
    return rows.map((found) => ({ callId: found.call_id, same: isSame(given.get(found.call_id)!, found) }))
  })
