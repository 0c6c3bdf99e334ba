/**
 * The verb `settle`: ends a claim's chunks in ways other than persisted, in one fenced statement.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ChunkStore, Settlement } from "../../ChunkStore.ts"
import { freesKey } from "../../Settlement.ts"
import type { Engine } from "./engine.ts"
import type { Tables } from "./tables.ts"
import { takeBackCrashes } from "./takeBackCrashes.ts"
import { unwatched } from "./watch.ts"

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

// Postgres text cannot contain NUL; an error message of the application can.
const toJson = (settlements: ReadonlyArray<Settlement>): string =>
  JSON.stringify(
    Object.fromEntries(settlements.map((settlement) => [String(settlement.chunk.seq), toLine(settlement)])),
    (_, value: unknown) => typeof value === "string" ? value.replaceAll("\u0000", "\\0").toWellFormed() : value
  )

/**
 * Settles what this token still holds, and returns the `seq` of each, and whether a subscription receives ends of calls.
 */
const statement = (
  { callSubscription, dead, failure, queue, sql }: Tables,
  token: string,
  settlements: ReadonlyArray<Settlement>
) =>
  sql<{ seq: bigint; ends: boolean }>`
    with given as materialized (
      select ${toJson(settlements)}::pg_catalog.jsonb as lines
    ), locked as materialized (
      select * from ${queue}
      where seq = any(${settlements.map((one) => one.chunk.seq)}::bigint[]) and lease_token = ${token}::pg_catalog.uuid
      order by seq for update
    ), held as materialized (
      -- found by seq in one JSON object, not joined: see persist
      select q.*, l.action, l.delay, l.charge, l.reason, l.handler, l.kind, l.message,
        -- a row edited manually can contain the largest integer
        least(q.attempts, 2147483646) + l.charge::int as tried
      from locked q cross join given g
      cross join lateral pg_catalog.jsonb_to_record(g.lines -> q.seq::pg_catalog.text) as l(
        action pg_catalog.text, delay double precision, charge boolean, reason pg_catalog.text, handler pg_catalog.text,
        kind pg_catalog.text, message pg_catalog.text
      )
      -- a worker that was frozen beyond its lease may report a timeout of its handler: no attempt is charged for that
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
    select seq, exists (select from ${callSubscription}) as ends from held`

/** The verb. */
export const settle = ({ claiming, close, settings, t, wake }: Engine): ChunkStore["Service"]["settle"] =>
  Effect.fnUntraced(function*(token, settlements) {
    if (settlements.length === 0) return []
    const frees = (settlement: Settlement) => freesKey(settlement, settings.deadBlocksKey)
    const settled = statement(t, token, settlements)
    const gone = settlements.filter(frees).map((settlement) => settlement.chunk)
    const rows = yield* gone.some((chunk) => chunk.orderingKey !== undefined)
      ? t.client.transaction(() => unwatched(Effect.tap(settled, wake(gone))))
      : settled
    const left = settlements.filter(({ _tag }) => _tag === "Bury" || _tag === "Already")
    if (left.length > 0 && rows[0]?.ends === true) yield* close(left.map(({ chunk }) => chunk.key.callId))
    // a released chunk keeps its place, which is behind the last claim's mark
    if (settlements.some((settlement) => settlement._tag === "Release")) claiming.lookAgain()
    const seqs = new Set(rows.map((row) => row.seq))
    const lost = settlements.filter((one) => one._tag === "Release" && one.hung !== true && !seqs.has(one.chunk.seq))
    if (lost.length > 0) yield* takeBackCrashes(t, token, lost.map((one) => one.chunk.seq))
    return settlements.filter((settlement) => seqs.has(settlement.chunk.seq))
      .map((settlement) => ({ settlement, freesKey: frees(settlement) }))
  }, t.client.statement)
