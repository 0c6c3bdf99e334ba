/**
 * The columns of a table, as the catalog has them: what a declaration needs to know of the table that it writes.
 */
import type { Tables } from "./tables.ts"

/** A column of a table. */
export interface ColumnRow {
  readonly relation: string
  readonly name: string
  /** Its type or, for a domain, the base type. */
  readonly type: string
  /** The type of an array's elements or, for a domain, the base type. */
  readonly element: string | null
  /** Its type with modifiers, and its collation, like `numeric(3,1)` or `text collate public.plain`. */
  readonly exact: string
  readonly generated: boolean
  /** The expression that the table would use for a row without this column. */
  readonly byDefault: string | null
  /** The sequence of this default, if this role has no right to draw from it. */
  readonly sequence: string | null
  /** Whether it, or a domain that it is of, refuses null. */
  readonly required: boolean
  readonly inserts: boolean
  readonly selects: boolean
  readonly updates: boolean
  readonly triggers: boolean
  /** Whether its default, a check or a policy calls a function that is written in SQL or another language of the server. */
  readonly functions: boolean
  /** The verbs for which no permissive policy names this role, so that row security refuses every row. Null if it is off. */
  readonly closed: ReadonlyArray<string> | null
}

/** What is selected of a type `d` and, for a domain, of the types that it is based on. */
const below = (type: string, selected: string, where = "") =>
  `(
        with recursive below as (
          select ${type} as oid
          union all
          select d.typbasetype from below b join pg_catalog.pg_type d on d.oid = b.oid where d.typtype = 'd'
        )
        select ${selected} from below b join pg_catalog.pg_type d on d.oid = b.oid ${where}
      )`

/** The type's id or, for a domain, that of its base type, as SQL. */
const baseOf = (type: string) => below(type, "b.oid", "where d.typtype <> 'd'")

/**
 * The columns of the table that this session's search path finds. Types have no modifiers: a cast to `varchar(40)`, or to a
 * domain over it, would cut a text off, while an insert of one that is too long fails. The insert also checks the domain.
 */
export const columnsOf = ({ sql }: Tables, table: string) =>
  sql<ColumnRow>`
    select c.oid::pg_catalog.regclass::pg_catalog.text as relation, a.attname::pg_catalog.text as name,
      pg_catalog.format_type(y.oid, -1) as type,
      case when y.typlen = -1 and y.typelem <> 0 and y.typcategory = 'A'
        then pg_catalog.format_type(${sql.literal(baseOf("y.typelem"))}, -1) end as element,
      pg_catalog.format_type(a.atttypid, a.atttypmod) || case when l.oid is null then '' else
        ' collate ' || l.collnamespace::pg_catalog.regnamespace::pg_catalog.text
        || '.' || pg_catalog.quote_ident(l.collname::pg_catalog.text) end as exact,
      a.attgenerated <> '' as generated,
      case when a.attidentity = ''
        then coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), pg_catalog.pg_get_expr(o.typdefaultbin, 0))
        else 'pg_catalog.nextval(' || pg_catalog.quote_literal(pg_catalog.pg_get_serial_sequence(
          -- a partition has the identity of its table
          coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)::pg_catalog.regclass::pg_catalog.text, a.attname
        )) || '::pg_catalog.regclass)' end as "byDefault",
      (
        select s.oid::pg_catalog.regclass::pg_catalog.text from pg_catalog.pg_depend e
        join pg_catalog.pg_class s on s.oid = e.refobjid
        where e.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass and e.objid = d.oid
          and e.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
          -- the function fails for what is no sequence
          and case s.relkind when 'S' then not pg_catalog.has_sequence_privilege(s.oid, 'usage, update') end
        limit 1
      ) as sequence,
      c.relkind in ('r', 'p') and (
        a.attnotnull or ${sql.literal(below("a.atttypid", "pg_catalog.bool_or(d.typnotnull)"))}
      ) as required,
      pg_catalog.has_column_privilege(c.oid, a.attnum, 'insert') as inserts,
      pg_catalog.has_column_privilege(c.oid, a.attnum, 'select') as selects,
      pg_catalog.has_column_privilege(c.oid, a.attnum, 'update') as updates,
      c.relkind in ('v', 'f') or exists (
        -- without those of foreign keys, which run nothing of the application's
        select from pg_catalog.pg_trigger g
        where not g.tgisinternal and g.tgenabled <> 'D'
          and g.tgrelid in (select c.oid union all select relid::pg_catalog.oid from pg_catalog.pg_partition_tree(c.oid))
      ) as triggers,
      exists (
        -- defaults, generated columns, checks of the table or of a domain, and policies
        select from pg_catalog.pg_depend e
        join pg_catalog.pg_proc p on p.oid = e.refobjid
        join pg_catalog.pg_language n on n.oid = p.prolang and n.lanname not in ('internal', 'c')
        where e.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass and (
          (e.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass and e.objid = d.oid)
          or (e.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass and e.objid in (
            select k.oid from pg_catalog.pg_constraint k where k.conrelid = c.oid or k.contypid = a.atttypid
          ))
          or (e.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass and e.objid in (
            select y.oid from pg_catalog.pg_policy y where y.polrelid = c.oid
          ))
        )
      ) as functions,
      case when pg_catalog.row_security_active(c.oid) then array(
        select v.verb from (values ('a', 'insert'), ('r', 'select'), ('w', 'update')) v(command, verb)
        where not exists (
          select from pg_catalog.pg_policy y
          where y.polrelid = c.oid and y.polpermissive and y.polcmd::pg_catalog.text in ('*', v.command) and exists (
            select from pg_catalog.unnest(y.polroles) r(oid)
            where r.oid = 0 or pg_catalog.pg_has_role(r.oid, 'usage')
          )
        )
      ) end as closed
    from pg_catalog.pg_class c
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join pg_catalog.pg_type o on o.oid = a.atttypid
    join pg_catalog.pg_type y on y.oid = ${sql.literal(baseOf("a.atttypid"))}
    left join pg_catalog.pg_collation l on l.oid = a.attcollation
    left join pg_catalog.pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.oid = pg_catalog.to_regclass(${table}) and c.relkind in ('r', 'p', 'v', 'f')
    order by a.attnum`
