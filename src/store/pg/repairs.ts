/**
 * Repairs of rejected answers. A repair has its lease in the same columns as a run, `run_token` and `run_until`, but on a
 * call that has succeeded.
 *
 * The call is locked first, then its letter, as in an erasure. So the second of two transactions sees what the first did to
 * both.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import { ChunkStoreError } from "../../ChunkStore.ts"
import type { DeadLetters, RepairEnd } from "../../DeadLetters.ts"
import { plainOutput, textOf } from "../../internal/callJson.ts"
import { freshToken } from "../../internal/freshToken.ts"
import { repairNote } from "../../internal/repairNote.ts"
import { storableText } from "../../internal/storableText.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import { Verb } from "../verbs.ts"
import { addedOf, attemptsText, usageText } from "./added.ts"
import { asStoreError } from "./errors.ts"
import { callRow, toCall } from "./find.ts"
import type { Tables } from "./tables.ts"
import { inFuture } from "./time.ts"
import { unwatched } from "./watch.ts"

const isKey = ({ sql }: Tables, alias: string, { callId, part, schemaIdentity }: ChunkKey) => {
  const column = (name: string) => sql.literal(`${alias}.${name}`)
  return sql`${column("call_id")} = ${callId} and ${column("schema_identity")} = ${schemaIdentity} and ${
    column("part")
  } = ${part}`
}

const isOpen = "d.reason = 'rejected' and d.discarded_at is null"

/** Locks a call that may be repaired. */
const lock = ({ call, sql }: Tables, callId: string) =>
  sql`
    select from ${call}
    where call_id = ${callId} and status = 'succeeded' and erasure is null and outputs is not null
      and (run_until is null or run_until < pg_catalog.now())
    for update`

const letterOf = (t: Tables, key: ChunkKey) =>
  t.sql<{ position: number; message: string; repairs: number }>`
    select d.position, d.message, (
      select pg_catalog.count(*)::int from ${t.failure} f where ${isKey(t, "f", key)} and f.kind = 'rejected'
    ) as repairs
    from ${t.dead} d where ${isKey(t, "d", key)} and ${t.sql.literal(isOpen)}`

/** Locks the call that this token holds. */
const lockHeld = ({ call, sql }: Tables, callId: string, token: string) =>
  sql`
    select from ${call}
    where call_id = ${callId} and run_token = ${token}::pg_catalog.uuid and status = 'succeeded' and erasure is null
    for update`

/** Ends the lease of a repair that does not take place. */
const givenBack = ({ call, sql }: Tables, callId: string, token: string) =>
  sql`update ${call} set run_token = null, run_until = null
    where call_id = ${callId} and run_token = ${token}::pg_catalog.uuid and status = 'succeeded'`

/** Gives the letter the version and the size of its new answer, and returns the answer's place. */
const mended = (t: Tables, key: ChunkKey, version: number, text: string) =>
  t.sql<{ position: number }>`
    update ${t.dead} d set schema_version = ${version}, bytes = greatest(0, d.bytes + pg_catalog.octet_length(${text})
      - coalesce(pg_catalog.octet_length(c.outputs[d.position + 1]::pg_catalog.text), 0))
    from ${t.call} c
    where ${isKey(t, "d", key)} and ${t.sql.literal(isOpen)} and c.call_id = d.call_id
    returning d.position`

/** Notes a repair among the letter's failures. */
const noted = (t: Tables, key: ChunkKey, message: string) =>
  t.sql`
    insert into ${t.failure} (call_id, schema_identity, part, attempt, handler, kind, message)
    select d.call_id, d.schema_identity, d.part, d.attempts, d.handler, 'rejected', ${storableText(message)}
    from ${t.dead} d where ${isKey(t, "d", key)} and ${t.sql.literal(isOpen)}`

/** Writes the new answer, if there is one, adds attempts and usage, and ends the lease. */
const written = (t: Tables, callId: string, end: RepairEnd, answer: { position: number; text: string } | undefined) =>
  t.sql`
    with ended as (
      update ${t.call} set run_token = null, run_until = null${
    answer === undefined
      ? t.sql``
      : t.sql`, outputs[${answer.position + 1}::pg_catalog.int4] = ${answer.text}::pg_catalog.json`
  }
      where call_id = ${callId}
      returning call_id, namespace, pg_catalog.now() as finished_at, ${attemptsText(end)}::pg_catalog.text as attempts,
        ${usageText(end)}::pg_catalog.text as usage
    ), ${addedOf(t, "ended")}
    select call_id from ended`

/** The verbs. */
export const make = (
  t: Tables,
  redrive: DeadLetters["Service"]["redrive"]
): Pick<DeadLetters["Service"], "beginRepair" | "endRepair"> => {
  const { call, client, sql } = t
  const beginRepair: DeadLetters["Service"]["beginRepair"] = Effect.fnUntraced(function*(key, { lease, most }) {
    if (yield* client.isCallers) {
      return yield* new ChunkStoreError({
        operation: yield* Verb,
        transient: false,
        reason: "a repair needs commits of its own. Begin it before or after the surrounding transaction"
      })
    }
    const token = yield* freshToken
    return yield* client.transaction(() =>
      unwatched(Effect.gen(function*() {
        if ((yield* lock(t, key.callId)).length === 0) return Option.none()
        // read after the lock: a repair that ended meanwhile has redriven the letter
        const [letter] = yield* letterOf(t, key)
        if (letter === undefined || letter.repairs >= most) return Option.none()
        const [row] = yield* callRow(t, key.callId)
        const found = row === undefined ? undefined : toCall(row)
        const output = found?.outputs[letter.position]
        if (found === undefined || output === undefined) return Option.none()
        yield* sql`update ${call} set run_token = ${token}::pg_catalog.uuid, run_until = ${inFuture(t, lease)}
          where call_id = ${key.callId}`
        return Option.some({ token, call: found, output, reason: letter.message })
      }))
    ).pipe(
      asStoreError,
      // it may be committed, and nobody knows the token
      Effect.onInterrupt(() => Effect.ignore(client.statement(givenBack(t, key.callId, token)), { log: "Warn" }))
    )
  })

  const ended = Effect.fnUntraced(function*(
    key: ChunkKey,
    token: string,
    end: RepairEnd
  ): Effect.fn.Return<boolean, SqlError | ChunkStoreError> {
    const { callId, part, schemaIdentity } = key
    if ((yield* lockHeld(t, callId, token)).length === 0) return false
    const message = repairNote(end)
    if (message !== undefined) yield* noted(t, key, message)
    if (end.output === undefined) {
      yield* written(t, callId, end, undefined)
      return false
    }
    const { data, version } = end.output
    const text = textOf(plainOutput({ schema: schemaIdentity, version, part, data }))
    const [letter] = yield* mended(t, key, version, text)
    yield* written(t, callId, end, letter === undefined ? undefined : { position: letter.position, text })
    if (letter === undefined) return false
    yield* redrive({ callId, schemaIdentity, part })
    return true
  })

  return {
    beginRepair,
    endRepair: (key, token, end) => client.transaction(() => unwatched(ended(key, token, end))).pipe(asStoreError)
  }
}
