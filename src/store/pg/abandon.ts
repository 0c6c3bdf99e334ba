/**
 * The verb `abandon`: a call's service has failed, or no longer runs.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore, RunEnd } from "../../ChunkStore.ts"
import { factsText } from "../../internal/callJson.ts"
import { storableText } from "../../internal/storableText.ts"
import { addedOf, attemptsText, usageText } from "./added.ts"
import type { Engine } from "./engine.ts"
import { orNull } from "./given.ts"
import type { Tables } from "./tables.ts"

/** Ends the run without outputs, and keeps what it was given. Of a run that is not held nothing is kept. */
const fail = (t: Tables, callId: string, token: string, end: RunEnd) =>
  t.sql`
    with ended as (
      update ${t.call} set status = ${end.status}, error = ${storableText(end.error)},
        facts = ${
    orNull(factsText(end.facts))
  }::pg_catalog.json, run_token = null, run_until = null, finished_at = pg_catalog.now()
      where call_id = ${callId} and run_token = ${token}::pg_catalog.uuid and status = 'running'
      returning call_id, namespace, finished_at, ${attemptsText(end)}::pg_catalog.text as attempts,
        ${usageText(end)}::pg_catalog.text as usage
    ), ${addedOf(t, "ended")}
    select call_id from ended`

/** Releases the call as if the run had not begun: another run can take it immediately. */
const giveBack = ({ call, sql }: Tables, callId: string, token: string) =>
  sql`update ${call} set run_until = pg_catalog.now() - interval '1 second'
    where call_id = ${callId} and run_token = ${token}::pg_catalog.uuid and status = 'running'`

/** The verb. */
export const abandon = ({ t }: Engine): ChunkStore["Service"]["abandon"] => (callId, token, end) =>
  (end === undefined ? giveBack(t, callId, token) : fail(t, callId, token, end)).pipe(
    Effect.asVoid,
    t.client.statement
  )
