/**
 * The verb `renewRun`: extends the run of a call whose service still runs. A token is there only while a run or a repair
 * holds the call.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { Engine } from "./engine.ts"
import { inFuture } from "./time.ts"

/** The verb. */
export const renewRun = ({ t }: Engine): ChunkStore["Service"]["renewRun"] => (callId, token, lease) =>
  t.sql`update ${t.call} set run_until = ${inFuture(t, lease)}
    where call_id = ${callId} and run_token = ${token}::pg_catalog.uuid returning 1 as held`
    .pipe(
      Effect.map((rows) => rows.length > 0),
      t.client.statement
    )
