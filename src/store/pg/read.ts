/**
 * What people ask.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { ChunkKey } from "../../ServiceCall.ts"
import { unnested } from "./columns.ts"
import { failureRecord, iso } from "./json.ts"
import type { Tables } from "./tables.ts"

/** A row of an answer that is put together where it is read. */
export interface Part<Kind extends string> {
  readonly kind: Kind
  /** What it is of: the number of the chunk, of the key that was asked for, or of the output. */
  readonly n: number
  /** Its place among others of its kind and number. */
  readonly place: number
  readonly value: unknown
}

/** About how many bytes of a ledger line's objects are read as one row. */
const portion = 1024 * 1024

/**
 * The ledger lines of the keys in `k`, numbered `n`. A line is a row without its objects and, for these, rows of about a
 * megabyte: a line written before there was a limit can hold more than one message may. What names no row is left out: rows
 * can have been edited manually.
 */
const ledgerParts = ({ ledger, sql }: Tables) =>
  sql`
    select 'ledger' as kind, k.n, 0::pg_catalog.float8 as place, pg_catalog.json_build_object(
      'key', pg_catalog.json_build_object('callId', l.call_id, 'schemaIdentity', l.schema_identity, 'part', l.part),
      'namespace', l.namespace, 'schemaVersion', l.schema_version, 'handler', l.handler,
      'handlerVersion', l.handler_version, 'persistedAt', ${sql.literal(iso("l.persisted_at"))}
    ) as value
    from k join ${ledger} l using (call_id, schema_identity, part)
    union all
    select 'objects', k.n, o.portion::pg_catalog.float8,
      pg_catalog.json_agg(pg_catalog.json_build_object('type', o.value ->> 'type'::pg_catalog.text, 'id', o.value ->> 'id'::pg_catalog.text) order by o.place)
    from k join ${ledger} l using (call_id, schema_identity, part)
    cross join lateral (
      select e.value, e.place, pg_catalog.sum(pg_catalog.octet_length(e.value::pg_catalog.text)) over (order by e.place) / ${portion} as portion
      from pg_catalog.jsonb_array_elements(case when pg_catalog.jsonb_typeof(l.objects) = 'array' then l.objects else '[]' end)
        with ordinality e(value, place)
      where pg_catalog.jsonb_typeof(e.value) = 'object' and e.value ->> 'type'::pg_catalog.text <> '' and e.value ->> 'id'::pg_catalog.text <> ''
    ) o
    group by k.n, o.portion`

/** The parts of one kind, by their number, each in the order of their places. */
const partsOf = <Kind extends string>(
  parts: ReadonlyArray<Part<Kind>>,
  kind: Kind
): ReadonlyMap<number, Array<unknown>> => {
  const found = new Map<number, Array<unknown>>()
  for (const part of parts.filter((part) => part.kind === kind).sort((a, b) => a.place - b.place)) {
    const values = found.get(part.n)
    if (values === undefined) found.set(part.n, [part.value])
    else values.push(part.value)
  }
  return found
}

/** Ledger lines put together, by their number. */
const linesOf = (parts: ReadonlyArray<Part<string>>): ReadonlyMap<number, object> => {
  const objects = partsOf(parts, "objects")
  return new Map(
    [...partsOf(parts, "ledger")].map((
      [n, [line]]
    ) => [n, { ...line as object, objects: objects.get(n)?.flat() ?? [] }])
  )
}

/** The ledger lines of these keys, in the port's JSON. */
export const ledger = (t: Tables, keys: ReadonlyArray<ChunkKey>) =>
  Effect.map(
    t.sql<Part<"ledger" | "objects">>`
      with k as materialized (
        select *, pg_catalog.row_number() over ()::int as n from ${
      unnested(t, [
        t.sql`${keys.map((key) => key.callId)}::pg_catalog.text[]`,
        t.sql`${keys.map((key) => key.schemaIdentity)}::pg_catalog.text[]`,
        t.sql`${keys.map((key) => key.part)}::pg_catalog.text[]`
      ])
    } k(call_id, schema_identity, part)
      )
      ${ledgerParts(t)}`,
    (parts) => [...linesOf(parts).values()]
  )

/** A chunk of a call as the statement below gives it, before what became of it is put to it. */
interface ChunkPart {
  readonly key: ChunkKey
  /** Its place among the call's outputs; of what is in the ledger it is looked for there. */
  readonly position: number | null
}

