/**
 * The ledger and the ends of calls as logs. Lines are read in the order of (xact, seq), and only those of transactions older
 * than every running one: so a transaction with a lower number that commits later adds no line before a reader's place.
 * `rebase` explains how the numbers relate to this cluster's transactions.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Fragment } from "effect/sql/Statement"
import { LeaseLost } from "../../ChunkStore.ts"
import {
  EntryTooLarge,
  EventLog,
  type Feed,
  feedOf,
  type From,
  type LogEntry,
  mostEntryBytes,
  type Page,
  type Place,
  type Read,
  SubscriptionStatus,
  type Take,
  type Taken
} from "../../EventLog.ts"
import { freshToken } from "../../internal/freshToken.ts"
import { storableText } from "../../internal/storableText.ts"
import type { ChunkKey } from "../../ServiceCall.ts"
import { type FeedLine, isOf, linesOf, toEnded } from "./feeds.ts"
import { iso, jsonObject, objects, readRows } from "./json.ts"
import { isAhead, isWitnessed, rebase, settle } from "./rebase.ts"
import type { Tables } from "./tables.ts"
import { inFuture } from "./time.ts"

/** How many entries `list` counts at most. */
const mostBehind = 10_000

/** The age after which a reader renews the log's witness. The younger it is, the fewer lines are repeated after a move. */
const witnessAge = "1 minute"

/** A subscription that can be taken, with a line after its place; without a line there is nothing to read. */
interface TakenRow extends FeedLine {
  /** Whether the log's numbers belong to this cluster. */
  readonly ours: boolean
  /** Whether the log's witness is old. */
  readonly stale: boolean
  readonly attempts: number
  readonly suspects: number
  readonly place_xact: string
  readonly place_seq: string
  readonly xact: string | null
  readonly seq: string
  readonly bytes: number
  readonly schema_identity: string
  readonly part: string
  readonly handler: string
  readonly objects: ReadonlyArray<{ readonly type: string; readonly id: string }>
}

const keyOf = (row: TakenRow): ChunkKey => ({
  callId: row.call_id,
  schemaIdentity: row.schema_identity,
  part: row.part
})

const toEntry = (row: TakenRow & { readonly xact: string }): LogEntry => ({
  place: { xact: row.xact, seq: row.seq },
  events: row.objects.map((object) => ({
    object,
    key: keyOf(row),
    namespace: row.namespace ?? "",
    handler: row.handler,
    service: row.service ?? "",
    correlationId: row.correlation_id ?? row.call_id,
    context: jsonObject(row.context)
  })),
  ended: toEnded(row)
})

/** The number of the oldest transaction that may still write. */
export const horizon = (base: string) =>
  `(${base} + pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::pg_catalog.text::bigint)::pg_catalog.text::pg_catalog.xid8`

/** Whether the lines and the place of `s` are of this cluster's numbers: only then may they be read. */
const isReadable = (t: Tables, feed: Feed, place: Fragment) =>
  t.sql`coalesce(l.witnessed and not ${place}, false) and not coalesce((
      select ${t.sql.literal(isAhead("e", "l.base"))} from ${
    linesOf(t, feed)
  } e order by e.xact desc, e.seq desc limit 1
    ), false)`

/** The log's row, as `l`. */
const logRow = ({ log, sql }: Tables) =>
  sql`select base, ${sql.literal(isWitnessed("l"))} as witnessed,
      witnessed_at < pg_catalog.now() - ${sql.literal(`interval '${witnessAge}'`)} as stale
    from ${log} l limit 1`

// a literal, not a parameter: the server then plans the statement once, and the plan is good for all parameters
const largest = ({ sql }: Tables) => sql.literal(String(mostEntryBytes))

/**
 * The lines after a `place` with its `horizon`, `most` of them at most, if it is `ours`.
 *
 * They are read one by one, each by a descent of the index, so that the walk ends at the limit of bytes: the size of a
 * compressed value is known only after it was read, and of a hundred lines of megabytes only the first are wanted. Of a
 * line that is too large for a message only the size is sent. The limits of 1 show the planner how few rows there are:
 * otherwise it takes a small table that was never analyzed for a large one, joins whole tables, and compiles the plan.
 */
