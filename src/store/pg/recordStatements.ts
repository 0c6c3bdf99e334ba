/**
 * The statements that record calls together with a queue row for each of their outputs.
 */
import * as Duration from "effect/Duration"
import { markOf } from "../../internal/fingerprint.ts"
import { addedOf, attemptsText, usageText } from "./added.ts"
import { type Column, parametersOf, rowsOf } from "./columns.ts"
import { besideColumns, type Given, orNull, priorityOf, specColumns, timeOf } from "./given.ts"
import type { Tables } from "./tables.ts"

// what happens to an existing call: it is completed if it was begun, and unchanged otherwise
const completedIf = (condition: string): string => `
  on conflict (call_id) do update set
    namespace = excluded.namespace, service = excluded.service, correlation_id = excluded.correlation_id,
    status = 'succeeded', context = excluded.context, input = excluded.input, facts = excluded.facts,
    details = excluded.details, trace = excluded.trace, outputs = excluded.outputs, error = null,
    ordering_key = excluded.ordering_key, priority = excluded.priority, not_before = excluded.not_before,
    run_token = null, run_until = null, started_at = excluded.started_at, finished_at = excluded.finished_at,
    recorded_at = pg_catalog.now()
  where ${condition} and c.erasure is null`

/** What happens to an existing call that is recorded: see {@link completedIf}. */
export const completed = completedIf("c.status <> 'succeeded'")

/** Opens the calls of `recorded`, if a subscription to ends exists. */
export const opened = (schema: string) =>
  `insert into ${schema}.open_call (call_id)
      select call_id from recorded where exists (select from ${schema}.call_subscription) on conflict do nothing`

/** Whether a call has facts, attempts or usage. */
export const saysMore = ({ call: { attempts = [], usage = [] }, text }: Given): boolean =>
  text.facts !== "" || attempts.length > 0 || usage.length > 0

/**
 * Records one call with one output, without facts, attempts and usage. An existing call that has not succeeded (it was
 * begun) is completed; one that has succeeded, or was erased, is unchanged, and so is its chunk. Returns a row if it was
 * recorded.
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
      shared_bytes, fingerprint
    )
    select call_id, namespace, ordering_key, priority, due_at, due_at - pg_catalog.make_interval(mins => priority),
      case when due_at > pg_catalog.now() then 'scheduled' else 'ready' end, $15, $16, $17, $18, $19, $20
    from recorded
    returning call_id`
  return ({ call: one, text }: Given) => {
    const [output] = one.outputs
    return sql.unsafe<{ call_id: string }>(statement, [
      ...callValuesOf({ call: one, text }),
      output?.schema,
      output?.version,
      output?.part ?? "",
      text.bytes[0],
      text.shared,
      output === undefined ? null : markOf(output) || null
    ])
  }
}

/**
 * Records the call of {@link callValuesOf} if `gate` has a row. An existing call is completed or unchanged: see
 * {@link completed}. Cast, because a select does not give parameters the columns' types, as `values` does.
 */
export const recordedIf = (schema: string, gate: string): string => `
    insert into ${schema}.service_call as c (
      call_id, namespace, service, correlation_id, status, context, input, details, trace, outputs, ordering_key, priority,
      not_before, started_at, finished_at
    )
    select $1, $2, $3, $4, 'succeeded', $5::pg_catalog.json, $6::pg_catalog.json, $7::pg_catalog.json,
      $8::pg_catalog.json, array[$9::pg_catalog.json], $10, $11::int, $12::pg_catalog.timestamptz,
      $13::pg_catalog.timestamptz, coalesce($14::pg_catalog.timestamptz, pg_catalog.now())
    from ${gate}
    ${completed}`

/** A call with one output, as the parameters of a statement for one. */
export const callValuesOf = ({ call, text }: Given): ReadonlyArray<string | number | null | undefined> => [
  call.callId,
  call.namespace,
  call.service,
  call.correlationId ?? call.callId,
  text.context,
  orNull(text.input),
  orNull(text.details),
  orNull(text.trace),
  text.outputs[0],
  call.orderingKey ?? null,
  priorityOf(call),
  orNull(timeOf(call.notBefore)),
  orNull(timeOf(call.startedAt)),
  orNull(timeOf(call.finishedAt))
]

const callColumns = (calls: ReadonlyArray<Given>): ReadonlyArray<Column> => [
  ...specColumns(calls),
  ...besideColumns(calls),
  { name: "started_at", type: "text", values: calls.map(({ call }) => timeOf(call.startedAt)) },
  { name: "finished_at", type: "text", values: calls.map(({ call }) => timeOf(call.finishedAt)) },
  ...calls.some(saysMore)
    ? [
      { name: "attempts", type: "text", values: calls.map(({ call }) => attemptsText(call)) } as const,
      { name: "usage", type: "text", values: calls.map(({ call }) => usageText(call)) } as const
    ]
    : []
]

/** Calls as rows. */
export const callRowsOf = (t: Tables, calls: ReadonlyArray<Given>) => rowsOf(t, callColumns(calls))

