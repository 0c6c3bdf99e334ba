/**
 * Ends of a claim other than persisted, in one fenced statement.
 */
import * as Duration from "effect/Duration"
import type { Settlement } from "../../ChunkStore.ts"
import type { Tables } from "./tables.ts"

const toLine = (settlement: Settlement) => {
  switch (settlement._tag) {
    case "Retry":
      return { action: "Retry", delay: Duration.toMillis(settlement.delay), charge: true, ...settlement.failure }
    case "Bury":
      return { action: "Bury", reason: settlement.reason, charge: settlement.charge, ...settlement.failure }
    case "Park":
      return { action: "Park", reason: settlement.reason, charge: false }
    case "Already":
    case "Release":
      return { action: settlement._tag, charge: false }
  }
}

// Postgres text holds no NUL; an error message of the application may.
const toJson = (settlements: ReadonlyArray<Settlement>): string =>
  JSON.stringify(
    Object.fromEntries(settlements.map((settlement) => [String(settlement.chunk.seq), toLine(settlement)])),
    (_, value: unknown) => typeof value === "string" ? value.replaceAll("\u0000", "\\0").toWellFormed() : value
  )

/** Settles what this token still holds, and answers with the `seq` of those. */
export const settle = (
  { dead, failure, queue, sql }: Tables,
  token: string,
  settlements: ReadonlyArray<Settlement>
) =>
  sql<{ seq: bigint }>`
    with given as materialized (
      select ${toJson(settlements)}::pg_catalog.jsonb as lines
    ), locked as materialized (
      select * from ${queue}
      where seq = any(${settlements.map((one) => one.chunk.seq)}::bigint[]) and lease_token = ${token}::pg_catalog.uuid
      for update
    ), held as materialized (
      -- looked up by seq in one JSON object, not joined: see settlePersisted
      select q.*, l.action, l.delay, l.charge, l.reason, l.handler, l.kind, l.message,
        -- a hand can have written as many as there are numbers
        least(q.attempts, 2147483646) + l.charge::int as tried
      from locked q cross join given g
      cross join lateral pg_catalog.jsonb_to_record(g.lines -> q.seq::pg_catalog.text) as l(
        action pg_catalog.text, delay double precision, charge boolean, reason pg_catalog.text, handler pg_catalog.text,
        kind pg_catalog.text, message pg_catalog.text
      )
      -- a worker that was frozen beyond its lease may think that its handler took too long: nobody is charged for that
      where not l.charge or q.lease_until > pg_catalog.now()
    ), kept as (
      update ${queue} q set
        state = case h.action when 'Retry' then 'scheduled' when 'Park' then 'parked' else 'ready' end,
        parked_for = case h.action when 'Park' then h.reason end,
        attempts = h.tried,
        due_at = case h.action when 'Retry' then pg_catalog.now() + h.delay * interval '1 millisecond' else q.due_at end,
        rank = case h.action
          when 'Retry' then pg_catalog.now() + h.delay * interval '1 millisecond' - pg_catalog.make_interval(mins => q.priority)
          else q.rank end,
        lease_token = null, lease_until = null, lease_alone = false, leased_by = null
      from held h where q.seq = h.seq and h.action in ('Retry', 'Park', 'Release')
    ), gone as (
      delete from ${queue} q using held h where q.seq = h.seq and h.action in ('Bury', 'Already')
    ), buried as (
      insert into ${dead} as d (
        call_id, schema_identity, part, seq, namespace, schema_version, position, bytes, priority, ordering_key, reason,
        handler, message, attempts, crashes, recorded_at
      )
      select call_id, schema_identity, part, seq, namespace, schema_version, position, bytes, priority, ordering_key,
        reason, handler, message, tried, crashes, recorded_at
      from held where action = 'Bury'
      on conflict (call_id, schema_identity, part) do update set
        seq = excluded.seq, reason = excluded.reason, handler = excluded.handler, message = excluded.message,
        attempts = excluded.attempts, crashes = excluded.crashes, died_at = pg_catalog.now(), discarded_at = null,
        discard_reason = null
    ), noted as (
      insert into ${failure} (call_id, schema_identity, part, attempt, handler, kind, message)
      select call_id, schema_identity, part, tried, handler, kind, message
      from held where action in ('Retry', 'Bury')
    )
    select seq from held`

/**
 * A token that lost its chunks speaks again: its worker was cut off or frozen, and has not died. Takes back the crashes that
 * were counted for it, of these chunks or of all. Whoever holds a chunk now is not waited for: it may take long.
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

/**
 * Extends the lease of what this token still holds, and answers with those. A row that is locked is being settled at this
 * moment, by the very claim that is renewed: it counts as held, and nobody waits for it.
 */
export const renew = (
  { queue, sql }: Tables,
  token: string,
  seqs: ReadonlyArray<bigint>,
  lease: Duration.Duration,
  alone: boolean
) =>
  sql<{ seq: bigint }>`
    with free as materialized (
      select seq from ${queue}
      where seq = any(${seqs}::bigint[]) and lease_token = ${token}::pg_catalog.uuid
      for update skip locked
    ), renewed as (
      update ${queue} set
        lease_until = pg_catalog.now() + ${Duration.toMillis(lease)}::pg_catalog.float8 * interval '1 millisecond',
        lease_alone = lease_alone or ${alone}
      where seq = any(array(select seq from free))
    )
    select seq from ${queue} where seq = any(${seqs}::bigint[]) and lease_token = ${token}::pg_catalog.uuid`

/**
 * Gives back whatever a token holds, also what was put aside after its lease had ended. By no index: it is hardly ever asked,
 * and one more index is paid for at every claim.
 */
export const giveUp = ({ queue, sql }: Tables, token: string) =>
  sql`update ${queue} set lease_token = null, lease_until = null, lease_alone = false, leased_by = null
    where state in ('ready', 'waiting') and lease_token = ${token}::pg_catalog.uuid`

/**
 * Does to each table what the ends of claims do, to no row: the server looks at the rights all the same. In a transaction
 * of its own, with a commit.
 */
export const probe = ({ dead, failure, ledger, queue, sql }: Tables) =>
  sql`
    with gone as (
      delete from ${queue} where false returning 1
    ), kept as (
      update ${queue} set attempts = attempts where false
    ), persisted as (
      insert into ${ledger} (call_id, schema_identity, part, namespace, schema_version, handler, handler_version)
      select '', '', '', '', 0, '', 0 where false
    ), buried as (
      insert into ${dead} (
        call_id, schema_identity, part, seq, namespace, schema_version, position, bytes, priority, reason, handler, message,
        attempts, crashes, recorded_at
      )
      select '', '', '', 0, '', 0, 0, 0, 0, '', '', '', 0, 0, pg_catalog.now() where false
      on conflict (call_id, schema_identity, part) do update set attempts = excluded.attempts
    ), noted as (
      insert into ${failure} (call_id, schema_identity, part, attempt, handler, kind, message)
      select '', '', '', 0, '', '', '' where false
    )
    select 1 as possible`
