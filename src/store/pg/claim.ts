/**
 * The claim's statements. Either is one commit that does not wait for the disk: losing a claim in a crash loses nothing.
 */
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment, Statement } from "effect/sql/Statement"
import type { ClaimRequest, Kind } from "../../ChunkStore.ts"
import type { Place } from "./lowWater.ts"
import type { Tables } from "./tables.ts"

/**
 * A row of a claim's answer, by place and not by name: an object of twenty names for each row was a sixth of what a drain
 * allocates. What nearly always has one value is null then, which costs neither end anything. When nothing was claimed
 * there is one row, with a null `seq`.
 */
export type ClaimRow = readonly [
  /**
   * On one row, `aside / rank / seq`. Aside: of {@link claimPlain}, whether something special was due and nothing was
   * claimed; of {@link claimAny}, how many chunks were found to be behind an older one of their key, and put aside. Rank
   * and seq: where the claim came to, if anywhere, or a second before that and `/ end` when it took all that is ready.
   */
  said: string | null,
  /** The row's place in the claim's order. */
  place: number,
  seq: bigint | null,
  callId: string,
  schemaIdentity: string,
  part: string,
  namespace: string,
  schemaVersion: number,
  attempts: number,
  recordedAt: Date,
  /**
   * Bytes of what is handed out in this row, when these are more than may be: then `output` is null. Below 0: those of
   * `context` and `input` alone, which are null as well. 0 when there is no output.
   */
  withheld: number | null,
  /** JSON text; null as well when it has a `position`. */
  output: string | null,
  /** Null when it is empty. What follows of the call, up to `outputs`, is null in the row after one of the same call. */
  context: string | null,
  input: string | null,
  service: string | null,
  correlationId: string | null,
  finishedAt: Date | null,
  trace: unknown,
  /** How many outputs the call has. */
  outputs: number | null,
  /** Its place among them when it is one of several of its call that are read together, by `outputs.ts`. */
  position: number | null,
  // a plain claim has none of these
  orderingKey?: string | null,
  crashes?: number,
  loneCrashes?: number
]

/** Where what stands in such a row. Not taken apart by a pattern: that makes an object for each place of each row. */
export const at = {
  said: 0,
  place: 1,
  seq: 2,
  callId: 3,
  schemaIdentity: 4,
  part: 5,
  namespace: 6,
  schemaVersion: 7,
  attempts: 8,
  recordedAt: 9,
  withheld: 10,
  output: 11,
  context: 12,
  input: 13,
  service: 14,
  correlationId: 15,
  finishedAt: 16,
  trace: 17,
  outputs: 18,
  position: 19,
  orderingKey: 20,
  crashes: 21,
  loneCrashes: 22
} as const

/** How a store claims. */
export interface ClaimOptions {
  readonly token: string
  readonly deadBlocksKey: boolean
  /** Where to begin, if not at the beginning: see `lowWater`. */
  readonly from: Place | undefined
  /** The most bytes of JSON handed out for one chunk: what is longer the client would not take. */
  readonly longest: number
  /** Whether the claim is part of a transaction of the caller's, whose commit must last. */
  readonly nested: boolean
}

const kindArrays = ({ sql }: Tables, kinds: ReadonlyArray<Kind>) =>
  sql`${kinds.map((kind) => kind.namespace)}::text[], ${kinds.map((kind) => kind.schemaIdentity)}::text[]`

const onlyAsked = (t: Tables, { callId, except = [], namespace, own = [] }: ClaimRequest) => {
  const { sql } = t
  return sql.and([
    ...(namespace === undefined ? [] : [sql`namespace = ${namespace}`]),
    ...(callId === undefined ? [] : [sql`call_id = ${callId}`]),
    ...(except.length === 0 ? [] : [
      sql`(not exists (
        select from unnest(${kindArrays(t, except)}) e(namespace, schema_identity)
        where e.schema_identity = q.schema_identity and e.namespace in (q.namespace, 'core')
      ) or (q.namespace, q.schema_identity) in (select * from unnest(${kindArrays(t, own)})))`
    ]),
    sql`true`
  ])
}

const onlyAfter = ({ sql }: Tables, from: Place | undefined) =>
  from === undefined ? sql`true` : sql`(rank, seq) >= (${from.rank}::timestamptz, ${from.seq})`

