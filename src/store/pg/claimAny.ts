/**
 * The claim that handles ordering keys, retries and chunks whose worker died.
 */
import type { ClaimRequest } from "../../ChunkStore.ts"
import {
  answer,
  bytesOnce,
  type ClaimOptions,
  inRange,
  isAgain,
  isFree,
  onlyAsked,
  rows,
  saidOf
} from "./claimParts.ts"
import type { Tables } from "./tables.ts"
import { inFuture } from "./time.ts"

/**
 * The chunks to examine. Two index scans find them: `ready` by rank (unleased, or with an expired lease), `scheduled` by due
 * time. Both skip locked rows. The rest works on those few rows and computes for each:
 *
 * - `in_order`: it is part of an unbroken run that starts at the oldest outstanding chunk of its key;
 * - `lone`: it was held when a worker died, and can be claimed alone;
 * - `turn`: its place among all free chunks. No chunk's turn precedes that of an older chunk of its key, so a claim that
 *   takes the first chunks by turn never takes one without its predecessors.
 */
const looked = (t: Tables, request: ClaimRequest, options: ClaimOptions) => {
  const { dead, queue, sql } = t
  // a claim for one call also examines waiting chunks: the older chunks of their keys may be gone
  const readyStates = request.callId === undefined ? sql`state = 'ready'` : sql`state in ('ready', 'waiting')`
  const columns = sql.literal(
    "seq, rank, due_at, state, call_id, namespace, ordering_key, bytes, shared_bytes, lease_token is not null or crashes > 0 as suspect"
  )
  const blockedByDead = options.deadBlocksKey
    ? sql`exists (
        select from ${dead} d
        where d.ordering_key = c.ordering_key and d.namespace = c.namespace and d.seq < c.seq and d.discarded_at is null
      )`
    : sql`false`
  return sql`ready as materialized (
      select ${columns} from ${queue} q
      where ${readyStates} and ${isFree(t, options)} and ${inRange(t, "rank", options.ready)} and ${
    onlyAsked(t, request)
  }
      order by rank, seq limit ${options.window} for update skip locked
    ), scheduled as materialized (
      select ${columns} from ${queue} q
      where state = 'scheduled' and due_at <= pg_catalog.now() and ${inRange(t, "due_at", options.scheduled)}
        and ${onlyAsked(t, request)}
      order by due_at, seq limit ${options.window} for update skip locked
    ), chained as (
      select c.*,
        pg_catalog.lag(c.seq) over (partition by c.namespace, c.ordering_key order by c.seq) as previous,
        case when c.ordering_key is not null then (
          select pg_catalog.max(o.seq) from ${queue} o
          where o.ordering_key = c.ordering_key and o.namespace = c.namespace and o.seq < c.seq
        ) end as behind,
        c.ordering_key is not null and ${blockedByDead} as blocked
      from (select * from ready union all select * from scheduled) c
    ), placed as materialized (
      select *,
        case when ordering_key is null then not suspect
        else pg_catalog.bool_and(not suspect and not blocked and behind is not distinct from previous) over of_key
        end as in_order,
        suspect and not blocked and behind is null as lone,
        case when ordering_key is null then rank else pg_catalog.max(rank) over of_key end as turn
      from chained window of_key as (partition by namespace, ordering_key order by seq)
    )`
}

/**
 * Moves chunks whose key is blocked by another chunk or letter out of the hot index: `demoted`. Waiting chunks are out of it
 * already and do not count.
 *
 * The statement holds a lock on the blocking row (`gate`, `dead_gate`) meanwhile. A settlement of that row waits for this
 * statement, then sees the waiting chunks, and wakes them. The gate must therefore precede the chunk itself: a younger dead
 * letter of the key blocks nothing, and discarding the older one does not wait for its lock. A blocking row that cannot be
 * locked is being settled right now; then nothing is demoted, and the scan continues behind it.
 *
 * Not done within a caller's transaction: the locks would last until its end, and the settlement of the gate would wait for
 * it.
 */
