/**
 * Finds tables, columns, primary keys and sequences that are absent although the migrations that make them are applied. That
 * happens after a partial restore, or if one table was copied from an older backup.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Session } from "./session.ts"
import { madeBy, type Migration } from "./statements.ts"

/** The columns that later migrations add to a table: what a copy from an older backup lacks. */
const addedColumns = (migrations: ReadonlyArray<Migration>): ReadonlyArray<readonly [table: string, column: string]> =>
  migrations.flatMap(({ statements }) =>
    statements.flatMap((statement) => {
      const table = /^alter table \S+\."?(\w+)"?/.exec(statement)?.[1]
      return table === undefined
        ? []
        : [...statement.matchAll(/\badd column if not exists (\w+)/g)].map(([, column = ""]) =>
          [table, column] as const
        )
    })
  )

/** The numbers of the applied migrations. A role that may not read them finds nothing absent. */
const applied = (session: Session, schema: string): Effect.Effect<ReadonlySet<number>, SqlError> =>
  Effect.gen(function*() {
    const [found] = yield* session.run<{ readable: boolean }>(
      `select coalesce(pg_catalog.bool_or(pg_catalog.has_table_privilege(c.oid, 'select')), false)
          and pg_catalog.has_schema_privilege(n.oid, 'usage') as readable
      from pg_catalog.pg_namespace n
      left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = 'migration' and c.relkind = 'r'
      where n.nspname = $1 group by n.oid`,
      [schema]
    )
    if (found?.readable !== true) return new Set()
    const rows = yield* session.run<{ migration_id: number }>(`select migration_id from "${schema}".migration`)
    return new Set(rows.map((row) => row.migration_id))
  })

/** What is absent, in words. Reads catalogs only, and the list of migrations. */
export const find = Effect.fnUntraced(function*(session: Session, schema: string, all: ReadonlyArray<Migration>) {
  const ids = yield* applied(session, schema)
  if (ids.size === 0) return []
  const migrations = all.filter(({ id }) => ids.has(id))
  const { sequences, tables } = madeBy(migrations)
  const columns = addedColumns(migrations)
  const rows = yield* session.run<{ absent: string }>(
    `with own as materialized (
      select c.oid, c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = $1
    ), found as (
      select 1 as place, pg_catalog.format('table %s', name) as absent
      from pg_catalog.unnest($2::pg_catalog.text[]) name
      where not exists (select from own where relname = name::pg_catalog.name)
      union all
      -- without it a chunk may be persisted twice, and a call be recorded twice
      select 2, pg_catalog.format('primary key of %s', name)
      from pg_catalog.unnest($2::pg_catalog.text[]) name join own on relname = name::pg_catalog.name
      where not exists (
        select from pg_catalog.pg_index i where i.indrelid = own.oid and i.indisprimary and i.indisvalid
      )
      union all
      select 3, pg_catalog.format('column %s.%s', c.relname, c.attname)
      from rows from (pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.text[])) c(relname, attname)
      join own on own.relname = c.relname::pg_catalog.name
      where not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = own.oid and a.attname = c.attname::pg_catalog.name and not a.attisdropped
      )
      union all
      select 4, pg_catalog.format('sequence %s', name)
      from pg_catalog.unnest($5::pg_catalog.text[]) name
      where not exists (select from own where relname = name::pg_catalog.name)
    ) select absent from found order by place, absent collate "C"`,
    [schema, [...tables], columns.map(([table]) => table), columns.map(([, column]) => column), [...sequences]]
  )
  return rows.map(({ absent }) => absent)
})

/** Describes what is absent, and what to do. */
export const describe = (
  schema: string,
  absent: ReadonlyArray<string>
): { readonly found: string; readonly advice: string } => ({
  found: `missing, although the migrations that make them are applied: ${absent.join(", ")}`,
  advice:
    "was the database restored in part, or from two backups? Restore all of the schema from one. Or make what is " +
    `missing anew, empty: \`delete from "${schema}".migration\`, then \`sluice migrate\`. It does not add primary keys or defaults to tables that exist`
})
