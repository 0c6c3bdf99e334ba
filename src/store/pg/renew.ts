/**
 * The verb `renew`: extends a worker's leases.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { Engine } from "./engine.ts"
import type { Tables } from "./tables.ts"
import { inFuture } from "./time.ts"

/**
 * Extends the lease of the rows that this token still holds, and returns them. A locked row is being settled by the very
 * claim that is renewed: it counts as held, and the statement does not wait for it.
 */
const renewed = (
  { queue, sql }: Tables,
  token: string,
  seqs: ReadonlyArray<bigint>,
  lease: Duration.Duration,
  alone: boolean
) =>
  sql<{ seq: bigint }>`
    with free as materialized (
      select seq from ${queue}
      where seq = any(${seqs}::bigint[]) and lease_token = ${token}::pg_catalog.uuid
      for update skip locked
    ), renewed as (
      update ${queue} set
        lease_until = ${inFuture({ sql }, lease)},
        lease_alone = lease_alone or ${alone}
      where seq = any(array(select seq from free))
    )
    select seq from ${queue} where seq = any(${seqs}::bigint[]) and lease_token = ${token}::pg_catalog.uuid`

/** The verb. */
export const renew = ({ t }: Engine): ChunkStore["Service"]["renew"] =>
  Effect.fnUntraced(function*(token, chunks, lease, alone = false) {
    if (chunks.length === 0) return []
    const rows = yield* renewed(t, token, chunks.map((chunk) => chunk.seq), lease, alone)
    const held = new Set(rows.map((row) => row.seq))
    return chunks.filter((chunk) => held.has(chunk.seq))
  }, t.client.statement)
