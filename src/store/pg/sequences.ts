/**
 * Sequences that stand behind the numbers that are in the tables already, as they do after logical replication or a partial
 * restore, which copy rows and no sequences. Then what is recorded meets a number that is taken, and fails.
 */
import * as Effect from "effect/Effect"
import { reserve, type Session } from "./session.ts"
import type { Tables } from "./tables.ts"

/** A sequence and the highest number that it must have given out. */
export interface Behind {
  readonly sequence: string
  /** The last number it gave out; 0 when it has given out none. */
  readonly last: string
  readonly highest: string
}

/** Where numbers of a sequence stand. */
interface Source {
  readonly sequence: string
  readonly table: string
  /** The column of the numbers, and what else is read to find the highest. */
  readonly columns: readonly [numbers: string, ...others: ReadonlyArray<string>]
}

/**
 * Every column that is numbered, with its sequence; a test looks for others. The ledger has no index on its numbers alone:
 * those of its latest lines are the highest there are, or nearly so, and none of them has to be unique.
 */
export const sources: ReadonlyArray<Source> = [
  { sequence: "chunk_seq", table: "chunk_queue", columns: ["seq"] },
  { sequence: "chunk_seq", table: "dead_letter", columns: ["seq"] },
  { sequence: "chunk_seq", table: "persisted_chunk", columns: ["seq", "xact"] },
  { sequence: "chunk_failure_id_seq", table: "chunk_failure", columns: ["id"] },
  { sequence: "subscription_skip_id_seq", table: "subscription_skip", columns: ["id"] }
]

/** The highest number, by an index. */
const highestOf = (schema: string, { columns: [numbers, ...order], table }: Source): string => {
  const from = `"${schema}".${table}`
  return order.length === 0
    ? `(select pg_catalog.max(${numbers}) from ${from})`
    : `(select pg_catalog.max(${numbers}) from (
        select ${numbers} from ${from} order by ${
      [...order, numbers].map((column) => `${column} desc`).join(", ")
    } limit 100
      ) latest)`
}

/** Those that this role may read. Nobody is kept from starting because it may not look. */
const readable = Effect.fnUntraced(function*(session: Session, schema: string) {
  const rows = yield* session.run<{ sequence: string; column: string }>(
    `select s.relname as sequence, pg_catalog.format('%s.%s', t.relname, a.attname) as column
    from pg_catalog.pg_namespace n
    join pg_catalog.pg_class s on s.relnamespace = n.oid and s.relkind = 'S'
    join pg_catalog.pg_class t on t.relnamespace = n.oid and t.relkind = 'r'
    join pg_catalog.pg_attribute a on a.attrelid = t.oid
    where n.nspname = $1 and s.relname = any($2::pg_catalog.text[]) and t.relname = any($3::pg_catalog.text[]) and a.attnum > 0
      and pg_catalog.has_schema_privilege(n.oid, 'usage')
      -- it fails for what is no sequence, and conditions are tried in any order
      and case when s.relkind = 'S' then pg_catalog.has_sequence_privilege(s.oid, 'usage, select') end
      and pg_catalog.has_column_privilege(t.oid, a.attnum, 'select')`,
    [schema, sources.map(({ sequence }) => sequence), sources.map(({ table }) => table)]
  )
  const may = new Set(rows.map(({ column, sequence }) => `${sequence} ${column}`))
  return sources.filter(({ columns, sequence, table }) =>
    columns.every((column) => may.has(`${sequence} ${table}.${column}`))
  )
})

/** Those that are behind: heads of indexes, and nothing else, are read. */
export const behind = Effect.fnUntraced(function*(session: Session, schema: string) {
  const found = yield* readable(session, schema)
  if (found.length === 0) return []
  const highest = found.map((source) =>
    `select '${source.sequence}' as sequence, ${highestOf(schema, source)} as highest`
  )
  return yield* session.run<Behind>(
    `select given.sequence, coalesce(s.last_value, 0)::pg_catalog.text as last, pg_catalog.max(given.highest)::pg_catalog.text as highest
    from (${highest.join(" union all ")}) given
    join pg_catalog.pg_sequences s on s.schemaname = $1 and s.sequencename = given.sequence
    group by given.sequence, s.last_value having pg_catalog.max(given.highest) > coalesce(s.last_value, 0)
    order by given.sequence`,
    [schema]
  )
})

/** How far beyond the highest number a sequence is put. */
const leap = 1_000_000

/**
 * Puts the sequences that are behind beyond the highest number, and says which those were. Needs UPDATE on them.
 *
 * No sequence is moved back, though others draw from it meanwhile: it is behind only as long as its last number is below the
 * highest, and is put a leap beyond that; to be moved back, a million numbers would have to be drawn between the look and the
 * leap, which are one statement. A lock would be certain as well, and would make recording wait.
 */
export const mend = Effect.fnUntraced(function*(session: Session, schema: string) {
  const found = yield* behind(session, schema)
  for (const { highest, sequence } of found) {
    yield* session.run(
      `select pg_catalog.setval($2::pg_catalog.text::pg_catalog.regclass, $3::bigint + ${leap})
      from pg_catalog.pg_sequences
      where schemaname = $1 and sequencename = $4 and coalesce(last_value, 0) < $3::bigint`,
      [schema, `"${schema}".${sequence}`, highest, sequence]
    )
  }
  return found
})

/** {@link mend} by a session of the pool, for `sluice mend`. */
export const mendWith = ({ sql }: Tables, schema: string) =>
  Effect.scoped(Effect.flatMap(reserve(sql), (session) => mend(session, schema)))

/** What was found, in words. */
export const describe = (found: ReadonlyArray<Behind>): string =>
  found.map(({ highest, last, sequence }) => `sequence ${sequence} stands at ${last}, behind ${highest}`).join("; ")
