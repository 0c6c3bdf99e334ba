/**
 * Records a call whose chunks are claimed from the start: for the verb `recordHeld`, and at the end of a transaction in
 * which handlers ran before their call was recorded.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore, Hold } from "../../ChunkStore.ts"
import type { ServiceCall } from "../../ServiceCall.ts"
import type { Engine } from "./engine.ts"
import { type Given, given } from "./given.ts"
import { type Done, longestWait, type RecordedDone } from "./recordDone.ts"
import { callRowsOf, chunkRowsOf, moreOf, openedOf, recordedOf } from "./recordStatements.ts"
import type { Tables } from "./tables.ts"
import { inFuture } from "./time.ts"

/** Whether nothing outstanding has the call's ordering key. */
const isFirst = ({ dead, queue, sql }: Tables, deadBlocksKey: boolean) =>
  sql`not exists (select from ${queue} q where q.ordering_key = g.ordering_key and q.namespace = g.namespace)
    and not (${deadBlocksKey} and exists (
      select from ${dead} d
      where d.ordering_key = g.ordering_key and d.namespace = g.namespace and d.discarded_at is null
    ))`

/**
 * Records one call. Chunks that are `done` get their row in the ledger and none in the queue, which would be deleted before
 * any other session sees it. The others are held. `seqs` is null when the call was recorded before or its ordering key is
 * not free.
 */
export const recordOneHeld = (
  t: Tables,
  asked: Given,
  hold: Hold,
  { deadBlocksKey, done }: { readonly deadBlocksKey: boolean; readonly done?: Done }
) => {
  const { callSubscription, ledger, queue, schema, sql } = t
  const { call } = asked
  const one = [asked]
  const lines = call.outputs.map(({ part = "", schema }) =>
    done?.persisted.find(({ chunk: { key } }) => key.schemaIdentity === schema && key.part === part)
  )
  const mark = done === undefined ? sql`select` : sql`
    select pg_catalog.set_config('lock_timeout', ${longestWait}, true)
    where pg_catalog.current_setting('sluice.transaction', true) operator(pg_catalog.=) ${done.mark}`
  const chunkRows = chunkRowsOf(t, one, [
    { name: "handler", type: "text", values: lines.map((line) => line?.handler ?? "") },
    { name: "handler_version", type: "int", values: lines.map((line) => line?.handlerVersion ?? 0) },
    { name: "objects", type: "text", values: lines.map((line) => JSON.stringify(line?.objects ?? [])) }
  ])
  const first = call.orderingKey === undefined ? sql`` : sql`where ${isFirst(t, deadBlocksKey)}`
  const queued = sql`, queued as (
      insert into ${queue} (
        seq, state, priority, due_at, rank, schema_version, position, bytes, shared_bytes, namespace, schema_identity,
        call_id, part, fingerprint, ordering_key, lease_token, lease_until, leased_by
      )
      select seq, 'ready', priority, due_at, due_at - pg_catalog.make_interval(mins => priority), version, position, bytes,
        shared, namespace, schema, call_id, part, nullif(fingerprint, 0), ordering_key, ${hold.token}::pg_catalog.uuid, ${
    inFuture(t, hold.lease)
  }, ${hold.worker}
      from numbered where handler = ''
    )`
  return sql<RecordedDone>`
    with mark as materialized (
      ${mark}
    ), given as materialized (
      select g.* from mark cross join (${callRowsOf(t, one)}) g ${first}
    ), chunk as materialized (
      ${chunkRows}
    ), recorded as (
      ${recordedOf(t)}
    ), opened as (
      ${openedOf(t)}
    ), numbered as materialized (
      select pg_catalog.nextval(${sql.literal(`'${schema}.chunk_seq'`)}) as seq, l.* from (
        select o.handler, o.handler_version, o.objects, o.position, o.schema, o.version, o.part, o.bytes, o.shared,
          o.fingerprint, g.call_id, g.namespace, g.priority, nullif(g.ordering_key, '') as ordering_key,
          greatest(pg_catalog.now(), nullif(g.not_before, '')::pg_catalog.timestamptz) as due_at
        from chunk o join given g on g.n = o.call join recorded using (call_id)
        order by o.n
      ) l
    )${lines.includes(undefined) ? queued : sql``}, kept as (
      insert into ${ledger} (
        seq, call_id, schema_identity, part, namespace, schema_version, handler, handler_version, objects
      )
      select seq, call_id, schema, part, namespace, version, handler, handler_version, objects::pg_catalog.jsonb
      from numbered where handler <> ''
    )${moreOf(t, one)}
    select exists (select from mark) as marked,
      (select pg_catalog.array_agg(seq order by seq) from numbered) as seqs,
      exists (select from ${callSubscription}) as ends`
}

/**
 * The numbers of a call's chunks, if the token holds all of them: then an earlier try has recorded the call, and its answer
 * was lost. A statement of its own, because the earlier one may have committed while the present one waited for it, and only
 * a new snapshot shows its rows.
 */
export const heldOf = ({ queue, sql }: Tables, { callId, outputs }: ServiceCall, token: string) =>
  Effect.map(
    sql<{ seqs: ReadonlyArray<bigint> | null }>`
      select pg_catalog.array_agg(seq order by seq) as seqs from ${queue}
      where call_id = ${callId} and lease_token = ${token}::pg_catalog.uuid`,
    ([row]) => row?.seqs?.length === outputs.length ? row.seqs : undefined
  )

/** The verb. */
export const recordHeld = ({ settings, t }: Engine): ChunkStore["Service"]["recordHeld"] => (call, hold) =>
  recordOneHeld(t, given(call), hold, settings).pipe(
    Effect.flatMap(([row]) => row?.seqs ? Effect.succeed(row.seqs) : heldOf(t, call, hold.token)),
    t.client.statement
  )