const walk = (t: Tables, feed: Feed, maxBytes: number) => {
  const { call, sql } = t
  const next = (after: "p" | "w") =>
    sql`
      select e.xact, e.seq, e.call_id, e.schema_identity, e.part,
        pg_catalog.octet_length(e.objects::pg_catalog.text)::bigint + coalesce(pg_catalog.octet_length(c.context::pg_catalog.text), 0) as bytes
      from ${linesOf(t, feed)} e left join ${call} c on c.call_id = e.call_id
      where (e.xact, e.seq) > (${sql.literal(after)}.xact, ${sql.literal(after)}.seq) and e.xact < p.horizon
      order by e.xact, e.seq limit 1`
  return sql`walk as (
      select 1 as n, l.*, l.bytes as total from place p cross join lateral (${next("p")}) l where p.ours
      union all
      select w.n + 1, l.*, w.total + l.bytes from walk w cross join place p cross join lateral (${next("w")}) l
      where w.n < p.most and w.total + l.bytes <= ${maxBytes}::bigint and l.bytes <= ${largest(t)}
    )`
}

/** The columns of a `place` and of each line of the `walk`; one row without a line if the walk is empty. */
const lines = (t: Tables, feed: Feed) => {
  const { call, sql } = t
  const most = largest(t)
  return sql`
    select p.ours, p.stale, p.attempts, p.suspects, p.xact::pg_catalog.text as place_xact, p.seq::pg_catalog.text as place_seq,
      w.xact::pg_catalog.text as xact, w.seq::pg_catalog.text as seq, w.bytes::pg_catalog.float8 as bytes, w.call_id, w.schema_identity, w.part, line.*
    from place p left join walk w on true left join lateral (
      select ${feed === "calls" ? sql`c.namespace` : sql`e.namespace`}, e.handler, e.persisted, e.dead, ${
    sql.literal(iso("e.at"))
  } as at, c.service, c.correlation_id,
        case when w.bytes <= ${most} then ${sql.literal(objects("e.objects"))} end as objects,
        case when w.bytes <= ${most} then c.context end as context
      from ${linesOf(t, feed)} e left join ${call} c on c.call_id = e.call_id
      where e.call_id = w.call_id and e.schema_identity = w.schema_identity and e.part = w.part limit 1
    ) line on true
    order by w.n`
}

/** Two readers cannot both lock the row; the second one finds it leased. Writes only when there is something. */
const take = (t: Tables, name: string, token: string, { feed = "objects", lease, limit, maxBytes, reader }: Take) => {
  const { sql, subscription } = t
  return sql<TakenRow>`
    with recursive place as materialized (
      select s.name, s.xact, s.seq, s.attempts, s.suspects, ${sql.literal(horizon("l.base"))} as horizon,
        least(${limit}::int, case when s.attempts > 0 then 1 when s.suspects > 0 then (s.suspects + 1) / 2
          else ${limit}::int end) as most,
        l.stale, ${isReadable(t, feed, sql.literal(isAhead("s", "l.base")))} as ours
      from ${subscription} s left join (${logRow(t)}) l on true
      where s.name = ${name} and ${
    isOf(t, feed)
  } and s.due_at <= pg_catalog.now() and (s.lease_until is null or s.lease_until < pg_catalog.now())
      for update of s skip locked
    ), ${walk(t, feed, maxBytes)}, taken as (
      update ${subscription} s set lease_token = ${token}::pg_catalog.uuid, lease_until = ${inFuture(t, lease)},
        leased_by = ${storableText(reader)}, suspects = (select pg_catalog.count(*) from walk)
      from place p where s.name = p.name and exists (select from walk)
    )
    ${lines(t, feed)}`
}

/**
 * The lines of created objects after a place, for readers that take nothing. A place that the log has not reached is not
 * this log's, and counts as now.
 */
const read = (t: Tables, after: Place, { limit, maxBytes }: Read) => {
  const { sql } = t
  return sql<TakenRow>`
    with recursive place as materialized (
      select least(s.xact, l.horizon) as xact, case when s.xact < l.horizon then s.seq else 0 end as seq,
        0 as attempts, 0 as suspects, l.horizon, ${limit}::int as most, l.stale, ${
    isReadable(t, "objects", sql`false`)
  } as ours
      from (select ${after.xact}::pg_catalog.xid8 as xact, ${after.seq}::bigint as seq) s left join (
        select *, ${sql.literal(horizon("base"))} as horizon from (${logRow(t)}) one
      ) l on true
    ), ${walk(t, "objects", maxBytes)}
    ${lines(t, "objects")}`
}

/** What was taken, of the rows of {@link take}. */
const toTaken = (name: string, token: string, rows: ReadonlyArray<TakenRow>): Option.Option<Taken> => {
  const [first] = rows
  if (first === undefined || first.xact === null) return Option.none()
  const { entries, unreadable } = toPage(rows)
  return Option.some({
    token,
    place: { xact: first.place_xact, seq: first.place_seq },
    entries,
    unreadable: unreadable === undefined ? undefined : new EntryTooLarge({ subscription: name, ...unreadable }),
    attempts: first.attempts,
    suspects: first.suspects
  })
}

