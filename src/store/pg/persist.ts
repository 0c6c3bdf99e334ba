/**
 * The begin and the end of a handlers' transaction, and of one of `once`.
 */
import * as Duration from "effect/Duration"
import type { SqlError } from "effect/sql/SqlError"
import type { Persisted } from "../../ChunkStore.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import { rowsOf, unnested } from "./columns.ts"
import type { Tables } from "./tables.ts"

// for a machine that is busy
const slack = 5000

const longestMillis = 2_147_483_647

/**
 * How long the settlement waits for a lock. Nobody but `once` holds a row that a claim holds, and its effect takes as long
 * as the application likes: the batch goes on without that chunk.
 */
const longestWait = "2s"

/** What a transaction found when it began, and what it is put back to before its settlement. */
export interface Began {
  readonly role: string
  readonly session_authorization: string
  readonly search_path: string
  readonly idle: string
  readonly lock: string
  readonly mark: string | null
  /** How long the server lets the transaction take, as `500ms`, or `0`; null before Postgres 17. */
  readonly transaction_timeout: string | null
  readonly isolation: string
}

/**
 * The begin of a handlers' transaction, in one statement:
 *
 * - A worker that is frozen or cut off in the middle of its handlers holds their locks until the server notices, which by
 *   itself it may never do; others would wait for them until their own time is over, and be charged for it.
 * - The transaction gets a mark. A handler that ends it, by ways that its statements do not show, takes the mark away.
 * - What handlers may change and the settlement relies on is read.
 */
export const begin = ({ sql }: Tables, mark: string, idle: Duration.Duration | undefined) => {
  const limit = idle === undefined
    ? sql`null`
    : sql`pg_catalog.set_config('idle_in_transaction_session_timeout', ${
      String(Math.min(Math.ceil(Duration.toMillis(idle)) + slack, longestMillis))
    }, true)`
  // a subquery with an offset is not merged: the settings are read before they are set
  return sql<Began>`
    select before.*, ${limit} as limited, pg_catalog.set_config('sluice.transaction', ${mark}, true) as marked
    from (
      select pg_catalog.current_setting('role') as role,
        pg_catalog.current_setting('session_authorization') as session_authorization,
        pg_catalog.current_setting('search_path') as search_path,
        pg_catalog.current_setting('idle_in_transaction_session_timeout') as idle,
        pg_catalog.current_setting('lock_timeout') as lock,
        pg_catalog.current_setting('sluice.transaction', true) as mark,
        pg_catalog.current_setting('transaction_isolation') as isolation,
        pg_catalog.current_setting('transaction_timeout', true) as transaction_timeout
      offset 0
    ) before`
}

/**
 * Puts back what handlers may have changed and Sluice's own statements rely on. In a transaction of Sluice's own it is put
 * back for the session, because what a handler set for the session would be back after the commit. The role goes after the
 * user, which resets it.
 */
export const putBack = ({ sql }: Tables, began: Began, isNested: boolean) =>
  sql`select pg_catalog.set_config('session_authorization', ${began.session_authorization}, ${isNested}),
    pg_catalog.set_config('role', ${began.role}, ${isNested}),
    pg_catalog.set_config('search_path', ${began.search_path}, ${isNested})`

/** Puts back what Sluice itself set, in a transaction that goes on: the caller's. */
export const putOwnBack = ({ sql }: Tables, began: Began) =>
  sql`select pg_catalog.set_config('idle_in_transaction_session_timeout', ${began.idle}, true),
    pg_catalog.set_config('lock_timeout', ${began.lock}, true),
    pg_catalog.set_config('sluice.transaction', ${began.mark ?? ""}, true)`

/** Milliseconds that a time setting of the server stands for, as it shows them; none when there is no limit. */
export const millisOf = (setting: string | null): number | undefined => {
  const [, amount = "0", unit = "ms"] = /^(\d+)(us|ms|s|min|h|d)?$/.exec(setting ?? "") ?? []
  const factor = { us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }[unit] ?? 1
  return amount === "0" ? undefined : Number(amount) * factor
}

/** What the statement found. Fewer `held` than given: the lease is lost. */
export interface Settled {
  readonly held: number
  /** Whether the transaction is the one that was begun. If not, nothing was done. */
  readonly marked: boolean
}

/**
 * Deletes the queue rows that this token still holds, and writes the ledger. Does nothing in a transaction without the
 * mark of {@link begin}.
 *
 * - It has no joins: by the statistics a token belongs to one row, and a join planned for one row took 87 of 91 ms for 500.
 * - The limit for waiting at locks is set before the first row is deleted, because the deletion depends on it.
 * - Whoever comes second waits at the ledger's key for the first one's commit, and then fails: see {@link isInLedger}. It
 *   would be rolled back anyway, and `on conflict do nothing`, which writes each row in two steps, took a quarter of this
 *   statement's time (8.6 against 6.6 us a row).
 */
