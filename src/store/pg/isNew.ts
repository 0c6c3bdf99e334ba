/**
 * The verb `isNew`: whether a call may be run before it is recorded.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { Kind } from "../../Kind.ts"
import type { Engine } from "./engine.ts"

/** The verb. */
export const isNew = ({ t: { call, client, pause, sql } }: Engine): ChunkStore["Service"]["isNew"] =>
  Effect.fnUntraced(
    function*(callId: string) {
      if (yield* client.isCallers) return { isNew: false, paused: [] }
      const [row] = yield* sql<{ known: boolean; paused: ReadonlyArray<Kind> | null }>`
        select exists (select from ${call} where call_id = ${callId}) as known, (
          select pg_catalog.json_agg(pg_catalog.json_build_object('namespace', namespace, 'schemaIdentity', schema_identity))
          from ${pause}
        ) as paused`
      return { isNew: row?.known === false, paused: row?.paused ?? [] }
    },
    client.statement
  )
