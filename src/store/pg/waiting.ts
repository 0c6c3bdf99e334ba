/**
 * Chunks that wait behind an older one of their ordering key: how they are woken, and how those are found and released
 * that wait behind nothing.
 */
import * as Effect from "effect/Effect"
import type { Fragment } from "effect/sql/Statement"
import type { Stranded } from "../../Inspector.ts"
import type { Tables } from "./tables.ts"

/** An ordering key. It counts within its namespace. */
export interface OrderingKey {
  readonly namespace: string
  readonly orderingKey: string
}

/** Chunks that have left their ordering keys, as far as it matters here. */
export type Gone = ReadonlyArray<{ readonly namespace: string; readonly orderingKey: string | null | undefined }>

/** The keys of these chunks, each once, always in the same order, so that two that wake them cannot wait for each other. */
export const keysOf = (chunks: Gone): ReadonlyArray<OrderingKey> => {
  const keys = new Map<string, OrderingKey>()
  for (const { namespace, orderingKey } of chunks) {
    if (typeof orderingKey === "string") keys.set(JSON.stringify([orderingKey, namespace]), { namespace, orderingKey })
  }
  return [...keys].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, key]) => key)
}

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
export const wakeFollowers = ({ queue, sql }: Tables, keys: ReadonlyArray<OrderingKey>, gone: number) =>
  sql<{ woken: number }>`
    with woken as (
      update ${queue} q set state = 'ready'
      where state = 'waiting' and seq = any(array(
        select follower.seq
        from rows from (
          pg_catalog.unnest(${keys.map((key) => key.orderingKey)}::pg_catalog.text[]),
          pg_catalog.unnest(${keys.map((key) => key.namespace)}::pg_catalog.text[])
        ) k(key, namespace)
        cross join lateral (
          select ordering_key, namespace, seq from ${queue} w
          where (w.ordering_key, w.namespace, w.seq) >= (k.key, k.namespace, 0) and w.state = 'waiting'
          order by w.ordering_key, w.namespace, w.seq limit ${Math.ceil(2 * Math.max(1, gone / keys.length))}
        ) follower
        where follower.ordering_key = k.key and follower.namespace = k.namespace
      ))
      returning 1
    )
    select pg_catalog.count(*)::int as woken from woken`

/** How a walk over what waits came out. */
export interface Walk {
  /** Keys that were looked at. Fewer than asked for: there are no more. */
  readonly looked: number
  /** The last of them: where the next walk goes on. */
  readonly last: OrderingKey | null
}

/**
 * Of so many ordering keys, in the order of the index of what waits and each by one descent into it, the first chunk that
 * waits, and whether nothing stands before it: no outstanding chunk, and no dead letter where these block. The rest of
 * such a key is woken when its first is settled. A chunk that waits without a key, which only an edit by hand makes, waits
 * behind nothing as well.
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
 * Releases the chunks that wait behind nothing: after the first of a key a claim and the settlements wake the others. How
 * a chunk comes to wait behind nothing is always a mistake, or a setting that was switched: the statement that wakes
 * followers has seen an old snapshot (isolation of a caller's), `SLUICE_DEAD_BLOCKS_KEY` became false, rows were edited.
 *
 * This cannot lose a wake-up itself. That a chunk is `ready` is always safe: a claim looks at what stands before it under
 * locks, and puts it aside again. Only `waiting` needs a reason, and this statement puts nothing there. What it does not
 * see yet, because the transaction that removes the last predecessor has not committed, that transaction wakes itself;
 * and where that one fails to, or the row is locked at this moment, the next walk finds it.
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

/** More keys than there are. */
const allKeys = 2147483647

/** What waits behind nothing among the first so many keys, or all: how many, and one of them. Changes nothing. */
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

/** How many keys a beat looks at: some milliseconds of the server's time, and nothing where nothing waits. */
const portion = 250

/** Releases what waits behind nothing, a portion of the keys each time it is run, on from where it was. */
export const makeReleasing = (t: Tables, deadBlocksKey: boolean) => {
  let after: OrderingKey | undefined
  return Effect.suspend(() => release(t, { keys: portion, after, deadBlocksKey })).pipe(
    Effect.map(([done]) => {
      after = done === undefined || done.looked < portion ? undefined : done.last ?? undefined
      return done?.released ?? 0
    })
  )
}
