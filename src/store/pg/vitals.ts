/**
 * The doctor's queries of Sluice's tables: indexed reads only, so they are cheap on a busy database.
 */
import * as Effect from "effect/Effect"
import type { HeldUp, ParkedKind, Scheduled } from "../../Inspector.ts"
import type { Kind } from "../../Kind.ts"
import { alive } from "./beat.ts"
import { core } from "./claimParts.ts"
import { count } from "./counts.ts"
import { servesOf } from "./serves.ts"
import type { Tables } from "./tables.ts"

/** Leases that ended long ago and were not claimed again. They are first by rank, so the rest of the queue is not read. */
export const staleLeases = ({ queue, sql }: Tables) =>
  count(sql<{ count: number }>`
    select pg_catalog.count(*)::int as count from (
      select lease_until from ${queue} where state = 'ready' order by rank, seq limit 1000) first
    where lease_until < pg_catalog.now() - interval '5 minutes'`)

/** Chunks that fail repeatedly: the next ones to be retried, when they began to fail, and the latest error. */
export const scheduled = ({ failure, queue, sql }: Tables) =>
  Effect.map(
    sql<{ count: number; seconds: number | null; callId: string | null; message: string | null }>`
    with failing as materialized (
      select call_id, schema_identity, part, seq from (
        select call_id, schema_identity, part, seq, attempts from ${queue}
        where state = 'scheduled' order by due_at, seq limit 1000
      ) first where attempts > 0
    ), latest as (
      select call_id, message from failing cross join lateral (
        select id, message from ${failure} f
        where f.call_id = failing.call_id and f.schema_identity = failing.schema_identity and f.part = failing.part
        order by id desc limit 1
      ) f order by id desc limit 1
    )
    select (select pg_catalog.count(*)::int from failing) as count,
      (
        select case when pg_catalog.min(f.at) is not null
            then greatest(0, pg_catalog.round(extract(epoch from pg_catalog.now() - pg_catalog.min(f.at))))::pg_catalog.float8 end
        from (select * from failing order by seq limit 1) oldest
        join ${failure} f using (call_id, schema_identity, part)
      ) as seconds,
      (select call_id from latest) as "callId", (select message from latest) as message`,
    ([row]): Scheduled => ({
      count: row?.count ?? 0,
      seconds: row?.seconds ?? undefined,
      callId: row?.callId ?? undefined,
      message: row?.message ?? undefined
    })
  )

/** Chunks behind a dead letter of their ordering key, counted up to a thousand, and one of the blocking calls. */
export const heldUp = ({ dead, queue, sql }: Tables) =>
  Effect.map(
    sql<{ count: number; callId: string | null }>`
    select pg_catalog.count(*)::int as count, pg_catalog.min(call_id) as "callId" from (
      select d.call_id from (
        select call_id, ordering_key, namespace, seq from ${dead}
        where ordering_key is not null and discarded_at is null limit 1000
      ) d cross join lateral (
        select seq from ${queue} q
        where q.ordering_key = d.ordering_key and q.namespace = d.namespace and q.seq > d.seq order by q.seq limit 1000
      ) behind limit 1000
    ) held_up`,
    ([row]): HeldUp => ({ count: row?.count ?? 0, callId: row?.callId ?? undefined })
  )

/**
 * Kinds that no living worker serves. No worker has parked them either, because none drains their namespace. They are
 * searched among the first thousand ready chunks and the first thousand due scheduled ones.
 */
export const unservedKinds = (t: Tables) => {
  const { queue, sql, worker } = t
  return sql<Kind>`
    with served as materialized (
      select s.namespace, s.schema_identity from ${worker} cross join lateral ${servesOf(t, "serves")} s
      where beat_at > pg_catalog.now() - ${sql.literal(alive)}
    )
    select distinct namespace, schema_identity as "schemaIdentity" from (
      (
        select namespace, schema_identity, lease_until from ${queue}
        where state = 'ready' order by rank, seq limit 1000
      ) union all (
        select namespace, schema_identity, null from ${queue}
        where state = 'scheduled' and due_at <= pg_catalog.now() order by due_at, seq limit 1000
      )
    ) first
    where (lease_until is null or lease_until < pg_catalog.now()) and not exists (
      select from served s where s.schema_identity = first.schema_identity and s.namespace in (first.namespace, ${
    sql.literal(core)
  })
    )
    order by namespace, "schemaIdentity" limit 100`
}

/** Kinds that are parked, and why: a walk over the distinct kinds and reasons, not over the parked. */
export const parkedKinds = ({ queue, sql }: Tables) =>
  sql<ParkedKind>`
    with recursive walk as (
      (select namespace, schema_identity, parked_for from ${queue} where state = 'parked'
        order by namespace, schema_identity, parked_for limit 1)
      union all
      select n.* from walk w cross join lateral (
        select namespace, schema_identity, parked_for from ${queue} q
        where state = 'parked'
          and (q.namespace, q.schema_identity, q.parked_for) > (w.namespace, w.schema_identity, w.parked_for)
        order by namespace, schema_identity, parked_for limit 1) n
    ) select namespace, schema_identity as "schemaIdentity", parked_for as reason from walk limit 100`

/** Dead letters that are not discarded, counted up to a thousand. */
export const deadLetters = ({ dead, sql }: Tables) =>
  count(sql<{ count: number }>`
    select pg_catalog.count(*)::int as count from (
      select from ${dead} where discarded_at is null limit 1000) letters`)
