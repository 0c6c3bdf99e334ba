/**
 * Finds the calls that created a row of the application. The ledger has no index for this, so the query reads all of it.
 */
import * as Effect from "effect/Effect"
import type { DomainObject } from "../../DomainObject.ts"
import type { Tables } from "./tables.ts"

/** The ids of the calls, without duplicates. */
export const callsThatMade = ({ ledger, sql }: Tables, objects: ReadonlyArray<DomainObject>) => {
  const isOne = sql.or(
    objects.map(({ id, type }) => sql`objects @> ${JSON.stringify([{ type, id }])}::pg_catalog.jsonb`)
  )
  return objects.length === 0 ? Effect.succeed([]) : Effect.map(
    sql<{ call_id: string }>`select distinct call_id from ${ledger} where ${isOne}`,
    (rows) => rows.map((row) => row.call_id)
  )
}