/**
 * A call and what became of each of its chunks, in rows: one of the call, one for each output, chunk, failure and ledger line.
 * One statement, so that all of it is of one moment; and no row holds more than was recorded as one, so that the client takes
 * it, however much all of it is. What is longer than `longest` was not recorded by Sluice and is left out.
 */
const callParts = (t: Tables, callId: string, deadBlocksKey: boolean, longest: number) => {
  const { call, dead, failure, ledger, queue, sql } = t
  return sql<Part<"call" | "output" | "chunk" | "failure" | "ledger" | "objects">>`
    with chunk as (
      select call_id, schema_identity, part, namespace, schema_version, attempts, crashes, seq, position, ordering_key,
        case when lease_until > pg_catalog.now() then 'in-flight' when state = 'ready' then 'pending' else state end as state,
        case when state in ('ready', 'scheduled') then due_at end as due_at,
        case when lease_until > pg_catalog.now() then lease_until end as leased_until,
        case when lease_until > pg_catalog.now() then leased_by end as leased_by, parked_for, null::pg_catalog.json as death,
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
      select call_id, schema_identity, part, namespace, schema_version, attempts, crashes, seq, position, ordering_key,
        case when discarded_at is null then 'dead' else 'discarded' end, null, null, null, null,
        pg_catalog.json_build_object('reason', reason, 'message', message, 'at', ${sql.literal(iso("died_at"))}), null
      from ${dead} where call_id = ${callId}
      union all
      select call_id, schema_identity, part, namespace, schema_version, 0, 0, seq, null,
        (select ordering_key from ${call} c where c.call_id = l.call_id),
        case when objects = '[]' then 'nothing-to-create' else 'persisted' end, null, null, null, null, null, null
      from ${ledger} l where call_id = ${callId}
        -- a chunk redriven after it was persisted is in both: what it is doing now comes first
        and not exists (select from ${queue} q where q.call_id = l.call_id
          and q.schema_identity = l.schema_identity and q.part = l.part)
        and not exists (select from ${dead} d where d.call_id = l.call_id
          and d.schema_identity = l.schema_identity and d.part = l.part)
    ), k as materialized (
      select *, pg_catalog.row_number() over (order by seq)::int as n from chunk
    )
    select 'call' as kind, 0 as n, 0::pg_catalog.float8 as place, pg_catalog.json_build_object(
      'callId', c.call_id, 'namespace', c.namespace, 'service', c.service, 'correlationId', c.correlation_id,
      'status', c.status, 'error', c.error,
      'recordedAt', ${sql.literal(iso("c.recorded_at"))}, 'finishedAt', ${sql.literal(iso("c.finished_at"))},
      'context', case when pg_catalog.json_typeof(c.context) = 'object' and pg_catalog.octet_length(c.context::pg_catalog.text) <= ${longest}
        then c.context else '{}' end,
      'trace', case when c.trace ->> 'traceId'::pg_catalog.text is not null and c.trace ->> 'spanId'::pg_catalog.text is not null then
        pg_catalog.json_build_object('traceId', c.trace ->> 'traceId'::pg_catalog.text, 'spanId', c.trace ->> 'spanId'::pg_catalog.text) end,
      'outputs', pg_catalog.cardinality(c.outputs)
    ) as value
    from ${call} c where c.call_id = ${callId}
    union all
    select 'output', 0, o.place, case when pg_catalog.octet_length(o.value::pg_catalog.text) <= ${longest} then o.value else 'null' end
    from ${call} c cross join lateral pg_catalog.unnest(c.outputs) with ordinality o(value, place) where c.call_id = ${callId}
    union all
    select 'chunk', k.n, 0, pg_catalog.json_build_object(
      'key', pg_catalog.json_build_object('callId', k.call_id, 'schemaIdentity', k.schema_identity, 'part', k.part),
      'namespace', k.namespace, 'schemaVersion', k.schema_version, 'state', k.state, 'attempts', k.attempts,
      'crashes', k.crashes, 'dueAt', ${sql.literal(iso("k.due_at"))},
      'leasedUntil', ${sql.literal(iso("k.leased_until"))}, 'leasedBy', k.leased_by, 'parkedFor', k.parked_for,
      'orderingKey', k.ordering_key, 'behind', k.behind, 'death', k.death, 'position', k.position
    )
    from k
    union all
    select 'failure', k.n, f.id, ${sql.literal(failureRecord("f"))}
    from k join ${failure} f using (call_id, schema_identity, part)
    union all ${ledgerParts(t)}`
}

