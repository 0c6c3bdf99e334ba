/**
 * The verb `probe`: checks whether the database would accept the end of a claim now.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { Engine } from "./engine.ts"
import { asStoreError } from "./errors.ts"
import type { Tables } from "./tables.ts"

/**
 * Does to each table what the ends of claims do, but to no row: the server still checks the rights. Runs in its own
 * transaction, with a commit.
 */
const statement = ({ callSubscription, dead, failure, ledger, queue, sql }: Tables) =>
  sql`
    with gone as (
      delete from ${queue} where false returning 1
    ), kept as (
      update ${queue} set attempts = attempts where false
    ), persisted as (
      insert into ${ledger} (call_id, schema_identity, part, namespace, schema_version, handler, handler_version)
      select '', '', '', '', 0, '', 0 where false
    ), buried as (
      insert into ${dead} (
        call_id, schema_identity, part, seq, namespace, schema_version, position, bytes, priority, reason, handler, message,
        attempts, crashes, recorded_at
      )
      select '', '', '', 0, '', 0, 0, 0, 0, '', '', '', 0, 0, pg_catalog.now() where false
      on conflict (call_id, schema_identity, part) do update set attempts = excluded.attempts
    ), noted as (
      insert into ${failure} (call_id, schema_identity, part, attempt, handler, kind, message)
      select '', '', '', 0, '', '', '' where false
    )
    select exists (select from ${callSubscription} where false) as possible`

/** The verb. */
export const probe = ({ t }: Engine): ChunkStore["Service"]["probe"] =>
  t.client.transaction(() => statement(t)).pipe(Effect.asVoid, asStoreError)