const leaseEnd = ({ sql }: Tables, { lease }: ClaimRequest) =>
  sql`now() + ${Duration.toMillis(lease)} * interval '1 millisecond'`

/**
 * Whether a row comes after another of its call, in the order of a claim. What the chunks of a call share is handed out, and
 * counted, once where they come one after another, as they do unless one failed.
 */
const isAgain = "coalesce(call_id = lag(call_id) over (order by rank, seq), false) as again"
const bytesOnce = "bytes - case when again then shared_bytes else 0 end"

/**
 * What is handed out of the rows in `held`, with their calls; `s` is the one row that is there even when nothing was
 * claimed. For this statement's own commit only, none waits for the disk.
 *
 * Queue rows are found by an array of their numbers and not by a join: a join is planned by a guess of how many there will
 * be, and on a plan kept for all calls that guess was a tenth of the queue, which it read from end to end. Nor is a call
 * looked for by a plan that was made for a small table and reads a large one: `offset 0` keeps the planner from joining, so
 * that each is one descent of the key's index.
 *
 * To take one output out of a call's `outputs` the server unpacks all of them. Of a call of which several chunks are handed
 * out it does so for the first four at most; the others (`mates`) are read together afterwards.
 */
const answer = (
  { call, sql }: Tables,
  { limit }: ClaimRequest,
  { longest, nested }: ClaimOptions,
  aside: Fragment,
  more: Fragment
) =>
  sql`
    select case when h.seq is null or h.seq = s.last_seq then concat_ws(' / ', s.aside, s.last) end, h.place, h.seq, h.call_id,
      h.schema_identity, h.part, h.namespace, h.schema_version, h.attempts, h.recorded_at,
      case when c.shared > ${longest} then -c.shared when coalesce(c.shared, 0) + c.own > ${longest} then coalesce(c.shared, 0) + c.own
        when c.own is null then 0 end,
      case when coalesce(c.shared, 0) + c.own <= ${longest} then c.output end,
      case when c.shared <= ${longest} then nullif(c.context, '{}') end,
      case when c.shared <= ${longest} then c.input end,
      c.service, c.correlation_id, c.finished_at, c.trace, c.outputs, case when h.mates then h.position end ${more}
    from (
      select ${aside} as aside, l.seq as last_seq,
        case when (select count(*) from ready) = ${limit} or (select count(*) from ready) > l.place
          then l.rank || ' / ' || l.seq
        else l.rank - interval '1 second' || ' / 0 / end' end as last
        ${nested ? sql`` : sql`, set_config('synchronous_commit', 'off', true) as nosync`}
      from (select 1) one left join (select rank, seq, place from cut order by place desc limit 1) l on true
    ) s
    left join (
      select *, row_number() over by_rank::int as place, coalesce(call_id = lag(call_id) over by_rank, false) as again,
        coalesce(position > 3 and call_id in (lag(call_id) over by_rank, lead(call_id) over by_rank), false) as mates
      from held window by_rank as (order by rank, seq)
    ) h on true
    left join lateral (
      select t.*, octet_length(t.output) as own, octet_length(t.context) + coalesce(octet_length(t.input), 0) as shared
      from (
        select case when not h.mates then outputs[h.position + 1]::text end as output,
          case when not h.again then context::text end as context, case when not h.again then input::text end as input,
          service, correlation_id, finished_at, trace, case when not h.again then cardinality(outputs) end as outputs
        from ${call} where call_id = h.call_id and not (h.again and h.mates) offset 0
      ) t offset 0
    ) c on true`

// the columns of `answer`
const rows = (statement: Statement<unknown>) => statement.values as Effect.Effect<ReadonlyArray<ClaimRow>, SqlError>

/**
 * Claims what stands first when all of it is plain: no ordering key, never held by a worker that died, not waiting for a
 * retry. Most queues hold nothing else, and then this does in a quarter of the planning and two thirds of the work what
 * {@link claimAny} does. When something special is due it takes nothing and says so in `aside`. Whether anything of the
 * scheduled is due is asked by their order, so that it is one look into their index: for an `exists`, beside 100,000 keys held
 * up by a retry, the server read the table to its end (28 ms).
 */
