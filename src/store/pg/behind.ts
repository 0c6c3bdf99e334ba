/**
 * Finds what a chunk of an ordering key waits for.
 */
import type { Tables } from "./tables.ts"

/**
 * The call of the oldest chunk, or blocking dead letter, before a row of the queue with the alias `row`; null if the row is
 * the first of its ordering key.
 */
export const callBefore = ({ dead, queue, sql }: Tables, row: "q" | "found", deadBlocksKey: boolean) => {
  const alias = sql.literal(row)
  return sql`(
    select older.call_id from (
      select o.call_id, o.seq from ${queue} o
      where o.ordering_key = ${alias}.ordering_key and o.namespace = ${alias}.namespace and o.seq < ${alias}.seq
      union all
      select d.call_id, d.seq from ${dead} d
      where d.ordering_key = ${alias}.ordering_key and d.namespace = ${alias}.namespace and d.seq < ${alias}.seq
        and d.discarded_at is null and ${deadBlocksKey}
    ) older order by older.seq limit 1
  )`
}