export const settlePersisted = (t: Tables, token: string, mark: string, persisted: ReadonlyArray<Persisted>) => {
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
    with mark as materialized (
      select pg_catalog.set_config('lock_timeout', ${longestWait}, true) as limited
      where pg_catalog.current_setting('sluice.transaction', true) operator(pg_catalog.=) ${mark}
    ), line as materialized (
      select l.* from mark cross join (${line}) l
    ), gone as (
      delete from ${queue}
      where seq = any((select pg_catalog.array_agg(seq) from line)::bigint[]) and lease_token = ${token}::pg_catalog.uuid
      returning 1
    ), kept as (
      insert into ${ledger} (
        seq, call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects
      )
      select seq, call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects::pg_catalog.jsonb
      from line
    )
    select pg_catalog.count(*)::int as held, exists (select from mark) as marked from gone`
}

/** Whether the ledger had one of the rows already. */
export const isInLedger = ({ reason }: SqlError): boolean =>
  reason._tag === "UniqueViolation" && reason.constraint === "persisted_chunk_pkey"

/** After such a failure, how many are held still, and how many are not in the ledger. */
export const standing = (t: Tables, token: string, persisted: ReadonlyArray<Persisted>) =>
  t.sql<{ held: number; kept: number }>`
    select pg_catalog.count(*) filter (where exists (
        select from ${t.queue} q where q.seq = g.seq and q.lease_token = ${token}::pg_catalog.uuid
      ))::int as held,
      pg_catalog.count(*) filter (where not exists (
        select from ${t.ledger} l
        where l.call_id = g.call_id and l.schema_identity = g.schema_identity and l.part = g.part
      ))::int as kept
    from ${
    unnested(t, [
      t.sql`${persisted.map(({ chunk }) => chunk.seq)}::bigint[]`,
      t.sql`${persisted.map(({ chunk }) => chunk.key.callId)}::pg_catalog.text[]`,
      t.sql`${persisted.map(({ chunk }) => chunk.key.schemaIdentity)}::pg_catalog.text[]`,
      t.sql`${persisted.map(({ chunk }) => chunk.key.part)}::pg_catalog.text[]`
    ])
  } g(seq, call_id, schema_identity, part)`

/**
 * Which of these rows nobody has locked. After a settlement that had to wait: the others are held by somebody else, as
 * by `once`.
 */
export const unlocked = ({ queue, sql }: Tables, token: string, persisted: ReadonlyArray<Persisted>) =>
  sql<{ seq: bigint }>`
    select seq from ${queue}
    where seq = any(${persisted.map(({ chunk }) => chunk.seq)}::bigint[]) and lease_token = ${token}::pg_catalog.uuid
    for update skip locked`

/**
 * The first step of `once`: locks the chunk where it stands, so that no claim takes it meanwhile. In the order in which a
 * settlement goes, queue before ledger, so that the two cannot wait for each other.
 */
export const lockChunk = ({ dead, queue, sql }: Tables, key: ChunkKey) =>
  sql`
    with queued as materialized (
      select seq from ${queue}
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
      for update
    ), lettered as materialized (
      select call_id from ${dead}
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
        and (select pg_catalog.count(*) from queued) >= 0
      for update
    )
    select pg_catalog.count(*) from lettered`

/** Reserves a chunk's place in the ledger for `once`. A second caller waits here for the first. */
export const reserve = (
  { ledger, sql }: Tables,
  entry: { readonly key: ChunkKey; readonly namespace: string; readonly handler: string }
) =>
  sql`insert into ${ledger} (call_id, schema_identity, part, namespace, schema_version, handler, handler_version)
    values (${entry.key.callId}, ${entry.key.schemaIdentity}, ${entry.key.part}, ${entry.namespace}, 0,
      ${entry.handler}, 1)
    on conflict do nothing returning 1 as reserved`

/**
 * Completes what `reserve` began, in the same transaction: the chunk leaves the queue, whoever holds it, and the dead
 * letters.
 */
export const complete = ({ dead, ledger, queue, sql }: Tables, key: ChunkKey, objects: string) =>
  sql<{ namespace: string; orderingKey: string | null }>`
    with left_queue as (
      delete from ${queue}
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
      returning schema_version, namespace, ordering_key
    ), left_dead as (
      delete from ${dead}
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
      returning schema_version, namespace, ordering_key
    ), gone as materialized (
      select * from left_queue union all select * from left_dead
    ), completed as (
      update ${ledger} set objects = ${objects}::pg_catalog.jsonb,
        schema_version = coalesce((select schema_version from gone limit 1), schema_version)
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
    )
    select namespace, ordering_key as "orderingKey" from gone`
