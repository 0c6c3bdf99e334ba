/**
 * The verb `begin`: registers a call whose service is about to run, with a lease for the run.
 */
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../../ChunkStore.ts"
import { freshToken } from "../../internal/freshToken.ts"
import { sameJson } from "../../internal/sameJson.ts"
import type { CallSpec } from "../../ServiceCall.ts"
import { giveBack } from "./abandon.ts"
import { toUtc } from "./chunk.ts"
import { rowsOf } from "./columns.ts"
import type { Engine } from "./engine.ts"
import { type CallRow, callRow, toCall } from "./find.ts"
import { besideColumns, given, specColumns } from "./given.ts"
import { isRefusal, refused } from "./refusal.ts"
import type { Tables } from "./tables.ts"
import { inFuture } from "./time.ts"

const asGiven = (t: Tables, spec: CallSpec) => {
  const one = [given({ ...spec, outputs: [] })]
  return rowsOf(t, [...specColumns(one), ...besideColumns(one)])
}

/**
 * Takes the call for this run if it is new, has failed, or its run died. A call without an answer may be begun again with
 * other content. Returns no row otherwise.
 */
const taken = (t: Tables, spec: CallSpec, token: string, lease: Duration.Duration) =>
  t.sql<{ taken_over: boolean }>`
    insert into ${t.call} as c (
      call_id, namespace, service, correlation_id, status, context, input, facts, details, trace, priority, not_before,
      ordering_key, run_token, run_until, started_at
    )
    select call_id, namespace, service, correlation_id, 'running', context::pg_catalog.json, nullif(input, '')::pg_catalog.json,
      nullif(facts, '')::pg_catalog.json, nullif(details, '')::pg_catalog.json, nullif(trace, '')::pg_catalog.json, priority,
      nullif(not_before, '')::pg_catalog.timestamptz, nullif(ordering_key, ''), ${token}::pg_catalog.uuid, ${
    inFuture(t, lease)
  }, pg_catalog.now()
    from (${asGiven(t, spec)}) g
    on conflict (call_id) do update set status = 'running', run_token = excluded.run_token,
      run_until = excluded.run_until, started_at = pg_catalog.now(), error = null, namespace = excluded.namespace,
      service = excluded.service, correlation_id = excluded.correlation_id, context = excluded.context,
      input = excluded.input, facts = excluded.facts, details = excluded.details, trace = excluded.trace,
      priority = excluded.priority, not_before = excluded.not_before, ordering_key = excluded.ordering_key
    where c.erasure is null
      and (c.status in ('failed', 'invalid') or (c.status = 'running' and c.run_until < pg_catalog.now()))
    -- xmax is 0 for a row this statement inserted
    returning xmax::pg_catalog.text <> '0' as taken_over`

/** Whether the row is the call to be begun, and not another one with its id. A pruned input counts as the same. */
const isSame = (row: CallRow, spec: CallSpec): boolean => {
  const isPruned = row.status === "succeeded" && row.outputs === null
  return row.namespace === spec.namespace && row.service === spec.service &&
    row.ordering_key === (spec.orderingKey ?? null) && sameJson(row.context, spec.context ?? {}) &&
    (isPruned || sameJson(row.input, spec.input ?? null))
}

const beginning = (t: Tables) =>
  Effect.fnUntraced(
    function*(token: string, call: CallSpec, lease: Duration.Duration) {
      const [begun] = yield* taken(t, call, token, lease)
      if (begun !== undefined) return { _tag: "Begun", token, takenOver: begun.taken_over } as const
      const [row] = yield* callRow(t, call.callId)
      if (row?.erased === true) return { _tag: "Erased" } as const
      if (row !== undefined && !isSame(row, call)) return { _tag: "Conflict" } as const
      if (row?.status === "succeeded") return { _tag: "Succeeded", call: toCall(row) } as const
      const until = row?.run_until ?? undefined
      return {
        _tag: "Running",
        until: until === undefined ? yield* DateTime.now : toUtc(until)
      } as const
    },
    Effect.catchIf(isRefusal, (error) => Effect.succeed(refused(error))),
    t.client.statement
  )

/**
 * The verb. The client lets an interrupted statement end if that takes only a moment: then the call runs, and nobody knows
 * the token. It is given back.
 */
export const begin = ({ t }: Engine): ChunkStore["Service"]["begin"] => {
  const beginAs = beginning(t)
  return Effect.fnUntraced(function*(call: CallSpec, lease: Duration.Duration) {
    if (yield* t.client.isCallers) return { _tag: "InTransaction" } as const
    const token = yield* freshToken
    return yield* Effect.onInterrupt(
      beginAs(token, call, lease),
      () => Effect.ignore(t.client.statement(giveBack(t, call.callId, token)), { log: "Warn" })
    )
  })
}
