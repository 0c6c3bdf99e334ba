/**
 * Chunks that wait behind an older chunk of their ordering key: wakes them, and finds and releases those that nothing
 * blocks.
 */
import * as Effect from "effect/Effect"
import type { Fragment } from "effect/sql/Statement"
import type { Stranded } from "../../Inspector.ts"
import type { Tables } from "./tables.ts"

/** An ordering key with its namespace, in which it is unique. */
export interface OrderingKey {
  readonly namespace: string
  readonly orderingKey: string
}

/** Chunks that no longer block their keys. */
export type Gone = ReadonlyArray<{
  readonly namespace: string
  readonly orderingKey: string | null | undefined
  readonly seq: bigint
}>

/** A key, and the first of its chunks that are gone. */
export interface Freed extends OrderingKey {
  /** As text: some come from JSON, whose numbers are not exact. */
  readonly seq: string
}

/** The keys of these chunks. */
export const keysOf = (chunks: Gone): ReadonlyArray<Freed> => {
  const keys = new Map<string, Freed>()
  for (const { namespace, orderingKey, seq } of chunks) {
    if (typeof orderingKey !== "string") continue
    const name = JSON.stringify([orderingKey, namespace])
    const before = keys.get(name)
    if (before === undefined || BigInt(before.seq) > seq) keys.set(name, { namespace, orderingKey, seq: String(seq) })
  }
  return [...keys.values()]
}

/** The same in SQL: the keys among the rows of a list, as JSON; null without any. */
export const freedOf = ({ sql }: Tables, list: Fragment) =>
  sql`(
      select pg_catalog.json_agg(pg_catalog.json_build_object(
        'namespace', namespace, 'orderingKey', ordering_key, 'seq', seq::pg_catalog.text
      ))
      from (
        select namespace, ordering_key, pg_catalog.min(seq) as seq from ${list} gone
        where ordering_key is not null group by namespace, ordering_key
      ) freed
    )`

/**
 * The first chunks that wait behind those that are gone, some of each key. In this form only the index of waiting chunks
 * can provide the order, and each key is searched once. A plain join depends on statistics, which may be from a time when
 * no chunk waited: it then searched all followers of all keys for each waiting chunk (10,000 of 100 keys: 2.8 s; in this
 * form 8 ms).
 */
export const followersOf = (
  { queue, sql }: Tables,
  keys: ReadonlyArray<Freed>,
  { gone, without = sql`true` }: { readonly gone: number; readonly without?: Fragment }
) =>
  sql`
        select follower.seq, follower.namespace, follower.ordering_key
        from rows from (
          pg_catalog.unnest(${keys.map((key) => key.orderingKey)}::pg_catalog.text[]),
          pg_catalog.unnest(${keys.map((key) => key.namespace)}::pg_catalog.text[]),
          pg_catalog.unnest(${keys.map((key) => key.seq)}::bigint[])
        ) k(key, namespace, seq)
        cross join lateral (
          select ordering_key, namespace, seq from ${queue} w
          where (w.ordering_key, w.namespace, w.seq) > (k.key, k.namespace, k.seq) and w.state = 'waiting' and ${without}
          order by w.ordering_key, w.namespace, w.seq limit ${Math.ceil(2 * Math.max(1, gone / keys.length))}
        ) follower
        where follower.ordering_key = k.key and follower.namespace = k.namespace`

/**
 * Makes the next chunks behind those that are gone claimable, twice as many as are gone: about as many as the next claim
 * takes, and enough for a long key to reach full speed soon. Waking all would be wasted, because the next claim sets all but
 * the few it takes to waiting again: waking 100 of each of 100 keys cost three times as many updates as there were chunks.
 *
 * It waits for rows that others have locked, in the order of `seq` and only behind those that are gone, which this
 * transaction holds: see the order of locks in ARCHITECTURE.md.
 *
 * It must be a separate statement, after the one that removed their predecessors: only then does it see chunks that other
 * claims have set to waiting meanwhile (see `claim`).
 */
export const wakeFollowers = (t: Tables, keys: ReadonlyArray<Freed>, gone: number) =>
  t.sql<{ woken: number }>`
    with behind as materialized (${followersOf(t, keys, { gone })}
    ), picked as materialized (
      select seq from ${t.queue} where state = 'waiting' and seq = any(array(select seq from behind))
      order by seq for update
    ), woken as (
      update ${t.queue} set state = 'ready' where seq = any(array(select seq from picked)) returning 1
    )
    select pg_catalog.count(*)::int as woken from woken`

/** The result of a walk over waiting chunks. */
export interface Walk {
  /** How many keys were examined. Fewer than requested means that there are no more. */
  readonly looked: number
  /** The last of them, where the next walk continues. */
  readonly last: OrderingKey | null
}

