/**
 * Takes back crashes that were counted although the worker had not died.
 */
import type { Tables } from "./tables.ts"

/**
 * A token that lost its chunks reports again: its worker was cut off or frozen, and has not died. Takes back the crashes
 * that were counted for it, of these chunks or of all. Skips locked rows, because their transactions may take long.
 */
export const takeBackCrashes = ({ queue, sql }: Tables, token: string, seqs: ReadonlyArray<bigint> | undefined) =>
  sql`
    with counted as materialized (
      select seq from ${queue}
      where lost_leases ? ${token}::pg_catalog.text and ${
    seqs === undefined ? sql`true` : sql`seq = any(${seqs}::bigint[])`
  }
      for update skip locked
    )
    update ${queue} set
      crashes = greatest(crashes - 1, 0),
      lone_crashes = greatest(lone_crashes - (lost_leases -> ${token}::pg_catalog.text = 'true')::int, 0),
      lost_leases = nullif(lost_leases - ${token}::pg_catalog.text, '{}')
    where seq = any(array(select seq from counted))`
