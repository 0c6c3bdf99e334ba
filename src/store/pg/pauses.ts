/**
 * Pauses: one row for each paused kind.
 */
import * as Effect from "effect/Effect"
import { storableText } from "../../internal/storableText.ts"
import { Pause, Pauses } from "../../Pauses.ts"
import { iso, readRows } from "./json.ts"
import type { Tables } from "./tables.ts"

/** The service on Postgres. `hint` notifies the workers after the commit. */
export const make = ({ client, pause, sql }: Tables, hint: Effect.Effect<void>): Pauses["Service"] =>
  Pauses.of({
    pause: ({ namespace, schemaIdentity }, reason) =>
      sql`insert into ${pause} (namespace, schema_identity, reason)
        values (${namespace}, ${schemaIdentity}, ${storableText(reason)})
        on conflict (namespace, schema_identity) do update set reason = excluded.reason`.pipe(
        Effect.andThen(hint),
        client.statement
      ),
    resume: ({ namespace, schemaIdentity }) =>
      sql`delete from ${pause} where namespace = ${namespace} and schema_identity = ${schemaIdentity} returning 1`.pipe(
        Effect.map((rows) => rows.length > 0),
        Effect.tap(hint),
        client.statement
      ),
    list: sql<{ row: unknown }>`
      select pg_catalog.json_build_object(
        'namespace', namespace, 'schemaIdentity', schema_identity, 'reason', reason,
        'pausedAt', ${sql.literal(iso("paused_at"))}
      ) as row
      from ${pause} order by namespace, schema_identity`.pipe(readRows(Pause), client.statement)
  })
