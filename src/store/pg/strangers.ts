/**
 * Finds objects of other owners in place of Sluice's tables, or acting on them. `create … if not exists` accepts an existing
 * object. Another role that creates the schema first, or adds a trigger to a table, could read the recorded data and act
 * with the worker's rights.
 */
import type { Session } from "./session.ts"
import type { Made } from "./statements.ts"

/** An object that Sluice did not create. */
export interface Stranger {
  /** Its notation in `SLUICE_TRUSTED`: `role clinic_dba`, `trigger persisted_chunk.audit`. */
  readonly entry: string
  /** A description with its owner. */
  readonly found: string
}

/**
 * The roles whose objects count as Sluice's own: this session's roles; the roles they are members of, like an application's
 * login is a member of its owner; the members of those, which have all their rights anyway; superusers; and the owner of the
 * database. Membership is read from the catalog and not from `pg_has_role`, which reports a superuser as a member of every
 * role. A membership for administration only, which the creator of a role gets from Postgres 16 on, does not count.
 */
const trusted = `
  with recursive membership as materialized (
    select m.roleid, m.member from pg_catalog.pg_auth_members m
    cross join lateral pg_catalog.to_jsonb(m) options
    where coalesce((options ->> 'inherit_option'::pg_catalog.text)::boolean, true) or coalesce((options ->> 'set_option'::pg_catalog.text)::boolean, true)
  ), me as (
    select oid from pg_catalog.pg_roles where rolname in (current_user, session_user)
  ), above as (
    select oid from me union select m.roleid from above a join membership m on m.member = a.oid
  ), below as (
    select oid from me union select m.member from below b join membership m on m.roleid = b.oid
  ), trusted as materialized (
    select oid from above union select oid from below
    union select oid from pg_catalog.pg_roles where rolsuper or rolname in ('pg_database_owner')
    union select datdba from pg_catalog.pg_database where datname = pg_catalog.current_database()
  )`

/** Finds foreign objects, the most dangerous first. Reads only catalogs, and runs nothing that it finds. */
export const find = (session: Session, schema: string, made: Made) =>
  session.run<Stranger>(
    `${trusted}, own as materialized (
    select c.oid, c.relname, c.relkind, c.relowner, c.relrowsecurity from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relname = any($2::pg_catalog.text[])
  ), found as (
    select 1 as place, pg_catalog.format('role %s', r.rolname) as entry,
      pg_catalog.format('schema %s belongs to role %s', n.nspname, r.rolname) as found
    from pg_catalog.pg_namespace n join pg_catalog.pg_roles r on r.oid = n.nspowner
    where n.nspname = $1 and n.nspowner not in (select oid from trusted)
    union all
    select 2, pg_catalog.format('role %s', r.rolname), pg_catalog.format('%s belongs to role %s', o.relname, r.rolname)
    from own o join pg_catalog.pg_roles r on r.oid = o.relowner
    where o.relowner not in (select oid from trusted)
    union all
    select 2, pg_catalog.format('role %s', r.rolname),
      pg_catalog.format('function %s belongs to role %s', p.proname, r.rolname)
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    join pg_catalog.pg_roles r on r.oid = p.proowner
    where n.nspname = $1 and p.proname = any($3::pg_catalog.text[]) and p.proowner not in (select oid from trusted)
    union all
    select 3, pg_catalog.format('relation %s', o.relname), pg_catalog.format('%s is no plain table', o.relname)
    from own o where o.relname = any($4::pg_catalog.text[]) and o.relkind <> 'r'
    union all
    select 4, pg_catalog.format('trigger %s.%s', o.relname, t.tgname), pg_catalog.format(
        'trigger %s on %s runs %s.%s of role %s', t.tgname, o.relname, n.nspname, p.proname, r.rolname
      )
    from own o join pg_catalog.pg_trigger t on t.tgrelid = o.oid
    join pg_catalog.pg_proc p on p.oid = t.tgfoid join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    join pg_catalog.pg_roles r on r.oid = p.proowner
    where not t.tgisinternal and t.tgenabled <> 'D' and not pg_catalog.format('%s.%s', o.relname, t.tgname) = any($5::pg_catalog.text[])
    union all
    select 5, pg_catalog.format('rule %s.%s', o.relname, w.rulename),
      pg_catalog.format('rule %s on %s', w.rulename, o.relname)
    from own o join pg_catalog.pg_rewrite w on w.ev_class = o.oid
    where w.rulename <> '_RETURN' and w.ev_enabled <> 'D'
    union all
    select 6, pg_catalog.format('row security %s', o.relname), pg_catalog.format('row security is on for %s', o.relname)
    from own o where o.relrowsecurity
    union all
    select 7, pg_catalog.format('inheritance %s', o.relname),
      pg_catalog.format('%s and %s are one by inheritance', other.relname, o.relname)
    from own o join pg_catalog.pg_inherits i on o.oid in (i.inhrelid, i.inhparent)
    join pg_catalog.pg_class other on other.oid = case when i.inhparent = o.oid then i.inhrelid else i.inhparent end
    where o.relkind in ('r', 'p')
  )
  select entry, found from found order by place, found collate "C" limit 1000`,
    [schema, [...made.tables, ...made.sequences], [...made.functions], [...made.tables], [...made.triggers]]
  )

/** The foreign objects that the settings do not declare as trusted. */
export const unmeant = (found: ReadonlyArray<Stranger>, meant: ReadonlyArray<string>): ReadonlyArray<Stranger> =>
  found.filter(({ entry }) => !meant.includes(entry))

const mostNamed = 5

/** Describes the findings in one sentence, and how to declare them as trusted. */
export const describe = (found: ReadonlyArray<Stranger>): { readonly found: string; readonly advice: string } => {
  const rest = found.length - mostNamed
  // in the setting's syntax: a name with a comma is quoted
  const entries = [...new Set(found.map(({ entry }) => entry.replace(/^(row \S+|\S+) (.*,.*)$/, "$1 '$2'")))].join(", ")
  return {
    found: found.slice(0, mostNamed).map((one) => one.found).join("; ") + (rest > 0 ? `; and ${rest} more` : ""),
    advice: `others made this: it may read what is recorded, and runs with the rights of the role that uses it. ` +
      `Drop it, or, if it is meant, set SLUICE_TRUSTED="${entries}"`
  }
}