/** The entries of the rows of {@link lines}. */
const toPage = (rows: ReadonlyArray<TakenRow>): Page => {
  const [first] = rows
  if (first === undefined || first.xact === null) return { entries: [], unreadable: undefined }
  return first.bytes > mostEntryBytes
    ? {
      entries: [],
      unreadable: { place: { xact: first.xact, seq: first.seq }, key: keyOf(first), bytes: first.bytes }
    }
    : {
      entries: rows.flatMap((row) => row.xact === null ? [] : [toEntry({ ...row, xact: row.xact })]),
      unreadable: undefined
    }
}

const statusOf = (t: Tables, feed: Feed) => {
  const { skip, sql, subscription } = t
  return sql`
    select s.name, pg_catalog.json_build_object(
      'name', s.name, 'feed', ${feed}::pg_catalog.text, 'attempts', s.attempts, 'lastError', s.last_error,
      'suspects', case when s.lease_token is null then s.suspects else 0 end,
      'dueAt', ${sql.literal(iso("s.due_at"))}, 'updatedAt', ${sql.literal(iso("s.updated_at"))},
      'reader', case when s.lease_until >= pg_catalog.now() then pg_catalog.json_build_object(
        'id', coalesce(s.leased_by, ''), 'until', ${sql.literal(iso("s.lease_until"))}
      ) end,
      'behind', (
        select pg_catalog.count(*) from (
          select from ${linesOf(t, feed)} e where (e.xact, e.seq) > (s.xact, s.seq) limit ${mostBehind}
        ) unread
      ),
      'next', (
        select pg_catalog.json_build_object(
          'key', pg_catalog.json_build_object('callId', e.call_id, 'schemaIdentity', e.schema_identity, 'part', e.part),
          'persistedAt', ${sql.literal(iso("e.at"))}
        )
        from ${linesOf(t, feed)} e where (e.xact, e.seq) > (s.xact, s.seq) order by e.xact, e.seq limit 1
      ),
      'skipped', (select pg_catalog.count(*) from ${skip} k where k.name = s.name)
    ) as row
    from ${subscription} s
    where ${isOf(t, feed)}`
}

const list = (t: Tables) =>
  t.sql<{ row: unknown }>`
    select row from (${statusOf(t, "objects")} union all ${statusOf(t, "calls")}) status order by name`

/** A place as a row of (xact, seq). */
const placeOf = (t: Tables, feed: Feed, to: From | DateTime.Utc) => {
  const { log, sql } = t
  if (to === "beginning") return sql`select '0'::pg_catalog.xid8 as xact, 0::bigint as seq`
  const now = sql`(select ${sql.literal(horizon("l.base"))} from ${log} l)`
  if (to === "now") return sql`select ${now} as xact, 0::bigint as seq`
  // A line that is not visible yet can be older than the first line after that time, so the place is at most that of `now`.
  return sql`
    select xact, seq from (
      (
        select xact, seq - 1 as seq from ${linesOf(t, feed)} e where at >= ${
    DateTime.formatIso(to)
  }::pg_catalog.timestamptz
        order by xact, seq limit 1
      ) union all select ${now}, 0
    ) starts order by xact, seq limit 1`
}

