/**
 * The verb `once`: persists one chunk outside the drain.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SqlError } from "effect/sql/SqlError"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import type { Engine } from "./engine.ts"
import { failStore } from "./errors.ts"
import { RolledBack } from "./handling.ts"
import { linesAt } from "./ledger.ts"
import { checkReadCommitted } from "./readCommitted.ts"
import type { Tables } from "./tables.ts"
import { CurrentRun, unwatched } from "./watch.ts"

/**
 * The first step of `once`: locks the chunk in queue and dead letters, so no claim takes it. It locks in the same order as a
 * settlement, queue before ledger, so the two cannot deadlock.
 */
const lockChunk = ({ dead, queue, sql }: Tables, key: ChunkKey) =>
  sql`
    with queued as materialized (
      select seq from ${queue}
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
      for update
    ), lettered as materialized (
      select call_id from ${dead}
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
        and (select pg_catalog.count(*) from queued) >= 0
      for update
    )
    select pg_catalog.count(*) from lettered`

/** Reserves a chunk's place in the ledger for `once`. A second caller waits here for the first. */
const reserve = (
  { ledger, sql }: Tables,
  entry: { readonly key: ChunkKey; readonly namespace: string; readonly handler: string }
) =>
  sql`insert into ${ledger} (call_id, schema_identity, part, namespace, schema_version, handler, handler_version)
    values (${entry.key.callId}, ${entry.key.schemaIdentity}, ${entry.key.part}, ${entry.namespace}, 0,
      ${entry.handler}, 1)
    on conflict do nothing returning 1 as reserved`

/**
 * Completes what `reserve` began, in the same transaction: removes the chunk from the queue, whichever worker holds it, and
 * from the dead letters.
 */
const complete = ({ callSubscription, dead, ledger, queue, sql }: Tables, key: ChunkKey, objects: string) =>
  sql<{ namespace: string; orderingKey: string | null; seq: bigint; ends: boolean }>`
    with left_queue as (
      delete from ${queue}
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
      returning schema_version, namespace, ordering_key, seq
    ), left_dead as (
      delete from ${dead}
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
      returning schema_version, namespace, ordering_key, seq
    ), gone as materialized (
      select * from left_queue union all select * from left_dead
    ), completed as (
      update ${ledger} set objects = ${objects}::pg_catalog.jsonb,
        schema_version = coalesce((select schema_version from gone limit 1), schema_version)
      where call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}
    )
    select namespace, ordering_key as "orderingKey", seq, exists (select from ${callSubscription}) as ends from gone`

/** Sets back what the effect may have set and Sluice's statements rely on, to what the session began with. */
const begunAgain = Effect.fnUntraced(function*({ sql }: Tables) {
  yield* sql`reset session authorization`
  yield* sql`reset role`
  yield* sql`reset search_path`
})

/** The verb. */
export const once = ({ close, hint, t, wake }: Engine): ChunkStore["Service"]["once"] => (entry, work) => {
  const find = Effect.map(linesAt(t, [entry.key]), ([line]) => line!)
  return t.client.transaction(({ isNested, lease }) =>
    Effect.gen(function*() {
      const outer = yield* CurrentRun
      return yield* unwatched(Effect.gen(function*() {
        if (isNested) yield* checkReadCommitted(t)
        yield* lockChunk(t, entry.key)
        const reserved = yield* reserve(t, entry)
        if (reserved.length === 0) return { created: false, entry: yield* find }
        // the effect is the application's, like a handler's run
        const run = isNested ? undefined : lease?.watch("alone", undefined)
        const exit = yield* Effect.exit(
          run === undefined ? Effect.provideService(work, CurrentRun, outer) : run.of(work)
        )
        run?.end()
        if (Exit.isFailure(exit)) return yield* Effect.fail(new RolledBack(exit.cause))
        if (run !== undefined && lease?.left.transaction === true) yield* begunAgain(t)
        const gone = yield* complete(t, entry.key, JSON.stringify(exit.value))
        yield* wake(gone)
        if (exit.value.length > 0) yield* hint("events")
        if (gone[0]?.ends === true) yield* close([entry.key.callId])
        return { created: true, entry: yield* find }
      }))
    })
  ).pipe(
    Effect.catchTag("SqlError", (error: SqlError) => failStore(error)),
    Effect.catchTag("RolledBack", (error) => Effect.failCause(error.cause))
  )
}