/** An output's place among the call's, by its schema and part; rows can have been edited manually. */
const placesOf = (outputs: ReadonlyArray<unknown>): ReadonlyMap<string, number> => {
  const textAt = (output: unknown, name: string) => {
    const value: unknown = Predicate.hasProperty(output, name) ? output[name] : undefined
    return typeof value === "string" ? value : ""
  }
  return new Map(outputs.map((output, index) => [`${textAt(output, "schema")}#${textAt(output, "part")}`, index]))
}

/** A call and what became of each of its chunks, in the order of its outputs, as JSON of the port's `CallView`. */
export const call = (t: Tables, callId: string, deadBlocksKey: boolean, longest: number) =>
  Effect.map(callParts(t, callId, deadBlocksKey, longest), (parts) => {
    const [head] = partsOf(parts, "call").get(0) ?? []
    if (head === undefined) return undefined
    const { outputs: count, ...view } = head as { readonly outputs: number | null }
    const outputs = partsOf(parts, "output").get(0) ?? []
    const places = placesOf(outputs)
    const failures = partsOf(parts, "failure")
    const lines = linesOf(parts)
    const chunks = [...partsOf(parts, "chunk")].map(([n, [value]]) => {
      const { position, ...chunk } = value as ChunkPart
      const { part, schemaIdentity } = chunk.key
      return {
        place: position ?? places.get(`${schemaIdentity}#${part}`) ?? outputs.length,
        n,
        chunk: { ...chunk, failures: failures.get(n) ?? [], ledger: lines.get(n) ?? null }
      }
    })
    return {
      ...view,
      outputs: count === null ? null : outputs,
      chunks: chunks.sort((a, b) => a.place - b.place || a.n - b.n).map(({ chunk }) => chunk)
    }
  })

/** Counts by kind. */
export const status = ({ dead, ledger, queue, sql }: Tables) =>
  sql<{ row: unknown }>`
    with counted as (
      select namespace, schema_identity,
        pg_catalog.count(*) filter (where state = 'ready' and lease_until is not null and lease_until > pg_catalog.now()) as in_flight,
        pg_catalog.count(*) filter (where state = 'ready' and (lease_until is null or lease_until <= pg_catalog.now())) as ready,
        pg_catalog.count(*) filter (where state = 'scheduled') as scheduled,
        pg_catalog.count(*) filter (where state = 'scheduled' and due_at <= pg_catalog.now()) as scheduled_due,
        pg_catalog.count(*) filter (where state = 'scheduled' and attempts > 0) as retrying,
        pg_catalog.count(*) filter (where state = 'waiting') as waiting,
        pg_catalog.count(*) filter (where state = 'parked') as parked,
        0::bigint as dead, 0::bigint as persisted, pg_catalog.min(recorded_at) as oldest, pg_catalog.max(schema_version) as newest
      from ${queue} group by 1, 2
      union all
      select namespace, schema_identity, 0, 0, 0, 0, 0, 0, 0, pg_catalog.count(*), 0, null, null
      from ${dead} where discarded_at is null group by 1, 2
      union all
      select namespace, schema_identity, 0, 0, 0, 0, 0, 0, 0, 0, pg_catalog.count(*), null, null from ${ledger} group by 1, 2
    )
    select pg_catalog.json_build_object(
      'namespace', namespace, 'schemaIdentity', schema_identity,
      'pending', pg_catalog.sum(ready) + pg_catalog.sum(scheduled) - pg_catalog.sum(retrying), 'due', pg_catalog.sum(ready) + pg_catalog.sum(scheduled_due),
      'inFlight', pg_catalog.sum(in_flight), 'retrying', pg_catalog.sum(retrying), 'waiting', pg_catalog.sum(waiting), 'parked', pg_catalog.sum(parked),
      'dead', pg_catalog.sum(dead), 'persisted', pg_catalog.sum(persisted), 'newestVersion', pg_catalog.max(newest), 'oldest', ${
    sql.literal(iso("pg_catalog.min(oldest)"))
  }
    ) as row
    from counted group by namespace, schema_identity order by namespace, schema_identity`

/**
 * When something may be claimed next. Leases are looked for among the first thousand only: the rest ends no earlier than
 * a worker would poll.
 */
export const nextDue = ({ queue, sql }: Tables) =>
  sql<{ at: Date | null }>`
    select least(
      (select pg_catalog.min(coalesce(lease_until, pg_catalog.now())) from (
        select lease_until from ${queue} where state = 'ready' order by rank, seq limit 1000
      ) first),
      (select due_at from ${queue} where state = 'scheduled' order by due_at, seq limit 1)
    ) as at`
