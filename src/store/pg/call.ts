/**
 * Reads a call and the state of each of its chunks.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { CallView } from "../../CallView.ts"
import { soundFacts } from "../../internal/soundFacts.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import { callBefore } from "./behind.ts"
import { decoder, failureRecord, iso } from "./json.ts"
import { ledgerParts, linesOf, type Part, partsOf } from "./ledger.ts"
import type { Tables } from "./tables.ts"

const decode = decoder(CallView)

/** A chunk of a call as the statement below returns it, before its parts are joined. */
interface ChunkPart {
  readonly key: ChunkKey
  /** Its place among the call's outputs; null for a ledger line, whose place is looked up. */
  readonly position: number | null
}

/**
 * A call and the state of each of its chunks, as rows: one for the call, and one for each output, attempt, chunk, failure
 * and ledger line. It is one statement, so all rows are from one snapshot. No row is larger than a value that was recorded,
 * so the client accepts each, whatever their total. Values longer than `longest` were not recorded by Sluice and are left
 * out.
 */
const callParts = (t: Tables, callId: string, deadBlocksKey: boolean, longest: number) => {
  const { attempt, call, dead, failure, ledger, queue, sql } = t
  return sql<Part<"call" | "attempt" | "output" | "chunk" | "failure" | "ledger" | "objects">>`
    with chunk as (
      select call_id, schema_identity, part, namespace, schema_version, attempts, crashes, seq, position, ordering_key,
        case when lease_until > pg_catalog.now() then 'in-flight' else state end as state,
        case when state in ('ready', 'scheduled') then due_at end as due_at,
        case when lease_until > pg_catalog.now() then lease_until end as leased_until,
        case when lease_until > pg_catalog.now() then leased_by end as leased_by, parked_for, null::pg_catalog.json as death,
        ${callBefore(t, "q", deadBlocksKey)} as behind
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
        -- a chunk redriven after it was persisted is in both: its current state comes first
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
      'erasure', c.erasure,
      'facts', case when pg_catalog.octet_length(c.facts::pg_catalog.text) <= ${longest} then c.facts end,
      'outputs', pg_catalog.cardinality(c.outputs)
    ) as value
    from ${call} c where c.call_id = ${callId}
    union all
    select 'output', 0, o.place, case when pg_catalog.octet_length(o.value::pg_catalog.text) <= ${longest} then o.value else 'null' end
    from ${call} c cross join lateral pg_catalog.unnest(c.outputs) with ordinality o(value, place) where c.call_id = ${callId}
    union all
    select 'attempt', 0, pg_catalog.row_number() over (order by a.answered_at, a.place, a.id)::pg_catalog.float8,
      pg_catalog.json_build_object(
        'outcome', a.outcome, 'text', case when pg_catalog.octet_length(a.text) <= ${longest} then a.text end,
        'length', a.length, 'facts', case when pg_catalog.octet_length(a.facts::pg_catalog.text) <= ${longest} then a.facts end,
        'error', a.error, 'at', ${sql.literal(iso("a.answered_at"))}
      )
    from ${attempt} a where a.call_id = ${callId}
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

/** Places of a call's outputs by schema and part; rows can have been edited manually. */
const placesOf = (outputs: ReadonlyArray<unknown>): ReadonlyMap<string, number> => {
  const textAt = (output: unknown, name: string) => {
    const value: unknown = Predicate.hasProperty(output, name) ? output[name] : undefined
    return typeof value === "string" ? value : ""
  }
  return new Map(outputs.map((output, index) => [`${textAt(output, "schema")}#${textAt(output, "part")}`, index]))
}

/** Joins the parts of a call, in the port's JSON. */
const viewOf = (parts: ReadonlyArray<Part<string>>) => {
  const [head] = partsOf(parts, "call").get(0) ?? []
  if (head === undefined) return undefined
  const { facts, outputs: count, ...view } = head as { readonly outputs: number | null; readonly facts: unknown }
  const attempts = (partsOf(parts, "attempt").get(0) ?? []) as ReadonlyArray<{ readonly facts: unknown }>
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
    facts: soundFacts(facts).facts,
    attempts: attempts.map((attempt) => ({ ...attempt, facts: soundFacts(attempt.facts).facts })),
    outputs: count === null ? null : outputs,
    chunks: chunks.sort((a, b) => a.place - b.place || a.n - b.n).map(({ chunk }) => chunk)
  }
}

/** The call with its chunks in the order of its outputs. A redriven chunk is shown in its current state. */
export const call = (t: Tables, callId: string, deadBlocksKey: boolean, longest: number) =>
  Effect.flatMap(callParts(t, callId, deadBlocksKey, longest), (parts) => {
    const view = viewOf(parts)
    // Sluice built this JSON: if it does not decode, that is a bug
    return view === undefined ? Effect.succeedNone : Effect.asSome(Effect.orDie(decode(view)))
  })