export const claimPlain = (t: Tables, request: ClaimRequest, options: ClaimOptions) => {
  const { queue, sql } = t
  return rows(sql`
    with ready as materialized (
      select seq, rank, call_id, bytes, shared_bytes,
        ordering_key is not null or lease_token is not null or crashes > 0 as special
      from ${queue} q
      where state = 'ready' and (lease_until is null or lease_until < now())
        and ${onlyAfter(t, options.from)} and ${onlyAsked(t, request)}
      order by rank, seq limit ${request.limit} for update skip locked
    ), special as materialized (
      select coalesce(bool_or(special), false)
        or (
          select true from ${queue} q where state = 'scheduled' and due_at <= now() and ${onlyAsked(t, request)}
          order by due_at, seq limit 1
        ) is not null as found
      from ready
    ), cut as materialized (
      select * from (
        select *, row_number() over by_rank as place, sum(${sql.literal(bytesOnce)}) over by_rank as total
        from (select *, ${sql.literal(isAgain)} from ready) ready window by_rank as (order by rank, seq)
      ) ranked
      where (total <= ${request.maxBytes} or place = 1) and not (select found from special)
    ), held as (
      update ${queue} q set
        lease_until = ${leaseEnd(t, request)}, lease_alone = false, leased_by = ${request.worker},
        lease_token = ${options.token}::uuid
      where seq = any(array(select seq from cut))
      returning q.*
    )
    ${answer(t, request, options, sql.literal("(select found::int from special)"), sql``)}`)
}

/**
 * Claims whatever is due. Two index scans find it: `ready` by rank (unleased, or leased too long), `scheduled` by due
 * time; both skip what other claims have locked. The rest works on those few rows:
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
export const claimAny = (t: Tables, request: ClaimRequest, options: ClaimOptions) => {
  const { dead, queue, sql } = t
  // a claim for one call also looks at what waits behind older chunks: the run may have come free
  const readyStates = request.callId === undefined ? sql`state = 'ready'` : sql`state in ('ready', 'waiting')`
  const columns = sql.literal(
    "seq, rank, call_id, ordering_key, bytes, shared_bytes, lease_token is not null or crashes > 0 as suspect"
  )
  const blockedByDead = options.deadBlocksKey
    ? sql`exists (
        select from ${dead} d where d.ordering_key = c.ordering_key and d.seq < c.seq and d.discarded_at is null
      )`
    : sql`false`
  return rows(sql`
    with ready as materialized (
      select ${columns} from ${queue} q
      where ${readyStates} and (lease_until is null or lease_until < now())
        and ${onlyAfter(t, options.from)} and ${onlyAsked(t, request)}
      order by rank, seq limit ${request.limit} for update skip locked
    ), scheduled as materialized (
      select ${columns} from ${queue} q
      where state = 'scheduled' and due_at <= now() and ${onlyAsked(t, request)}
      order by due_at, seq limit ${request.limit} for update skip locked
    ), cut as materialized (
      select * from (
        select *, row_number() over by_rank as place, sum(${sql.literal(bytesOnce)}) over by_rank as total
        from (
          select *, ${sql.literal(isAgain)} from (select * from ready union all select * from scheduled) due
        ) found
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
      select p.seq from placed p, first f where case when f.lone then p.seq = f.seq else p.in_order end
    ), held as (
      update ${queue} q set
        state = 'ready',
        lease_until = ${leaseEnd(t, request)},
        lease_alone = false,
        leased_by = ${request.worker},
        crashes = least(q.crashes, 2147483646) + (q.lease_token is not null)::int,
        lone_crashes = least(q.lone_crashes, 2147483646) + (q.lease_token is not null and q.lease_alone)::int,
        lease_token = ${options.token}::uuid
      where seq = any(array(select seq from picked))
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
      where state <> 'waiting' and seq = any(array(
        select p.seq from placed p
        where not p.in_order and not p.lone
          and p.ordering_key in (select ordering_key from gate union all select ordering_key from dead_gate)
      ))
      returning 1
    )
    ${
    answer(
      t,
      request,
      options,
      sql.literal("(select count(*)::int from demoted)"),
      sql.literal(", h.ordering_key, h.crashes, h.lone_crashes")
    )
  }`)
}
