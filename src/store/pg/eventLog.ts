/**
 * The ledger as a log. Lines are read in the order of (xact, seq), and only those of transactions older than every one
 * still running: a transaction with a lower number that commits later can then not leave a line behind a reader's back.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { LeaseLost, StoreError } from "../../ChunkStore.ts"
import { EventLog, type LogEntry, SubscriptionStatus } from "../../EventLog.ts"
import { freshToken } from "../../internal/token.ts"
import { asStoreError } from "./errors.ts"
import { iso, jsonObject, objects, readRows, storableText } from "./json.ts"
import type { Tables } from "./tables.ts"

/** How many entries `list` counts at most. */
const mostBehind = 10_000

/** A line after a subscription's place; without one there is nothing to read. */
interface TakenRow {
  /** The place is in no past of this database. */
  readonly ahead: boolean
  readonly attempts: number
  readonly place_xact: string
  readonly place_seq: string
  readonly xact: string | null
  readonly seq: string
  readonly call_id: string
  readonly schema_identity: string
  readonly part: string
  readonly namespace: string
  readonly handler: string
  readonly objects: ReadonlyArray<{ readonly type: string; readonly id: string }>
  readonly service: string | null
  readonly correlation_id: string | null
  readonly context: unknown
}

const toEntry = (row: TakenRow & { readonly xact: string }): LogEntry => ({
  place: { xact: row.xact, seq: row.seq },
  events: row.objects.map((object) => ({
    object,
    key: { callId: row.call_id, schemaIdentity: row.schema_identity, part: row.part },
    namespace: row.namespace,
    handler: row.handler,
    service: row.service ?? "",
    correlationId: row.correlation_id ?? row.call_id,
    context: jsonObject(row.context)
  }))
})

const later = (sql: Tables["sql"], lease: Duration.Duration) =>
  sql`now() + ${Duration.toMillis(lease)} * interval '1 millisecond'`

/** Two readers cannot both lock the row; whoever comes second finds it leased. Writes only when there is something. */
const take = (
  { call, ledger, sql, subscription }: Tables,
  name: string,
  token: string,
  limit: number,
  lease: Duration.Duration
) =>
  sql<TakenRow>`
    with place as materialized (
      select name, xact, seq, attempts, xact > pg_snapshot_xmax(pg_current_snapshot()) as ahead
      from ${subscription}
      where name = ${name} and due_at <= now() and (lease_until is null or lease_until < now())
      for update skip locked
    ), entry as materialized (
      select l.* from place p cross join lateral (
        select xact, seq, call_id, schema_identity, part, namespace, handler, objects from ${ledger} e
        where (e.xact, e.seq) > (p.xact, p.seq) and e.xact < pg_snapshot_xmin(pg_current_snapshot())
        order by e.xact, e.seq limit ${limit}
      ) l
    ), taken as (
      update ${subscription} s set lease_token = ${token}::uuid, lease_until = ${later(sql, lease)}
      from place p where s.name = p.name and exists (select from entry)
    )
    select p.ahead, p.attempts, p.xact::text as place_xact, p.seq::text as place_seq,
      e.xact::text as xact, e.seq::text as seq, e.call_id, e.schema_identity, e.part, e.namespace, e.handler,
      ${sql.literal(objects("e.objects"))} as objects,
      c.service, c.correlation_id, c.context
    from place p left join entry e on true left join ${call} c on c.call_id = e.call_id
    order by e.xact, e.seq`

/** The service on Postgres. */
export const make = (t: Tables): EventLog["Service"] => {
  const { ledger, sql, subscription } = t
  const held = (name: string, token: string) => sql`name = ${name} and lease_token = ${token}::uuid`

  return EventLog.of({
    open: (name, from) =>
      sql`insert into ${subscription} (name, xact)
        values (${name}, ${from === "now" ? sql`pg_snapshot_xmin(pg_current_snapshot())` : sql`'0'`})
        on conflict (name) do nothing`.pipe(Effect.asVoid, asStoreError("eventLog.open")),

    take: Effect.fnUntraced(function*(name, { lease, limit }) {
      const token = yield* freshToken
      const rows = yield* take(t, name, token, limit, lease)
      const [first] = rows
      if (first?.ahead === true) {
        return yield* new StoreError({
          operation: "eventLog.take",
          transient: false,
          reason:
            `subscription ${name} stands at transaction ${first.place_xact}, which this database has yet to reach. ` +
            `Was it restored from another server's dump? Then what is created now stands before that place, unread`
        })
      }
      const entries = rows.flatMap((row) => row.xact === null ? [] : [toEntry({ ...row, xact: row.xact })])
      if (first === undefined || entries.length === 0) return Option.none()
      const place = { xact: first.place_xact, seq: first.place_seq }
      return Option.some({ token, place, entries, attempts: first.attempts })
    }, asStoreError("eventLog.take")),

    advance: Effect.fnUntraced(function*(name, token, { seq, xact }, lease) {
      const stays = sql`(xact, seq) = (${xact}::xid8, ${seq}::bigint)`
      const rows = yield* sql`
        update ${subscription} set
          attempts = case when ${stays} then attempts else 0 end, last_error = case when ${stays} then last_error end,
          xact = ${xact}::xid8, seq = ${seq}::bigint, lease_until = ${later(sql, lease)}, updated_at = now()
        where ${held(name, token)} returning 1`
      if (rows.length === 0) return yield* new LeaseLost({ claimed: 1, held: 0 })
    }, asStoreError("eventLog.advance")),

    release: (name, token, failure) =>
      sql`update ${subscription} set lease_token = null, lease_until = null ${
        failure === undefined ? sql`` : sql`, attempts = attempts + 1, due_at = ${later(sql, failure.delay)},
          last_error = ${storableText(failure.message)}, updated_at = now()`
      } where ${held(name, token)}`.pipe(Effect.asVoid, asStoreError("eventLog.release")),

    list: sql<{ row: unknown }>`
      select json_build_object(
        'name', s.name, 'attempts', s.attempts, 'lastError', s.last_error,
        'dueAt', ${sql.literal(iso("s.due_at"))}, 'updatedAt', ${sql.literal(iso("s.updated_at"))},
        'behind', (
          select count(*) from (
            select from ${ledger} e where (e.xact, e.seq) > (s.xact, s.seq) limit ${mostBehind}
          ) unread
        )
      ) as row
      from ${subscription} s order by s.name`.pipe(readRows(SubscriptionStatus), asStoreError("eventLog.list")),

    remove: (name) =>
      Effect.map(sql`delete from ${subscription} where name = ${name} returning 1`, (rows) => rows.length > 0).pipe(
        asStoreError("eventLog.remove")
      )
  })
}
