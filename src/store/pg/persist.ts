/**
 * The end of a handlers' transaction: ledger rows and settlement in one fenced statement.
 */
import * as Duration from "effect/Duration"
import type { SqlError } from "effect/sql/SqlError"
import type { Persisted } from "../../ChunkStore.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import { rowsOf } from "./columns.ts"
import type { Tables } from "./tables.ts"

/**
 * A worker that is frozen or cut off in the middle of its handlers holds their locks until the server notices, which by
 * itself it may never do; others would wait for them until their own time is over, and be charged for it. For this
 * transaction only.
 */
export const limitIdle = ({ sql }: Tables, idle: Duration.Duration) =>
  sql`select set_config('idle_in_transaction_session_timeout', ${
    String(Math.min(Math.ceil(Duration.toMillis(idle)) + slack, 2147483647))
  }, true)`

// for a machine that is busy
const slack = 5000

/** What the statement found. Fewer `held` than given: the lease is lost. */
export interface Settled {
  readonly held: number
}

/**
 * No joins: by the statistics a token belongs to one row, and a join planned for one row took 87 of 91 ms for 500.
 *
 * Deletes the queue rows this token still holds and writes the ledger. Whoever comes second waits at the ledger's key
 * for the first one's commit, and then fails: see {@link isInLedger}. It would be rolled back anyway, and `on conflict do
 * nothing`, which writes each row in two steps, took a quarter of this statement's time (8.6 against 6.6 us a row).
 */
export const settlePersisted = (t: Tables, token: string, persisted: ReadonlyArray<Persisted>) => {
  const { ledger, queue, sql } = t
  const line = rowsOf(t, [
    { name: "seq", type: "bigint", values: persisted.map(({ chunk }) => chunk.seq) },
    { name: "call_id", type: "text", values: persisted.map(({ chunk }) => chunk.key.callId) },
    { name: "schema_identity", type: "text", values: persisted.map(({ chunk }) => chunk.key.schemaIdentity) },
    { name: "part", type: "text", values: persisted.map(({ chunk }) => chunk.key.part) },
    { name: "namespace", type: "text", values: persisted.map(({ chunk }) => chunk.namespace) },
    { name: "schema_version", type: "int", values: persisted.map(({ chunk }) => chunk.schemaVersion) },
    { name: "handler", type: "text", values: persisted.map((one) => one.handler) },
    { name: "handler_version", type: "int", values: persisted.map((one) => one.handlerVersion) },
    { name: "objects", type: "text", values: persisted.map((one) => JSON.stringify(one.objects)) }
  ])
  return sql<Settled>`
    with line as materialized (
      ${line}
    ), gone as (
      delete from ${queue} where seq = any((select array_agg(seq) from line)::bigint[]) and lease_token = ${token}::uuid
      returning 1
    ), kept as (
      insert into ${ledger} (
        seq, call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects
      )
      select seq, call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects::jsonb
      from line
    )
    select count(*)::int as held from gone`
}

/** Whether the ledger had one of the rows already. */
export const isInLedger = ({ reason }: SqlError): boolean =>
  reason._tag === "UniqueViolation" && reason.constraint === "persisted_chunk_pkey"

/** After such a failure, how many are held still, and how many are not in the ledger. */
export const standing = ({ ledger, queue, sql }: Tables, token: string, persisted: ReadonlyArray<Persisted>) =>
  sql<{ held: number; kept: number }>`
    select count(*) filter (where exists (
        select from ${queue} q where q.seq = g.seq and q.lease_token = ${token}::uuid
      ))::int as held,
      count(*) filter (where not exists (
        select from ${ledger} l
        where l.call_id = g.call_id and l.schema_identity = g.schema_identity and l.part = g.part
      ))::int as kept
    from unnest(
      ${persisted.map(({ chunk }) => chunk.seq)}::bigint[], ${persisted.map(({ chunk }) => chunk.key.callId)}::text[],
      ${persisted.map(({ chunk }) => chunk.key.schemaIdentity)}::text[],
      ${persisted.map(({ chunk }) => chunk.key.part)}::text[]
    ) g(seq, call_id, schema_identity, part)`

/** Reserves a chunk's place in the ledger for `once`. A second caller waits here for the first. */
export const reserve = (
  { ledger, sql }: Tables,
  entry: { readonly key: ChunkKey; readonly namespace: string; readonly handler: string }
) =>
  sql`insert into ${ledger} (call_id, schema_identity, part, namespace, schema_version, handler, handler_version)
    values (${entry.key.callId}, ${entry.key.schemaIdentity}, ${entry.key.part}, ${entry.namespace}, 0,
      ${entry.handler}, 1)
    on conflict do nothing returning 1 as reserved`

/** Completes what `reserve` began, in the same transaction; the chunk leaves the queue, whoever holds it. */
export const complete = ({ ledger, queue, sql }: Tables, key: ChunkKey, objects: string) =>
  sql<{ namespace: string; orderingKey: string | null }>`
    with gone as (
      delete from ${queue}
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
      returning schema_version, namespace, ordering_key
    ), completed as (
      update ${ledger} set objects = ${objects}::jsonb,
        schema_version = coalesce((select schema_version from gone limit 1), schema_version)
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
    )
    select namespace, ordering_key as "orderingKey" from gone`
