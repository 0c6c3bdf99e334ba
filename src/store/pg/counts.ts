/**
 * Counts that commands show.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Kind } from "../../Kind.ts"
import { core } from "./claimParts.ts"
import { servesOf } from "./serves.ts"
import type { Tables } from "./tables.ts"

/** The count that a statement returns. */
export const count = (rows: Effect.Effect<ReadonlyArray<{ readonly count: number }>, SqlError>) =>
  Effect.map(rows, ([row]) => row?.count ?? 0)

/** The limit of the count: higher counts do not have to be exact. */
const mostLately = 100_000

/**
 * How many chunks were persisted in the last minute, counted up to {@link mostLately}: reads the end of an index backwards.
 */
export const persistedLately = ({ ledger, sql }: Tables) =>
  count(sql<{ count: number }>`
    select pg_catalog.count(*)::int as count from (
      select persisted_at from ${ledger} order by xact desc, seq desc limit ${mostLately}) lately
    where persisted_at > pg_catalog.now() - interval '1 minute'`)

/**
 * The approximate number of chunks that a drain until empty will process. It includes chunks that other workers hold, and
 * excludes due retries. Not for the doctor, because it reads them all.
 */
export const due = ({ queue, sql }: Tables, namespace: string | undefined) =>
  count(sql<{ count: number }>`
    select pg_catalog.count(*)::int as count from ${queue}
    where state = 'ready' and due_at <= pg_catalog.now() ${
    namespace === undefined ? sql`` : sql`and namespace = ${namespace}`
  }`)

/** Whether chunks or dead letters of a kind exist (`*` is any), or a worker serves it. */
export const isKnown = (t: Tables, { namespace, schemaIdentity: identity }: Kind) => {
  const { dead, queue, sql, worker } = t
  return Effect.map(
    sql<{ known: boolean }>`
    select exists (
      select from ${queue}
      where ${namespace}::pg_catalog.text in ('*', namespace) and ${identity}::pg_catalog.text in ('*', schema_identity)
    ) or exists (
      select from ${dead}
      where ${namespace}::pg_catalog.text in ('*', namespace) and ${identity}::pg_catalog.text in ('*', schema_identity)
    ) or exists (
      select from ${worker} cross join lateral ${servesOf(t, "serves")} s
      where ${identity}::pg_catalog.text in ('*', s.schema_identity)
        and (${namespace}::pg_catalog.text in ('*', s.namespace) or s.namespace = ${sql.literal(core)})
    ) as known`,
    ([row]) => row?.known === true
  )
}
