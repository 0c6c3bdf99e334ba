/**
 * Reads the workers that have not left.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { InsideUse } from "../../CallView.ts"
import type { WorkerView } from "../../Inspector.ts"
import { alive } from "./beat.ts"
import { servesOf } from "./serves.ts"
import type { Tables } from "./tables.ts"

const isInsideUse = Schema.is(InsideUse)

/** All of them, or those with these ids. */
export const workers = (t: Tables, ids: ReadonlyArray<string> | undefined) => {
  const { sql, worker } = t
  const rows = sql<Omit<WorkerView, "inside"> & { readonly inside: unknown }>`
    select id, beat_at > pg_catalog.now() - ${sql.literal(alive)} as alive,
      -- the server's clock may have been set back
      greatest(0, pg_catalog.round(extract(epoch from pg_catalog.now() - beat_at)))::pg_catalog.float8 as seen,
      coalesce((
        select pg_catalog.json_agg(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
          'namespace', s.namespace, 'schemaIdentity', s.schema_identity, 'version', s.version
        )))
        from ${servesOf(t, "serves")} s
      ), '[]') as serves, inside
    from ${worker} where ${ids === undefined ? sql`true` : sql`id = any(${ids}::pg_catalog.text[])`}
    order by beat_at desc, id`
  return Effect.map(rows, (found) =>
    found.map((row): WorkerView => ({
      ...row,
      // a row that was edited manually may hold anything
      inside: Array.isArray(row.inside) ? row.inside.filter(isInsideUse) : []
    })))
}
