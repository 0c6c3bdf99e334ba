/**
 * Finds roles that drain but lack a right they need, before a settlement fails for it.
 */
import type { SqlClient } from "effect/sql/SqlClient"
import { workerRights } from "../Rights.ts"

/** A role that drains and lacks rights. */
export interface Drainer {
  readonly role: string
  /** The objects on which it lacks a right; the empty text means the schema. */
  readonly objects: ReadonlyArray<string>
}

/** The most roles to report. */
const most = 10

/**
 * Roles that can log in and have, directly or inherited, a right that only draining needs, but not all such rights. While no
 * worker runs, the roles of workers are unknown. A role that may read or write all data does not count as one that drains.
 */
export const drainersThatLack = (sql: SqlClient, schema: string) => {
  const needs = workerRights()
  return sql<Drainer>`
    with needed as (
      select n.object, n.privilege, c.oid, c.relkind = 'S' as is_sequence
      from rows from (
        pg_catalog.unnest(${needs.map(({ object }) => object)}::pg_catalog.text[]),
        pg_catalog.unnest(${needs.map(({ right }) => right)}::pg_catalog.text[])
      ) n(object, privilege)
      join pg_catalog.pg_namespace s on s.nspname = ${schema}::pg_catalog.name
      join pg_catalog.pg_class c on c.relnamespace = s.oid and c.relname = n.object::pg_catalog.name
    ),
    drainer as (
      select r.oid, r.rolname
      from pg_catalog.pg_roles r
      where r.rolcanlogin and not r.rolsuper
        and not pg_catalog.pg_has_role(r.oid, 'pg_read_all_data', 'usage')
        and not pg_catalog.pg_has_role(r.oid, 'pg_write_all_data', 'usage')
        and exists (
          select from needed n
          -- not with "and": the server may evaluate the second condition first, and a table has no rights of a sequence
          where case
            when (n.object, n.privilege) in (
              ('chunk_queue'::pg_catalog.text, 'delete'::pg_catalog.text), ('persisted_chunk'::pg_catalog.text, 'insert'::pg_catalog.text),
              ('worker'::pg_catalog.text, 'insert'::pg_catalog.text)
            ) then pg_catalog.has_table_privilege(r.oid, n.oid, n.privilege)
            else false end
        )
    )
    select d.rolname::pg_catalog.text as role, pg_catalog.array_agg(distinct l.object order by l.object) as objects
    from drainer d
    cross join lateral (
      select n.object from needed n
      where not case when n.is_sequence then pg_catalog.has_sequence_privilege(d.oid, n.oid, n.privilege)
        else pg_catalog.has_table_privilege(d.oid, n.oid, n.privilege) end
      union all
      select ''::pg_catalog.text from pg_catalog.pg_namespace s
      where s.nspname = ${schema}::pg_catalog.name and not pg_catalog.has_schema_privilege(d.oid, s.oid, 'usage')
    ) l
    group by d.rolname order by d.rolname limit ${most}`
}
