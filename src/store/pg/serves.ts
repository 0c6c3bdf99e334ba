/**
 * Reads which kinds a worker serves from its row.
 */
import type { Tables } from "./tables.ts"

/**
 * The kinds in a worker's column `serves`, as rows of `namespace`, `schema_identity` and `version`; without a version the
 * worker reads all. A row that was edited manually is read as far as possible: it must not fail the beats of all workers.
 */
export const servesOf = ({ sql }: Tables, column: "serves" | "w.serves") => {
  const serves = sql.literal(column)
  return sql`(
    select e ->> 'namespace'::pg_catalog.text as namespace, e ->> 'schemaIdentity'::pg_catalog.text as schema_identity,
      case pg_catalog.jsonb_typeof(e -> 'version'::pg_catalog.text)
        when 'number' then (e ->> 'version'::pg_catalog.text)::pg_catalog.numeric end as version
    from pg_catalog.jsonb_array_elements(case when pg_catalog.jsonb_typeof(${serves}) = 'array' then ${serves} else '[]' end) e
    where e ->> 'namespace'::pg_catalog.text is not null and e ->> 'schemaIdentity'::pg_catalog.text is not null
  )`
}