/** The service on Postgres. */
export const make = (t: Tables): EventLog["Service"] => {
  const { callSubscription, client, log, skip, sql, subscription } = t
  // The log must belong to this cluster too: a place of another cluster must not be written here.
  const held = (name: string, token: string) =>
    sql`name = ${name} and lease_token = ${token}::pg_catalog.uuid
      and exists (select from ${log} l where ${sql.literal(isWitnessed("l"))})`
  const released = sql`lease_token = null, lease_until = null, leased_by = null`
  const anew =
    sql`${released}, attempts = 0, suspects = 0, last_error = null, due_at = pg_catalog.now(), updated_at = pg_catalog.now()`

  const feedOfName = (name: string) =>
    Effect.map(
      sql<{ calls: boolean }>`
        select exists (select from ${callSubscription} k where k.name = s.name) as calls
        from ${subscription} s where name = ${name}`,
      ([row]): Feed | undefined => row && (row.calls ? "calls" : "objects")
    )

  const renewWitness = sql`
    update ${log} l set witness = default, witnessed_at = default
    where ${sql.literal(isWitnessed("l"))} and witnessed_at < pg_catalog.now() - ${witnessAge}::interval`

  return EventLog.of({
    open: Effect.fnUntraced(function*(name, from, feed = "objects") {
      const there = yield* feedOfName(name)
      if (there !== undefined) return there
      // "now" is one of this cluster's numbers
      if (from === "now") yield* settle(t)
      const create = sql`
        insert into ${subscription} (name, xact, seq)
        select ${name}, xact, seq from (${placeOf(t, feed, from)}) place on conflict (name) do nothing returning name`
      yield* feed === "objects"
        ? create
        : sql`with created as (${create}) insert into ${callSubscription} (name) select name from created
          on conflict do nothing`
      return (yield* feedOfName(name)) ?? feed
    }, client.statement),

    take: Effect.fnUntraced(function*(name, options) {
      const token = yield* freshToken
      let rows = yield* take(t, name, token, options)
      if (rows[0]?.ours === false) {
        yield* settle(t)
        rows = yield* take(t, name, token, options)
      }
      if (rows[0]?.xact !== null && rows[0]?.stale === true) yield* renewWitness
      return toTaken(name, token, rows)
    }, client.statement),

    advance: Effect.fnUntraced(function*(name, token, { place: { seq, xact }, suspects }, lease) {
      const stays = sql`(xact, seq) = (${xact}::pg_catalog.xid8, ${seq}::bigint)`
      const rows = yield* sql`
        update ${subscription} set
          attempts = case when ${stays} then attempts else 0 end, last_error = case when ${stays} then last_error end,
          xact = ${xact}::pg_catalog.xid8, seq = ${seq}::bigint, suspects = ${suspects}, lease_until = ${
        inFuture({ sql }, lease)
      },
          updated_at = pg_catalog.now()
        where ${held(name, token)} returning 1`
      if (rows.length === 0) return yield* new LeaseLost({ claimed: 1, held: 0 })
    }, client.statement),

    release: (name, token, { failure, suspects }) =>
      sql`update ${subscription} set ${released}, suspects = ${suspects}${
        failure === undefined
          ? sql``
          : sql`, last_error = ${storableText(failure.message)}, updated_at = pg_catalog.now()`
      }${
        failure === undefined || suspects > 1
          ? sql``
          : sql`, attempts = attempts + 1, due_at = ${inFuture(t, failure.delay)}`
      } where ${held(name, token)}`.pipe(Effect.asVoid, client.statement),

    now: Effect.gen(function*() {
      // a number of this cluster's
      yield* settle(t)
      const [place] = yield* sql<Place>`
        select xact::pg_catalog.text as xact, seq::pg_catalog.text as seq from (${placeOf(t, "objects", "now")}) place`
      return place ?? { xact: "0", seq: "0" }
    }).pipe(client.statement),

    read: Effect.fnUntraced(function*(after, options) {
      let rows = yield* read(t, after, options)
      if (rows[0]?.ours === false) {
        yield* settle(t)
        rows = yield* read(t, after, options)
      }
      return toPage(rows)
    }, client.statement),

    list: list(t).pipe(readRows(SubscriptionStatus), client.statement),

    reset: Effect.fnUntraced(function*(name, to) {
      const feed = yield* feedOfName(name)
      if (feed === undefined) return false
      // the place must be one of this cluster's numbers
      yield* settle(t)
      const rows = yield* sql`
        update ${subscription} s set ${anew}, xact = place.xact, seq = place.seq
        from (${placeOf(t, feed, to)}) place where name = ${name} returning 1`
      return rows.length > 0
    }, client.statement),

    skip: (name, key, reason) =>
      sql`
        with place as materialized (
          select name, xact, seq, last_error from ${subscription} s
          where name = ${name} and ${isOf(t, feedOf(key))} for update
        ), next as materialized (
          select p.name, p.last_error, e.* from place p cross join lateral (
            select xact, seq, call_id, schema_identity, part from ${linesOf(t, feedOf(key))} e cross join ${log} l
            where (e.xact, e.seq) > (p.xact, p.seq) and e.xact < ${sql.literal(horizon("l.base"))}
            order by e.xact, e.seq limit 1
          ) e
          where (e.call_id, e.schema_identity, e.part) = (${key.callId}, ${key.schemaIdentity}, ${key.part})
        ), noted as (
          insert into ${skip} (name, call_id, schema_identity, part, last_error, reason)
          select name, call_id, schema_identity, part, last_error, ${storableText(reason)} from next
        )
        update ${subscription} s set ${anew}, xact = next.xact, seq = next.seq from next where s.name = next.name
        returning 1`.pipe(Effect.map((rows) => rows.length > 0), client.statement),

    remove: (name) =>
      sql`
        with untold as (delete from ${callSubscription} where name = ${name})
        delete from ${subscription} where name = ${name} returning 1`.pipe(
        Effect.map((rows) => rows.length > 0),
        client.statement
      ),

    rebase: rebase(t, true)
  })
}
