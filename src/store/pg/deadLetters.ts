/**
 * Lists dead letters, and moves them back to the queue or discards them, in portions with one commit each.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import {
  DeadLetter,
  DeadLetterCount,
  DeadLetterDetail,
  type DeadLetterFilter,
  type DeadLetters
} from "../../DeadLetters.ts"
import { storableText } from "../../internal/storableText.ts"
import * as Metrics from "../../Metrics.ts"
import { asStoreError } from "./errors.ts"
import { decoder, exactTime, failureRecord, iso, readRows } from "./json.ts"
import { checkReadCommitted } from "./readCommitted.ts"
import type { Tables } from "./tables.ts"
import { ago } from "./time.ts"
import { type Freed, freedOf, wakeFollowers } from "./waiting.ts"
import { unwatched } from "./watch.ts"

const decodeDetail = decoder(DeadLetterDetail)

/** How many are moved in one commit. */
const portionSize = 1000

/** The condition of a filter, on the table as `d`. */
const matching = ({ sql }: Tables, filter: DeadLetterFilter) => {
  const exact = Object.entries({
    call_id: filter.callId,
    namespace: filter.namespace,
    schema_identity: filter.schemaIdentity,
    part: filter.part,
    handler: filter.handler,
    reason: filter.reason
  })
  return sql.and([
    ...exact.flatMap(([column, value]) =>
      value === undefined
        ? []
        // the table's texts contain no NUL, and the server does not accept one as a parameter
        : [value.includes("\0") ? sql`false` : sql`d.${sql.literal(column)} = ${value}`]
    ),
    ...(filter.olderThan === undefined
      ? []
      : [sql`d.died_at < ${ago({ sql }, Duration.fromInputUnsafe(filter.olderThan))}`]),
    ...(filter.newerThan === undefined
      ? []
      : [sql`d.died_at > ${ago({ sql }, Duration.fromInputUnsafe(filter.newerThan))}`]),
    ...(filter.text === undefined ? [] : [sql`position(${storableText(filter.text)} in d.message) > 0`]),
    filter.discarded === true ? sql`d.discarded_at is not null` : sql`d.discarded_at is null`
  ])
}

const letter = `
  pg_catalog.json_build_object(
    'key', pg_catalog.json_build_object('callId', d.call_id, 'schemaIdentity', d.schema_identity, 'part', d.part),
    'namespace', d.namespace, 'schemaVersion', d.schema_version, 'orderingKey', d.ordering_key, 'handler', d.handler,
    'reason', d.reason, 'message', d.message, 'attempts', d.attempts, 'crashes', d.crashes,
    'recordedAt', ${iso("d.recorded_at")}, 'diedAt', ${iso("d.died_at")},
    'discarded', case when d.discarded_at is not null then
      pg_catalog.json_build_object('at', ${iso("d.discarded_at")}, 'reason', coalesce(d.discard_reason, '')) end
  )`

/** The result of a portion. */
interface Portion {
  readonly moved: number
  /** Ordering keys that the moved letters no longer block. */
  readonly freed: ReadonlyArray<Freed> | null
}

/**
 * The oldest matching letters, locked in that order. Waits for transactions that hold one of them: a claim that sets a chunk
 * behind it to waiting (`dead_gate` there) commits first, and `wakeFollowers` then sees that chunk. No claim waits for this
 * lock, so no deadlock is possible. Letters that died after `until` are left alone, so the work ends.
 */
const picked = (t: Tables, filter: DeadLetterFilter, until: string) =>
  t.sql`picked as materialized (
      select d.* from ${t.dead} d
      where ${matching(t, filter)} and d.died_at <= ${until}::pg_catalog.timestamptz
      order by d.seq limit ${portionSize} for update
    )`

const isPicked = "d.call_id = p.call_id and d.schema_identity = p.schema_identity and d.part = p.part"

/** Chunks that were persisted in the meantime only leave the dead letters; the others are queued at their old place. */
const redrivePortion = (t: Tables, filter: DeadLetterFilter, until: string) => {
  const { dead, ledger, queue, sql } = t
  return sql<Portion>`
    with ${picked(t, filter, until)}, gone as (
      delete from ${dead} d using picked p where ${sql.literal(isPicked)}
    ), settled as materialized (
      select p.seq, p.namespace, p.ordering_key from picked p join ${ledger} d on ${sql.literal(isPicked)}
    ), queued as (
      insert into ${queue} (
        seq, priority, due_at, rank, schema_version, position, bytes, recorded_at, namespace, schema_identity, call_id,
        part, ordering_key
      )
      select seq, priority, pg_catalog.now(), recorded_at - pg_catalog.make_interval(mins => priority), schema_version, position, bytes,
        recorded_at, namespace, schema_identity, call_id, part, ordering_key
      from picked where seq not in (select seq from settled)
    )
    select (select pg_catalog.count(*)::int from picked) as moved,
      ${freedOf(t, sql`settled`)} as freed`
}

