/**
 * Finds when a worker has work again.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Later } from "../../Inspector.ts"
import { toUtc } from "./chunk.ts"
import type { Tables } from "./tables.ts"

/** How many chunks wait until a later time, and the first of these times. */
export const later = ({ queue, sql }: Tables, namespace: string | undefined) =>
  Effect.map(
    sql<{ chunks: number; next: Date | null }>`
      select pg_catalog.count(*)::int as chunks, pg_catalog.min(due_at) as next from ${queue}
      where state = 'scheduled' and due_at > pg_catalog.now() ${
      namespace === undefined ? sql`` : sql`and namespace = ${namespace}`
    }`,
    ([row]): Later => ({ chunks: row?.chunks ?? 0, next: row?.next == null ? undefined : toUtc(row.next) })
  )

/**
 * When the next chunk becomes claimable. Only the first thousand leases are examined: the others end no earlier than a
 * worker would poll.
 */
export const nextDue = ({ queue, sql }: Tables) =>
  Effect.map(
    sql<{ at: Date | null }>`
      select least(
        (select pg_catalog.min(coalesce(lease_until, pg_catalog.now())) from (
          select lease_until from ${queue} where state = 'ready' order by rank, seq limit 1000
        ) first),
        (select due_at from ${queue} where state = 'scheduled' order by due_at, seq limit 1)
      ) as at`,
    ([row]) => Option.map(Option.fromNullishOr(row?.at), toUtc)
  )
