/**
 * The statements that record calls together with a queue row for each of their outputs.
 */
import * as Duration from "effect/Duration"
import { addedOf, attemptsText, usageText } from "./added.ts"
import { rowsOf } from "./columns.ts"
import { besideColumns, type Given, orNull, priorityOf, specColumns, timeOf } from "./given.ts"
import type { Tables } from "./tables.ts"
import { inFuture } from "./time.ts"

/** A claim that holds recorded chunks from the start. */
export interface Hold {
  readonly token: string
  readonly worker: string
  readonly lease: Duration.Duration
}

// what happens to an existing call: it is completed if it was begun, and unchanged otherwise
const completed = `
  on conflict (call_id) do update set
    namespace = excluded.namespace, service = excluded.service, correlation_id = excluded.correlation_id,
    status = 'succeeded', context = excluded.context, input = excluded.input, facts = excluded.facts,
    details = excluded.details, trace = excluded.trace, outputs = excluded.outputs, error = null,
    ordering_key = excluded.ordering_key, priority = excluded.priority, not_before = excluded.not_before,
    run_token = null, run_until = null, started_at = excluded.started_at, finished_at = excluded.finished_at,
    recorded_at = pg_catalog.now()
  where c.status <> 'succeeded' and c.erasure is null`

/** Keeps the calls of `recorded` open, where a subscription is told the ends of calls. */
const opened = (schema: string) =>
  `insert into ${schema}.open_call (call_id)
      select call_id from recorded where exists (select from ${schema}.call_subscription) on conflict do nothing`

/** Whether a call says something of itself: facts, attempts, usage. */
export const saysMore = ({ call: { attempts = [], usage = [] }, text }: Given): boolean =>
  text.facts !== "" || attempts.length > 0 || usage.length > 0

/**
 * Records one call with one output that says nothing of itself. An existing call that has not succeeded (it was begun) is
 * completed; one that has succeeded, or was erased, is unchanged, and so is its chunk. Returns a row if it was recorded.
 *
 * It does the same as {@link recordMany}, without arrays and joins, and its text is built once: most calls come one by one,
 * and their callers wait for it.
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
    ), opened as (
      ${opened(schema)}
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

/** The outputs of calls as rows: `call` is the place of their call. */
const chunkRowsOf = (t: Tables, calls: ReadonlyArray<Given>) => {
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
  return rowsOf(t, [
    { name: "call", type: "int", values: chunks.map((chunk) => chunk.call) },
    { name: "position", type: "int", values: chunks.map((chunk) => chunk.position) },
    { name: "schema", type: "text", values: chunks.map((chunk) => chunk.schema) },
    { name: "version", type: "int", values: chunks.map((chunk) => chunk.version) },
    { name: "part", type: "text", values: chunks.map((chunk) => chunk.part ?? "") },
    { name: "bytes", type: "int", values: chunks.map((chunk) => chunk.bytes) },
    { name: "shared", type: "int", values: chunks.map((chunk) => chunk.shared) },
    { name: "output", type: "text", values: chunks.map((chunk) => chunk.text) }
  ])
}

/**
 * Records calls of different ids, each like {@link recordOne}. Returns the ids that were recorded.
 *
 * JSON is passed as text: the server only validates it. Calls are written in the order of their ids, so two statements with
 * the same calls cannot deadlock. Chunks get their `seq` in the given order, which is the order of recording.
 *
 * With `lockTimeout` it fails when another transaction holds a lock for longer. The limit is set in the statement itself,
 * before its first row is written, and ends with it. With `hold` the chunks are claimed, and their `seq`s are returned.
 */
export const recordMany = (
  t: Tables,
  calls: ReadonlyArray<Given>,
  { hold, lockTimeout }: { readonly lockTimeout?: Duration.Duration | undefined; readonly hold?: Hold } = {}
) => {
  const { call, queue, schema, sql } = t
  const more = calls.some(saysMore)
  const rows = rowsOf(t, [
    ...specColumns(calls),
    ...besideColumns(calls),
    { name: "started_at", type: "text", values: calls.map(({ call }) => timeOf(call.startedAt)) },
    { name: "finished_at", type: "text", values: calls.map(({ call }) => timeOf(call.finishedAt)) },
    ...more
      ? [
        { name: "attempts", type: "text", values: calls.map(({ call }) => attemptsText(call)) } as const,
        { name: "usage", type: "text", values: calls.map(({ call }) => usageText(call)) } as const
      ]
      : []
  ])
  const given = lockTimeout === undefined ? rows : sql`
    select g.* from (
      select pg_catalog.set_config('lock_timeout', ${String(Duration.toMillis(lockTimeout))}, true)
    ) limited cross join (${rows}) g`
  const chunkRows = chunkRowsOf(t, calls)
  return sql<{ call_id: string; seqs: ReadonlyArray<bigint> }>`
    with given as materialized (
      ${given}
    ), chunk as materialized (
      ${chunkRows}
    ), recorded as (
      insert into ${call} as c (
        call_id, namespace, service, correlation_id, status, context, input, facts, details, trace, outputs, ordering_key,
        priority, not_before, started_at, finished_at
      )
      select call_id, namespace, service, correlation_id, 'succeeded', context::pg_catalog.json, nullif(input, '')::pg_catalog.json,
        nullif(facts, '')::pg_catalog.json, nullif(details, '')::pg_catalog.json, nullif(trace, '')::pg_catalog.json, coalesce(o.outputs, '{}'), nullif(ordering_key, ''), priority,
        nullif(not_before, '')::pg_catalog.timestamptz, nullif(started_at, '')::pg_catalog.timestamptz,
        coalesce(nullif(finished_at, '')::pg_catalog.timestamptz, pg_catalog.now())
      from given
      left join (select call, pg_catalog.array_agg(output::pg_catalog.json order by n) as outputs from chunk group by call) o on o.call = given.n
      order by call_id collate "C"
      ${sql.literal(completed)}
      returning call_id, namespace, finished_at
    ), opened as (
      ${sql.literal(opened(schema))}
    ), queued as (
      insert into ${queue} (
        state, priority, due_at, rank, schema_version, position, bytes, shared_bytes, namespace, schema_identity, call_id,
        part, ordering_key${hold === undefined ? sql`` : sql`, lease_token, lease_until, leased_by`}
      )
      select case when due.at > pg_catalog.now() then 'scheduled' else 'ready' end,
        g.priority, due.at, due.at - pg_catalog.make_interval(mins => g.priority),
        o.version, o.position, o.bytes, o.shared, g.namespace, o.schema, g.call_id, o.part, nullif(g.ordering_key, '')${
    hold === undefined ? sql`` : sql`, ${hold.token}::pg_catalog.uuid, ${inFuture(t, hold.lease)}, ${hold.worker}`
  }
      from chunk o
      join given g on g.n = o.call
      join recorded using (call_id)
      cross join lateral (select greatest(pg_catalog.now(), nullif(g.not_before, '')::pg_catalog.timestamptz) as at) due
      order by o.n
      returning seq
    )${
    more ?
      sql`, ended as (
      select r.call_id, r.namespace, r.finished_at, g.attempts, g.usage from recorded r join given g using (call_id)
    ), ${addedOf(t, "ended")}` :
      sql``
  }
    select call_id${
    hold === undefined ? sql`` : sql`, (select pg_catalog.array_agg(seq order by seq) from queued) as seqs`
  }
    from recorded`
}
