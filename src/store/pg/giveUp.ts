/**
 * The verb `giveUp`: for whoever did not hear the answer to its claim.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { Engine } from "./engine.ts"
import type { Tables } from "./tables.ts"
import { takeBackCrashes } from "./takeBackCrashes.ts"

/**
 * Gives back whatever a token holds, also what was put aside after its lease had ended. By no index: it is hardly ever asked,
 * and one more index is paid for at every claim.
 */
const givenUp = ({ queue, sql }: Tables, token: string) =>
  sql`update ${queue} set lease_token = null, lease_until = null, lease_alone = false, leased_by = null
    where state in ('ready', 'waiting') and lease_token = ${token}::pg_catalog.uuid`

/** The verb. */
export const giveUp = ({ claiming, t }: Engine): ChunkStore["Service"]["giveUp"] => (token) =>
  givenUp(t, token).pipe(
    Effect.andThen(takeBackCrashes(t, token, undefined)),
    Effect.andThen(Effect.sync(claiming.lookAgain)),
    t.client.statement
  )