/**
 * For a number of ordering keys, in the order of the index of waiting chunks and with one descent each: the first waiting
 * chunk, and whether nothing precedes it: no outstanding chunk, and no dead letter if these block. The rest of such a key is
 * woken when its first chunk is settled. A waiting chunk without a key, which only a manual edit creates, is blocked by
 * nothing as well.
 */
const walkOver = (
  { dead, queue, sql }: Tables,
  { after, deadBlocksKey, keys }: {
    readonly keys: number
    readonly after: OrderingKey | undefined
    readonly deadBlocksKey: boolean
  }
): Fragment => {
  const first = (before: Fragment) =>
    sql`select ordering_key, namespace, seq from ${queue} q where state = 'waiting' and ${before}
      order by ordering_key, namespace, seq limit 1`
  const begin = after === undefined
    ? sql`ordering_key is not null`
    : sql`(ordering_key, namespace) > (${after.orderingKey}, ${after.namespace})`
  return sql`
    recursive walk as (
      select 1 as n, found.* from (${first(begin)}) found
      union all
      select walk.n + 1, found.* from walk
      cross join lateral (${first(sql`(q.ordering_key, q.namespace) > (walk.ordering_key, walk.namespace)`)}) found
      where walk.n < ${keys}
    ), stranded as materialized (
      select seq from walk
      where not exists (
        select from ${queue} o
        where o.ordering_key = walk.ordering_key and o.namespace = walk.namespace and o.seq < walk.seq
      ) and not exists (
        select from ${dead} d
        where d.ordering_key = walk.ordering_key and d.namespace = walk.namespace and d.seq < walk.seq
          and d.discarded_at is null and ${deadBlocksKey}
      )
      union all
      (select seq from ${queue} where state = 'waiting' and ordering_key is null limit ${keys})
    )`
}

const walked = ({ sql }: Tables) =>
  sql`(select pg_catalog.count(*)::int from walk) as looked,
    (
      select pg_catalog.json_build_object('namespace', namespace, 'orderingKey', ordering_key)
      from walk order by n desc limit 1
    ) as last`

/**
 * Releases the waiting chunks that nothing blocks. After the first chunk of a key, claims and settlements wake the others.
 * Such chunks exist only after a fault or a changed setting: the statement that wakes followers has used an old snapshot (a
 * caller's isolation level), `SLUICE_DEAD_BLOCKS_KEY` became false, or rows were edited manually.
 *
 * This cannot lose a wake-up itself. `ready` is always safe: a claim checks a chunk's predecessors under locks, and sets the
 * chunk to waiting again. Only `waiting` needs a reason, and this statement sets no chunk to waiting. If the transaction
 * that removes the last predecessor has not committed yet, that transaction wakes the chunk. If it fails to, or the row is
 * locked now, the next walk finds it.
 */
export const release = (
  t: Tables,
  walk: { readonly keys: number; readonly after: OrderingKey | undefined; readonly deadBlocksKey: boolean }
) =>
  t.sql<Walk & { readonly released: number }>`
    with ${walkOver(t, walk)}, free as materialized (
      select seq from ${t.queue} where seq = any(array(select seq from stranded)) and state = 'waiting'
      for update skip locked
    ), released as (
      update ${t.queue} set state = 'ready' where seq = any(array(select seq from free)) returning 1
    )
    select ${walked(t)}, (select pg_catalog.count(*)::int from released) as released`

/** More keys than can exist. */
const allKeys = 2147483647

/** Waiting chunks that nothing blocks, among the first keys or all: how many, and one of them. Changes nothing. */
export const stranded = (t: Tables, mostKeys: number | undefined, deadBlocksKey: boolean) => {
  const keys = mostKeys ?? allKeys
  return Effect.map(
    t.sql<Walk & { readonly count: number; readonly callId: string | null }>`
    with ${walkOver(t, { keys, after: undefined, deadBlocksKey })}
    select ${walked(t)}, (select pg_catalog.count(*)::int from stranded) as count,
      (select call_id from ${t.queue} where seq = (select pg_catalog.min(seq) from stranded)) as "callId"`,
    ([found]): Stranded => ({
      count: found?.count ?? 0,
      callId: found?.callId ?? undefined,
      complete: (found?.looked ?? 0) < keys
    })
  )
}

/** How many keys a beat examines: some milliseconds of the server's time, and none if no chunk waits. */
const portion = 250

/** Releases waiting chunks that nothing blocks, a portion of the keys at each run, continuing from the previous one. */
export const makeReleasing = (t: Tables, deadBlocksKey: boolean) => {
  let after: OrderingKey | undefined
  return Effect.suspend(() => release(t, { keys: portion, after, deadBlocksKey })).pipe(
    Effect.map(([done]) => {
      after = done === undefined || done.looked < portion ? undefined : done.last ?? undefined
      return done?.released ?? 0
    })
  )
}