const putAside = ({ dead, queue, sql }: Tables) =>
  sql`stuck as materialized (
      select distinct on (namespace, ordering_key) namespace, ordering_key, seq, behind, blocked from placed
      where ordering_key is not null and not in_order and not lone
        and (blocked or behind is distinct from previous)
      order by namespace, ordering_key, seq
    ), gate as materialized (
      select o.namespace, o.ordering_key, o.seq from ${queue} o
      where o.seq = any(array(select behind from stuck)) and o.seq not in (select seq from placed)
      for update skip locked
    ), dead_gate as materialized (
      select s.namespace, s.ordering_key, letter.seq from stuck s
      cross join lateral (
        select d.seq from ${dead} d
        where d.ordering_key = s.ordering_key and d.namespace = s.namespace and d.seq < s.seq and d.discarded_at is null
        order by d.seq limit 1 for update skip locked
      ) letter
      where s.blocked
    ), demoted as (
      update ${queue} q set state = 'waiting'
      where state <> 'waiting' and seq = any(array(
        select p.seq from placed p
        join (select * from gate union all select * from dead_gate) g
          on g.namespace = p.namespace and g.ordering_key = p.ordering_key and g.seq < p.seq
        where not p.in_order and not p.lone
      ))
      returning 1
    )`

/**
 * Claims due chunks among those it examines. `cut` is the first suspect alone, if its turn comes first; otherwise as many
 * chunks in order as the limits allow. A claim that takes nothing reports where to continue.
 */
export const claimAny = (t: Tables, request: ClaimRequest, options: ClaimOptions) => {
  const { pause, queue, sql } = t
  /** Where a list continues: after its last row, if there may be more. */
  const next = (list: "ready" | "scheduled", column: "rank" | "due_at") => {
    const isFull = `(select pg_catalog.count(*) from ${list}) =`
    const last = (value: string) =>
      sql.literal(`(select ${value} from ${list} order by ${column} desc, seq desc limit 1)`)
    return sql`case when ${sql.literal(isFull)} ${options.window} then ${last(column)} end,
      case when ${sql.literal(isFull)} ${options.window} then ${last("seq::pg_catalog.text")} end`
  }
  return rows(sql`
    with ${looked(t, request, options)}, first as (
      select seq, lone from placed where lone or in_order order by turn, seq limit 1
    ), cut as materialized (
      select * from (
        select seq, pg_catalog.row_number() over by_turn as place,
          pg_catalog.sum(${sql.literal(bytesOnce)}) over by_turn as total
        from (
          select p.*, ${sql.literal(isAgain("turn", "p."))} from placed p, first f
          where case when f.lone then p.seq = f.seq else p.in_order end
        ) free
        window by_turn as (order by turn, seq)
      ) ranked
      where place <= ${request.limit} and (total <= ${request.maxBytes} or place = 1)
    ), held as (
      update ${queue} q set
        state = 'ready',
        lease_until = ${inFuture(t, request.lease)},
        lease_alone = false,
        leased_by = ${request.worker},
        -- an expired lease counts as a crash until its worker reports again (see takeBackCrashes)
        crashes = least(q.crashes, 2147483646) + (q.lease_token is not null)::int,
        lone_crashes = least(q.lone_crashes, 2147483646) + (q.lease_token is not null and q.lease_alone)::int,
        lost_leases = case when q.lease_token is null then q.lost_leases
          else coalesce(q.lost_leases, '{}') || pg_catalog.jsonb_build_object(q.lease_token, q.lease_alone) end,
        lease_token = ${options.token}::pg_catalog.uuid
      where seq = any(array(select seq from cut))
      returning q.*
    ), ${options.nested ? sql`demoted as (select 1 where false)` : putAside(t)}, left_free as materialized (
      select rank, seq from placed
      where (in_order or lone) and state <> 'scheduled' and seq not in (select seq from cut)
      order by rank, seq limit 1
    ), ${
    saidOf(t, {
      aside: sql`(select pg_catalog.count(*)::int from demoted)`,
      mark: sql`select r.rank, r.seq from ready r
        where not exists (select from left_free l where (l.rank, l.seq) <= (r.rank, r.seq))
        order by r.rank desc, r.seq desc limit 1`,
      ended: sql`(select pg_catalog.count(*) < ${options.window} from ready) and not exists (select from left_free)`,
      next: sql`${next("ready", "rank")}, ${next("scheduled", "due_at")}`,
      paused: request.callId === undefined ? sql`null` : sql`(
        select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
          'namespace', namespace, 'schemaIdentity', schema_identity
        )), '[]') from ${pause}
      )`
    })
  }
    ${answer(t, options, sql`, h.ordering_key, h.crashes, h.lone_crashes`)}`)
}
