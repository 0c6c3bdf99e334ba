/**
 * Finds and corrects sequences that are behind the numbers in the tables. This happens after logical replication or a
 * partial restore, which copy rows but not sequences. New rows then get existing numbers, and recording fails.
 */
import * as Effect from "effect/Effect"
import type { Session } from "./session.ts"

/** A sequence, and the highest number in its tables. */
export interface Behind {
  readonly sequence: string
  /** The last number it gave out; 0 when it has given out none. */
  readonly last: string
  readonly highest: string
}

/** Where a sequence's numbers are stored. */
interface Source {
  readonly sequence: string
  readonly table: string
  /** The column of the numbers, and further columns to order by when finding the highest. */
  readonly columns: readonly [numbers: string, ...others: ReadonlyArray<string>]
}

/**
 * Every numbered column with its sequence; a test finds missing ones. The ledger has no index on its numbers alone: its
 * latest lines have the highest ones, or nearly so, and these numbers do not have to be unique.
 */
export const sources: ReadonlyArray<Source> = [
  { sequence: "chunk_seq", table: "chunk_queue", columns: ["seq"] },
  { sequence: "chunk_seq", table: "dead_letter", columns: ["seq"] },
  { sequence: "chunk_seq", table: "persisted_chunk", columns: ["seq", "xact"] },
  { sequence: "chunk_seq", table: "call_end", columns: ["seq", "xact"] },
  { sequence: "chunk_failure_id_seq", table: "chunk_failure", columns: ["id"] },
  { sequence: "subscription_skip_id_seq", table: "subscription_skip", columns: ["id"] },
  { sequence: "erasure_id_seq", table: "erasure", columns: ["id"] }
]

/** The highest number, found by an index. */
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

/** The sources that this role may read. A role without the rights can still start. */
const readable = Effect.fnUntraced(function*(session: Session, schema: string) {
  const rows = yield* session.run<{ sequence: string; column: string }>(
    `select s.relname as sequence, pg_catalog.format('%s.%s', t.relname, a.attname) as column
    from pg_catalog.pg_namespace n
    join pg_catalog.pg_class s on s.relnamespace = n.oid and s.relkind = 'S'
    join pg_catalog.pg_class t on t.relnamespace = n.oid and t.relkind = 'r'
    join pg_catalog.pg_attribute a on a.attrelid = t.oid
    where n.nspname = $1 and s.relname = any($2::pg_catalog.text[]) and t.relname = any($3::pg_catalog.text[]) and a.attnum > 0
      and pg_catalog.has_schema_privilege(n.oid, 'usage')
      -- the function fails for other relations, and conditions are evaluated in any order
      and case when s.relkind = 'S' then pg_catalog.has_sequence_privilege(s.oid, 'usage, select') end
      and pg_catalog.has_column_privilege(t.oid, a.attnum, 'select')`,
    [schema, sources.map(({ sequence }) => sequence), sources.map(({ table }) => table)]
  )
  const may = new Set(rows.map(({ column, sequence }) => `${sequence} ${column}`))
  return sources.filter(({ columns, sequence, table }) =>
    columns.every((column) => may.has(`${sequence} ${table}.${column}`))
  )
})

/** The sequences that are behind. Reads only heads of indexes. */
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

/** How far beyond the highest number a sequence is set. */
const leap = 1_000_000

/**
 * Sets the sequences that are behind beyond the highest number, and returns them. Needs UPDATE on them.
 *
 * No sequence is set back, although other sessions draw from it meanwhile. A sequence is behind only while its last number
 * is below the highest, and it is set a leap beyond that. To set it back, a million numbers would have to be drawn between
 * check and leap, which are one statement. A lock would exclude even that, but would block recording.
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

/** Describes the findings. */
export const describe = (found: ReadonlyArray<Behind>): string =>
  found.map(({ highest, last, sequence }) => `sequence ${sequence} stands at ${last}, behind ${highest}`).join("; ")