const chunkColumns = (calls: ReadonlyArray<Given>): ReadonlyArray<Column> => {
  const chunks = calls.flatMap(({ call, text }, index) =>
    call.outputs.map((output, position) => ({
      ...output,
      call: index + 1,
      position,
      text: text.outputs[position] ?? "",
      bytes: text.bytes[position] ?? 0,
      shared: text.shared,
      fingerprint: markOf(output)
    }))
  )
  return [
    { name: "call", type: "int", values: chunks.map((chunk) => chunk.call) },
    { name: "position", type: "int", values: chunks.map((chunk) => chunk.position) },
    { name: "schema", type: "text", values: chunks.map((chunk) => chunk.schema) },
    { name: "version", type: "int", values: chunks.map((chunk) => chunk.version) },
    { name: "part", type: "text", values: chunks.map((chunk) => chunk.part ?? "") },
    { name: "bytes", type: "int", values: chunks.map((chunk) => chunk.bytes) },
    { name: "shared", type: "int", values: chunks.map((chunk) => chunk.shared) },
    { name: "fingerprint", type: "int", values: chunks.map((chunk) => chunk.fingerprint) },
    { name: "output", type: "text", values: chunks.map((chunk) => chunk.text) }
  ]
}

/** The outputs of calls as rows: `call` is the place of their call. */
export const chunkRowsOf = (t: Tables, calls: ReadonlyArray<Given>, more: ReadonlyArray<Column> = []) =>
  rowsOf(t, [...more, ...chunkColumns(calls)])

/**
 * Writes the calls of `given` with the outputs of `chunk`, and returns those that were recorded. JSON is passed as text: the
 * server only validates it. Calls are written in the order of their ids, so two statements with the same calls cannot
 * deadlock. Of a call that exists, `completes` says when it is completed.
 */
export const recordedOf = ({ call, sql }: Tables, completes = completed) =>
  sql`insert into ${call} as c (
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
      ${sql.literal(completes)}
      returning call_id, namespace, finished_at`

/** Keeps the calls of `recorded` open: see {@link opened}. */
export const openedOf = ({ schema, sql }: Tables) => sql.literal(opened(schema))

/** Writes the calls' attempts and usage: parts of a statement that has `given` and `recorded`. */
export const moreOf = (t: Tables, calls: ReadonlyArray<Given>) =>
  calls.some(saysMore) ?
    t.sql`, ended as (
      select r.call_id, r.namespace, r.finished_at, g.attempts, g.usage from recorded r join given g using (call_id)
    ), ${addedOf(t, "ended")}` :
    t.sql``

/** How calls are recorded. */
interface Options {
  /** It fails when another transaction holds a lock for longer. The limit is set before the first row is written. */
  readonly lockTimeout?: Duration.Duration | undefined
  /** Records nothing of a call that exists and is not `invalid`. */
  readonly onlyInvalid?: boolean
}

/**
 * Records calls of different ids, each like {@link recordOne}. Returns the ids that were recorded. Chunks get their `seq` in
 * the given order, which is the order of recording.
 *
 * A text is kept for each shape of the rows, of which there are few: to build it takes a tenth of the client's time for a
 * group of ten calls.
 */
export const recordMany = (t: Tables) => {
  const texts = new Map<string, string>()
  return (calls: ReadonlyArray<Given>, options: Options = {}) => {
    const { lockTimeout, onlyInvalid = false } = options
    const call = parametersOf(callColumns(calls))
    const chunk = parametersOf(chunkColumns(calls))
    const isLimited = lockTimeout !== undefined
    const shape = [call.shape, chunk.shape, isLimited, onlyInvalid].join(" ")
    const text = texts.get(shape) ?? statementOf(t, calls, options).compile()[0]
    if (texts.size < mostTexts) texts.set(shape, text)
    return t.sql.unsafe<{ call_id: string }>(text, [
      ...isLimited ? [String(Duration.toMillis(lockTimeout))] : [],
      ...call.values,
      ...chunk.values
    ])
  }
}

/** How many texts are kept. */
const mostTexts = 100

const statementOf = (
  t: Tables,
  calls: ReadonlyArray<Given>,
  { lockTimeout, onlyInvalid = false }: Options
) => {
  const { queue, sql } = t
  const rows = callRowsOf(t, calls)
  const given = lockTimeout === undefined ? rows : sql`
    select g.* from (
      select pg_catalog.set_config('lock_timeout', ${String(Duration.toMillis(lockTimeout))}, true)
    ) limited cross join (${rows}) g`
  return sql<{ call_id: string }>`
    with given as materialized (
      ${given}
    ), chunk as materialized (
      ${chunkRowsOf(t, calls)}
    ), recorded as (
      ${recordedOf(t, onlyInvalid ? completedIf("c.status = 'invalid'") : completed)}
    ), opened as (
      ${openedOf(t)}
    ), queued as (
      insert into ${queue} (
        state, priority, due_at, rank, schema_version, position, bytes, shared_bytes, namespace, schema_identity, call_id,
        part, fingerprint, ordering_key
      )
      select case when due.at > pg_catalog.now() then 'scheduled' else 'ready' end,
        g.priority, due.at, due.at - pg_catalog.make_interval(mins => g.priority),
        o.version, o.position, o.bytes, o.shared, g.namespace, o.schema, g.call_id, o.part, nullif(o.fingerprint, 0),
        nullif(g.ordering_key, '')
      from chunk o
      join given g on g.n = o.call
      join recorded using (call_id)
      cross join lateral (select greatest(pg_catalog.now(), nullif(g.not_before, '')::pg_catalog.timestamptz) as at) due
      order by o.n
    )${moreOf(t, calls)}
    select call_id from recorded`
}
