/**
 * The verb `giveUp`: releases the chunks of a claim whose answer was lost.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { Engine } from "./engine.ts"
import type { Tables } from "./tables.ts"
import { takeBackCrashes } from "./takeBackCrashes.ts"

/**
 * Releases everything that a token holds, including chunks set to waiting after their lease had ended. Uses no index: it is
 * rarely called, and each index makes every claim slower.
 */
const givenUp = ({ queue, sql }: Tables, token: string) =>
  sql`
    with held as materialized (
      select seq from ${queue} where state in ('ready', 'waiting') and lease_token = ${token}::pg_catalog.uuid
      order by seq for update
    )
    update ${queue} set lease_token = null, lease_until = null, lease_alone = false, leased_by = null
    where seq = any(array(select seq from held))`

/** The verb. */
export const giveUp = ({ claiming, t }: Engine): ChunkStore["Service"]["giveUp"] => (token) =>
  givenUp(t, token).pipe(
    Effect.andThen(takeBackCrashes(t, token, undefined)),
    Effect.andThen(Effect.sync(claiming.lookAgain)),
    t.client.statement
  )
