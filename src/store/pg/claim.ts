/**
 * The claim: one statement, which commits without waiting for the disk. Losing a claim in a crash loses nothing.
 */
import * as Duration from "effect/Duration"
import type { ClaimRequest } from "../../ChunkStore.ts"
import type { Tables } from "./tables.ts"

/** A row of the claim's answer. When nothing was claimed there is one, with a null `seq`. */
export interface ClaimRow {
  /** How many chunks were found to be behind an older one of their key, and put aside. */
  readonly demoted: number
  readonly seq: bigint | null
  readonly call_id: string
  readonly schema_identity: string
  readonly part: string
  readonly namespace: string
  readonly schema_version: number
  readonly ordering_key: string | null
  readonly attempts: number
  readonly crashes: number
  readonly lone_crashes: number
  readonly recorded_at: Date
  readonly found: boolean
  readonly data: unknown
  readonly service: string | null
  readonly correlation_id: string | null
  readonly context: unknown
  readonly input: unknown
  readonly finished_at: Date | null
  readonly trace: unknown
}

/**
 * Two index scans find what is due: `ready` by rank (unleased, or leased too long), `scheduled` by due time; both skip
 * what other claims have locked. The rest works on those few rows:
 *
 * - `cut` keeps the first by rank, bounded in rows and bytes.
 * - `placed` knows of every chunk with an ordering key whether it is part of an unbroken run from the oldest one
 *   outstanding of its key (`in_order`), and of every suspect whether it could go alone (`lone`).
 * - `picked` is the first suspect alone, if it comes first; otherwise all that are in order.
 * - `demoted` takes chunks whose key is held up elsewhere out of the hot index (those that are out of it already do not
 *   count: a claim for their call would look again and again). It holds the lock of what holds them up
 *   (`gate`) while doing so: whoever settles that one waits for this statement and then sees them waiting, so that none
 *   is forgotten. A predecessor that is being settled at this moment cannot be locked; then nothing is demoted.
 */
export const claim = (
  { call, dead, queue, sql }: Tables,
  request: ClaimRequest,
  token: string,
  deadBlocksKey: boolean
) => {
  const only = sql.and([
    ...(request.namespace === undefined ? [] : [sql`namespace = ${request.namespace}`]),
    ...(request.callId === undefined ? [] : [sql`call_id = ${request.callId}`]),
    ...(request.except === undefined || request.except.length === 0 ? [] : [
      sql`not exists (select from unnest(
        ${request.except.map((kind) => kind.namespace)}::text[],
        ${request.except.map((kind) => kind.schemaIdentity)}::text[]
      ) e(namespace, schema_identity)
      where e.schema_identity = q.schema_identity and (e.namespace = q.namespace or e.namespace = 'core'))`
    ]),
    sql`true`
  ])
  // a claim for one call also looks at what waits behind older chunks: the run may have come free
  const readyStates = request.callId === undefined ? sql`state = 'ready'` : sql`state in ('ready', 'waiting')`
  const columns = sql.literal(
    "seq, rank, ordering_key, bytes, lease_token is not null or crashes > 0 as suspect"
  )
  const blockedByDead = deadBlocksKey
    ? sql`exists (
        select from ${dead} d where d.ordering_key = c.ordering_key and d.seq < c.seq and d.discarded_at is null
      )`
    : sql`false`
  return sql<ClaimRow>`
    with ready as materialized (
      select ${columns} from ${queue} q
      where ${readyStates} and (lease_until is null or lease_until < now()) and ${only}
      order by rank, seq limit ${request.limit} for update skip locked
    ), scheduled as materialized (
      select ${columns} from ${queue} q
      where state = 'scheduled' and due_at <= now() and ${only}
      order by due_at, seq limit ${request.limit} for update skip locked
    ), cut as materialized (
      select * from (
        select *, row_number() over by_rank as place, sum(bytes) over by_rank as total
        from (select * from ready union all select * from scheduled) found
        window by_rank as (order by rank, seq)
      ) ranked
      where place <= ${request.limit} and (total <= ${request.maxBytes} or place = 1)
    ), chained as (
      select c.*,
        lag(c.seq) over (partition by c.ordering_key order by c.seq) as previous,
        case when c.ordering_key is not null then (
          select max(o.seq) from ${queue} o where o.ordering_key = c.ordering_key and o.seq < c.seq
        ) end as behind,
        c.ordering_key is not null and ${blockedByDead} as blocked
      from cut c
    ), placed as materialized (
      select *,
        case when ordering_key is null then not suspect
        else bool_and(not suspect and not blocked and behind is not distinct from previous)
          over (partition by ordering_key order by seq) end as in_order,
        suspect and not blocked and behind is null as lone
      from chained
    ), first as (
      select seq, lone from placed where lone or in_order order by place limit 1
    ), picked as (
      select p.seq, f.lone from placed p, first f where case when f.lone then p.seq = f.seq else p.in_order end
    ), held as (
      update ${queue} q set
        state = 'ready',
        lease_until = now() + ${Duration.toMillis(request.lease)} * interval '1 millisecond',
        lease_alone = false,
        leased_by = ${request.worker},
        crashes = least(q.crashes, 2147483646) + (q.lease_token is not null)::int,
        lone_crashes = least(q.lone_crashes, 2147483646) + (q.lease_token is not null and q.lease_alone)::int,
        lease_token = ${token}::uuid
      from picked p where q.seq = p.seq
      returning q.*
    ), stuck as (
      select distinct on (ordering_key) ordering_key, behind, blocked from placed
      where ordering_key is not null and not in_order and not lone
        and (blocked or behind is distinct from previous)
      order by ordering_key, seq
    ), gate as (
      select o.ordering_key from ${queue} o
      where o.seq in (select behind from stuck) and o.seq not in (select seq from cut)
      for update skip locked
    ), dead_gate as (
      select d.ordering_key from ${dead} d
      where d.ordering_key in (select ordering_key from stuck where blocked) and d.discarded_at is null
      for update skip locked
    ), demoted as (
      update ${queue} q set state = 'waiting'
      from placed p
      where q.seq = p.seq and q.state <> 'waiting' and not p.in_order and not p.lone
        and p.ordering_key in (select ordering_key from gate union all select ordering_key from dead_gate)
      returning 1
    )
    select d.demoted, h.seq, h.call_id, h.schema_identity, h.part, h.namespace, h.schema_version, h.ordering_key,
      h.attempts, h.crashes, h.lone_crashes, h.recorded_at,
      c.outputs -> h.position is not null as found, c.outputs -> h.position -> 'data' as data,
      c.service, c.correlation_id, c.context, c.input, c.finished_at, c.trace
    from (
      -- for this statement's own commit only
      select count(*)::int as demoted, set_config('synchronous_commit', 'off', true) as nosync from demoted
    ) d
    left join held h on true
    left join ${call} c on c.call_id = h.call_id
    order by h.rank, h.seq`
}
