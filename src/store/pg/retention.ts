/**
 * Deletes old data in portions with one commit each. Locked rows are not waited for: they are left for the next time. Each
 * portion continues where the previous one ended, so rows that must be kept are read once and not once a portion.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ageOf, Retention } from "../../Retention.ts"
import { exactTime } from "./json.ts"
import { countLedger } from "./ledgerTotals.ts"
import { isDone, isOver, isRead, preview } from "./prunable.ts"
import type { Tables } from "./tables.ts"
import { ago } from "./time.ts"
import { rollUp } from "./usage.ts"

/** How many rows are examined in one commit. */
const portionSize = 1000

/** Before every id of an attempt. */
const nil = "00000000-0000-0000-0000-000000000000"

/** The result of a portion. The next one begins after `(at, id)`. */
interface Portion {
  readonly looked: number
  readonly forgotten: number
  readonly at: string | null
  readonly id: string | null
}

const payloads = (t: Tables, cutoff: string, at: string, id: string) => {
  const { call, sql } = t
  return sql<Portion>`
    with old as materialized (
      select call_id, recorded_at from ${call}
      where outputs is not null and recorded_at < ${cutoff}::pg_catalog.timestamptz
        and (recorded_at, call_id) > (${at}::pg_catalog.timestamptz, ${id})
      order by recorded_at, call_id limit ${portionSize}
    ), picked as materialized (
      select c.call_id from ${call} c
      where c.call_id in (select call_id from old) and ${isDone(t)}
      for update skip locked
    ), forgotten as (
      update ${call} c set input = null, outputs = null, details = null from picked p where c.call_id = p.call_id
      returning 1
    )
    select (select pg_catalog.count(*)::int from old) as looked, (select pg_catalog.count(*)::int from forgotten) as forgotten, last.*
    from (select 1) one
    left join (
      select ${
    sql.literal(exactTime("recorded_at"))
  } as at, call_id as id from old order by recorded_at desc, call_id desc limit 1
    ) last on true`
}

const failures = (t: Tables, cutoff: string, at: string, id: string) => {
  const { failure, sql } = t
  return sql<Portion>`
    with old as materialized (
      select at, id from ${failure}
      where at < ${cutoff}::pg_catalog.timestamptz and (at, id) > (${at}::pg_catalog.timestamptz, ${id}::bigint)
      order by at, id limit ${portionSize}
    ), picked as materialized (
      select f.id from ${failure} f where f.id in (select id from old) and ${isOver(t)} for update skip locked
    ), forgotten as (
      delete from ${failure} f using picked p where f.id = p.id returning 1
    )
    select (select pg_catalog.count(*)::int from old) as looked, (select pg_catalog.count(*)::int from forgotten) as forgotten, last.*
    from (select 1) one
    left join (select ${
    sql.literal(exactTime("at"))
  } as at, id::pg_catalog.text from old order by at desc, id desc limit 1) last on true`
}

/** Texts of attempts whose call is done: it has no chunk that is outstanding or dead. */
const answers = (t: Tables, cutoff: string, at: string, id: string) => {
  const { attempt, sql } = t
  return sql<Portion>`
    with old as materialized (
      select answered_at, id from ${attempt}
      where text is not null and answered_at < ${cutoff}::pg_catalog.timestamptz
        and (answered_at, id) > (${at}::pg_catalog.timestamptz, ${id}::pg_catalog.uuid)
      order by answered_at, id limit ${portionSize}
    ), picked as materialized (
      select c.id from ${attempt} c where c.id in (select id from old) and ${isDone(t)} for update skip locked
    ), forgotten as (
      update ${attempt} c set text = null from picked p where c.id = p.id returning 1
    )
    select (select pg_catalog.count(*)::int from old) as looked, (select pg_catalog.count(*)::int from forgotten) as forgotten, last.*
    from (select 1) one
    left join (select ${
    sql.literal(exactTime("answered_at"))
  } as at, id::pg_catalog.text from old order by answered_at desc, id desc limit 1) last on true`
}

const discarded = ({ dead, sql }: Tables, cutoff: string) =>
  sql<Portion>`
    with picked as materialized (
      select call_id, schema_identity, part from ${dead}
      where discarded_at < ${cutoff}::pg_catalog.timestamptz limit ${portionSize} for update skip locked
    ), forgotten as (
      delete from ${dead} d using picked p
      where d.call_id = p.call_id and d.schema_identity = p.schema_identity and d.part = p.part
      returning 1
    )
    select pg_catalog.count(*)::int as looked, pg_catalog.count(*)::int as forgotten, null as at, null as id from forgotten`

/** Ends that are old and read: the first of the log. */
const ends = (t: Tables, cutoff: string) => {
  const { callEnd, sql } = t
  return sql<Portion>`
    with first as materialized (
      select call_id, ended_at, xact, seq from ${callEnd} order by xact, seq limit ${portionSize}
    ), picked as materialized (
      select call_id from ${callEnd} where call_id = any(array(
        select e.call_id from first e where e.ended_at < ${cutoff}::pg_catalog.timestamptz and ${isRead(t)}
      ))
      for update skip locked
    ), forgotten as (
      delete from ${callEnd} where call_id = any(array(select call_id from picked)) returning 1
    )
    select pg_catalog.count(*)::int as looked, pg_catalog.count(*)::int as forgotten, null as at, null as id from forgotten`
}

/** The service on Postgres. */
export const make = (t: Tables): Retention["Service"] => {
  const { client, sql } = t
  const rollingUp = client.statement(Effect.tap(rollUp(t), () => countLedger(t)))

  /** Runs portions until one is not full. */
  const inPortions = Effect.fnUntraced(function*(
    input: Duration.Input | undefined,
    firstId: string,
    portion: (cutoff: string, at: string, id: string) => ReturnType<typeof payloads>
  ) {
    const age = ageOf(input)
    if (age === undefined) return 0
    const [start] = yield* client.statement(
      sql<{ cutoff: string }>`select pg_catalog.to_json(${ago(t, age)}) #>> '{}'::pg_catalog.text[] as cutoff`
    )
    let at = "-infinity"
    let id = firstId
    let total = 0
    while (true) {
      const [done] = yield* client.statement(portion(start!.cutoff, at, id))
      total += done!.forgotten
      if (done!.looked < portionSize) return total
      at = done!.at ?? at
      id = done!.id ?? id
    }
  })

  return Retention.of({
    prune: (policy) =>
      Effect.all({
        payloads: inPortions(policy.payloads, "", (cutoff, at, id) => payloads(t, cutoff, at, id)),
        discarded: inPortions(policy.discarded, "", (cutoff) => discarded(t, cutoff)),
        failures: inPortions(policy.failures, "0", (cutoff, at, id) => failures(t, cutoff, at, id)),
        answers: inPortions(policy.payloads, nil, (cutoff, at, id) => answers(t, cutoff, at, id)),
        ends: inPortions(policy.payloads, "", (cutoff) => ends(t, cutoff))
      }).pipe(Effect.tap(rollingUp)),
    preview: (policy, options) => client.statement(preview(t, policy, options?.exact === true)),
    rollUp: rollingUp
  })
}
