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

/**
 * Makes the next chunks of these ordering keys claimable, twice as many as are gone: about what the next claim takes, and
 * so that a long key is soon in full swing. All that wait would be put aside again by the next claim, but for the few it
 * takes: waking 100 of each of 100 keys cost three times as many updates as there were chunks.
 *
 * Shaped so that nothing but the index of what waits can give the order, and that the followers are found once: when the
 * server last looked nothing may have waited, and a join made for that looked for all followers of all keys anew for each
 * chunk that waited (10,000 of 100 keys: 2.8 s; so, 8 ms).
 *
 * Always a statement of its own, after the one that removed what stood before them: only then does it see what other
 * claims put aside meanwhile (see `claim`).
 */
export const wakeFollowers = ({ queue, sql }: Tables, keys: ReadonlyArray<string>, gone: number) =>
  sql<{ woken: number }>`
    with woken as (
      update ${queue} q set state = 'ready'
      where state = 'waiting' and seq = any(array(
        select follower.seq from unnest(${keys}::text[]) k(key)
        cross join lateral (
          select ordering_key, seq from ${queue} w
          where (w.ordering_key, w.seq) >= (k.key, 0) and w.state = 'waiting'
          order by w.ordering_key, w.seq limit ${Math.ceil(2 * Math.max(1, gone / keys.length))}
        ) follower
        where follower.ordering_key = k.key
      ))
      returning 1
    )
    select count(*)::int as woken from woken`

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
  sql<{ ordering_key: string | null }>`
    with gone as (
      delete from ${queue}
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
      returning schema_version, ordering_key
    ), completed as (
      update ${ledger} set objects = ${objects}::jsonb,
        schema_version = coalesce((select schema_version from gone limit 1), schema_version)
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
    )
    select ordering_key from gone`