const discardPortion = (t: Tables, filter: DeadLetterFilter, until: string, reason: string) => {
  const { dead, sql } = t
  return sql<Portion>`
    with ${picked(t, filter, until)}, discarded as (
      update ${dead} d set discarded_at = pg_catalog.now(), discard_reason = ${storableText(reason)}
      from picked p where ${sql.literal(isPicked)}
    )
    select (select pg_catalog.count(*)::int from picked) as moved, ${freedOf(t, sql`picked`)} as freed`
}

/** The service on Postgres, but for repairs. Runs `moved` when chunks have become claimable. */
export const make = (
  t: Tables,
  moved: Effect.Effect<void>
): Omit<DeadLetters["Service"], "beginRepair" | "endRepair"> => {
  const { call, client, dead, failure, sql } = t

  const inPortions = Effect.fnUntraced(function*(
    portion: (until: string) => ReturnType<typeof redrivePortion>
  ) {
    const [start] = yield* client.statement(
      sql<{ now: string }>`select ${sql.literal(exactTime("pg_catalog.now()"))} as now`
    )
    let total = 0
    while (true) {
      const count = yield* client.transaction(({ isNested }) =>
        unwatched(Effect.gen(function*() {
          if (isNested) yield* checkReadCommitted(t)
          const [done] = yield* portion(start!.now)
          // must be a separate statement: see `wakeFollowers`
          if (done!.freed !== null) yield* wakeFollowers(t, done!.freed, done!.moved)
          if (done!.moved > 0) yield* sql.afterCommit(moved)
          return done!.moved
        }))
      ).pipe(asStoreError)
      total += count
      if (count < portionSize) return total
    }
  })

  return {
    list: (filter, { limit, offset = 0 }) =>
      sql<{ row: unknown }>`
        select ${sql.literal(letter)} as row from ${dead} d where ${matching(t, filter)}
        order by d.died_at desc, d.seq desc limit ${limit} offset ${offset}`.pipe(
        readRows(DeadLetter),
        client.statement
      ),
    count: (filter) =>
      sql<{ row: unknown }>`
        select pg_catalog.json_build_object(
          'namespace', d.namespace, 'schemaIdentity', d.schema_identity, 'reason', d.reason, 'count', pg_catalog.count(*)
        ) as row
        from ${dead} d where ${matching(t, filter)}
        group by d.namespace, d.schema_identity, d.reason order by d.namespace, d.schema_identity, d.reason`.pipe(
        readRows(DeadLetterCount),
        client.statement
      ),
    inspect: (key) =>
      Effect.gen(function*() {
        const ofKey = sql`call_id = ${key.callId} and schema_identity = ${key.schemaIdentity} and part = ${key.part}`
        const [found] = yield* sql<{ letter: unknown; output: { readonly data?: unknown } | null }>`
          select ${sql.literal(letter)} as letter,
            (select c.outputs[d.position + 1] from ${call} c where c.call_id = d.call_id) as output
          from ${dead} d where ${ofKey}`
        if (found === undefined) return Option.none()
        // one row each: a letter that was redriven often can have more failures than fit into one message
        const failures = yield* sql<{ failure: unknown }>`
          select ${sql.literal(failureRecord("f"))} as failure from ${failure} f where ${ofKey} order by id`
        return Option.some(
          yield* decodeDetail({
            letter: found.letter,
            failures: failures.map((row) => row.failure),
            // the server does not parse this value: it only does so for text
            data: found.output?.data ?? null
          })
        )
      }).pipe(
        Effect.catchIf(Schema.isSchemaError, Effect.die),
        client.statement
      ),
    redrive: (filter) =>
      inPortions((until) => redrivePortion(t, filter, until)).pipe(
        Effect.tap((moved) => Metric.update(Metrics.redriven, moved))
      ),
    discard: (filter, reason) =>
      filter.discarded === true
        ? Effect.succeed(0)
        : inPortions((until) => discardPortion(t, filter, until, reason))
  }
}
