/**
 * The verb `abandon`: a call's service has failed, or no longer runs.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../../ChunkStore.ts"
import { storableText } from "../../internal/storableText.ts"
import type { Engine } from "./engine.ts"
import type { Tables } from "./tables.ts"

/** Ends the run as failed. */
const fail = ({ call, sql }: Tables, callId: string, token: string, error: string) =>
  sql`update ${call} set status = 'failed', error = ${error}, run_token = null, run_until = null, finished_at = pg_catalog.now()
    where call_id = ${callId} and run_token = ${token}::pg_catalog.uuid and status = 'running'`

/** Releases the call as if the run had not begun: another run can take it immediately. */
const giveBack = ({ call, sql }: Tables, callId: string, token: string) =>
  sql`update ${call} set run_until = pg_catalog.now() - interval '1 second'
    where call_id = ${callId} and run_token = ${token}::pg_catalog.uuid and status = 'running'`

/** The verb. */
export const abandon = ({ t }: Engine): ChunkStore["Service"]["abandon"] => (callId, token, end) =>
  (end === undefined ? giveBack(t, callId, token) : fail(t, callId, token, storableText(end.error))).pipe(
    Effect.asVoid,
    t.client.statement
  )
