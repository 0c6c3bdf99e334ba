/**
 * The verb `abandon`: a call's service has failed, or no longer runs.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { ChunkStore, RunEnd } from "../../ChunkStore.ts"
import { factsText } from "../../internal/callJson.ts"
import { storableText } from "../../internal/storableText.ts"
import { addedOf, attemptsText, usageText } from "./added.ts"
import type { Engine } from "./engine.ts"
import { orNull, timeOf } from "./given.ts"
import type { Tables } from "./tables.ts"

/** Ends the run without outputs, and keeps what it was given. Returns no row if the run does not hold the call. */
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

/**
 * Adds the attempts of a run that no longer holds its call. A run's attempts are written together: if the first is there, an
 * earlier try has committed. The call is locked, so that an erasure that is under way is seen.
 */
const addLate = (t: Tables, callId: string, { attempts = [], usage }: RunEnd): Effect.Effect<void, SqlError> => {
  const [first] = attempts
  if (first === undefined) return Effect.void
  const erased = attempts.map((attempt) => ({ ...attempt, text: null, error: null }))
  return Effect.asVoid(t.sql`
    with ended as materialized (
      select c.call_id, c.namespace, pg_catalog.now() as finished_at, case when c.erasure is null
          then ${attemptsText({ attempts })}::pg_catalog.text else ${
    attemptsText({ attempts: erased })
  }::pg_catalog.text
        end as attempts, ${usageText({ usage })}::pg_catalog.text as usage
      from ${t.call} c
      where c.call_id = ${callId} and not exists (
        select from ${t.attempt} a
        where a.call_id = c.call_id and a.place = 0 and a.answered_at = ${timeOf(first.at)}::pg_catalog.timestamptz
      )
      for update
    ), ${addedOf(t, "ended")}
    select call_id from ended`)
}

/** Releases the call as if the run had not begun: another run can take it immediately. */
export const giveBack = ({ call, sql }: Tables, callId: string, token: string) =>
  sql`update ${call} set run_until = pg_catalog.now() - interval '1 second'
    where call_id = ${callId} and run_token = ${token}::pg_catalog.uuid and status = 'running'`

/** The verb. */
export const abandon = ({ t }: Engine): ChunkStore["Service"]["abandon"] => (callId, token, end) =>
  end === undefined ?
    Effect.asVoid(t.client.statement(giveBack(t, callId, token))) :
    Effect.flatMap(
      t.client.statement(fail(t, callId, token, end)),
      // a statement of its own: it sees what has been committed meanwhile
      (held) => held.length > 0 ? Effect.void : t.client.statement(addLate(t, callId, end))
    )
