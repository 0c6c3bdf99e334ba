/**
 * Reads the workers that have not left.
 */
import type { WorkerView } from "../../Inspector.ts"
import { alive } from "./beat.ts"
import type { Tables } from "./tables.ts"

/** All of them, or those with these ids. */
export const workers = ({ sql, worker }: Tables, ids: ReadonlyArray<string> | undefined) =>
  sql<WorkerView>`
    select id, beat_at > pg_catalog.now() - ${sql.literal(alive)} as alive,
      pg_catalog.round(extract(epoch from pg_catalog.now() - beat_at))::pg_catalog.float8 as seen,
      coalesce((
        select pg_catalog.json_agg(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
          'namespace', s ->> 'namespace'::pg_catalog.text, 'schemaIdentity', s ->> 'schemaIdentity'::pg_catalog.text,
          'version', case pg_catalog.jsonb_typeof(s -> 'version'::pg_catalog.text)
            when 'number' then s -> 'version'::pg_catalog.text end
        )))
        from pg_catalog.jsonb_array_elements(case when pg_catalog.jsonb_typeof(serves) = 'array' then serves else '[]' end) s
        where s ->> 'namespace'::pg_catalog.text is not null and s ->> 'schemaIdentity'::pg_catalog.text is not null
      ), '[]') as serves
    from ${worker} where ${ids === undefined ? sql`true` : sql`id = any(${ids}::pg_catalog.text[])`}
    order by beat_at desc, id`
