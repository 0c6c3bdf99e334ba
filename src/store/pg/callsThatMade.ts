/**
 * Finds the calls that created a row of the application: in the portions of the ledger whose digest has the row's id, and in
 * what has no digest yet.
 */
import * as Effect from "effect/Effect"
import type { DomainObject } from "../../DomainObject.ts"
import { digestsWith, linesAfter, linesOfDigest, mostAfter, place } from "./ledgerTotals.ts"
import type { Tables } from "./tables.ts"

const search = (t: Tables, objects: ReadonlyArray<DomainObject>, most: number | undefined) => {
  const { sql } = t
  const isOne = sql.or(
    objects.map(({ id, type }) => sql`line.objects @> ${JSON.stringify([{ type, id }])}::pg_catalog.jsonb`)
  )
  return sql<{ calls: ReadonlyArray<string> | null; after: number }>`
    with place as materialized (select * from ${place(t)} place),
    digest as materialized (
      select * from ${digestsWith(t, objects.map(({ id }) => id))} digest where (select counted from place)
    ),
    digested as (
      select line.call_id from digest cross join lateral ${linesOfDigest(t, "digest")} line where ${isOne}
    ),
    after as materialized (
      select pg_catalog.count(*)::pg_catalog.float8 as lines,
        pg_catalog.array_agg(line.call_id) filter (where ${isOne}) as calls
      from place cross join lateral ${linesAfter(t, "place", most)} line
    )
    select (select lines from after) as after, (
      select pg_catalog.json_agg(distinct call_id) from (
        select call_id from digested union all select pg_catalog.unnest(calls) from after
      ) found
    ) as calls`
}

/** The ids of the calls, without duplicates. */
export const callsThatMade = (t: Tables, objects: ReadonlyArray<DomainObject>) =>
  objects.length === 0 ? Effect.succeed([]) : search(t, objects, mostAfter).pipe(
    Effect.flatMap((rows) => (rows[0]?.after ?? 0) < mostAfter ? Effect.succeed(rows) : search(t, objects, undefined)),
    Effect.map(([row]) => row?.calls ?? [])
  )
