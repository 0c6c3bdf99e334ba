/**
 * Moves the event log to another cluster's numbers. A line's number is the log's base plus the id of the transaction that
 * wrote it, and a subscription's place is such a number. Both have a meaning only relative to the ids of the cluster they
 * were taken in:
 *
 * - In a cluster with lower ids, imported lines are not readable for months, and new lines precede the places of
 *   subscriptions and are never read.
 * - In a cluster with higher ids nothing has to change: all imported lines precede all new ones.
 *
 * Rows' `xmin`, the transaction of this cluster that wrote a row, reveals whether the tables were imported. A dump or
 * logical replication does not include it. Everything that copies files or WAL includes it, and there the ids continue as
 * well (pg_upgrade, a promoted standby, recovery to a point in time, a storage snapshot).
 *
 * The rebase moves lines that this cluster has already written behind all imported ones, and raises the base, which places
 * later lines there too. Proof: under a lock on the ledger all lines are committed. A line of this cluster has `xmin` ≥ its
 * own id, because `xmin` is the transaction that wrote it or one of its savepoints, and its id is not below the one that
 * imported the tables. All lines for which both hold are moved, so every line of this cluster is. No subscription has read
 * here before, so no place is behind a moved line. Imported lines keep their numbers, and places do too. An imported line
 * that looks like one of this cluster's is moved as well: it may be delivered again.
 *
 * The same holds for the ends of calls, which are lines with numbers of the same kind: "the ledger" stands for both.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import { ChunkStoreError } from "../../ChunkStore.ts"
import type { Rebased } from "../../EventLog.ts"
import type { LogStanding } from "../../Inspector.ts"
import * as Settings from "../../Settings.ts"
import { Verb } from "../verbs.ts"
import { asStoreError, codeOf } from "./errors.ts"
import { shown, type Tables, tables } from "./tables.ts"

/** The id of the next transaction, as 64 bits. A caller's transaction counts as past. */
const nextId = `greatest(
  pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text::bigint,
  coalesce(pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text::bigint + 1, 0)
)`

/** The id, as 64 bits, of the transaction that wrote a row: the latest past one that ends in the row's 32 bits. */
const writerOf = (row: string, next = nextId): string =>
  `(${next} - ((${next} - ${row}.xmin::pg_catalog.text::bigint) & 4294967295))`

/** Whether a line's or place's number exceeds the numbers that this cluster had reached when the row was written. */
export const isAhead = (row: string, base: string): string =>
  `(${row}.xact::pg_catalog.text::bigint - ${base} > ${writerOf(row)})`

/** Whether this cluster wrote the log's row. */
export const isWitnessed = (row: string): string => `(${row}.witness::pg_catalog.xid = ${row}.xmin)`

/** How long a rebase waits for a lock. Requests behind it wait as long: those of drains, but not of recorders. */
const lockTimeout = "3s"

/** How the numbers relate to this cluster. */
export interface Standing {
  /** The base for new lines, from the column's default; null if the default is not one of Sluice's. */
  readonly base: string | null
  /** The base for reading subscriptions; null if the row is missing. */
  readonly readBase: string | null
  readonly witnessed: boolean
  /** Whether no check has run since the migration: then the time of an import is unknown. */
  readonly unexamined: boolean
  /** The transaction that wrote the log's row here. If tables were imported, no line persisted by this cluster is older. */
  readonly arrived: string
  readonly next: string
  /** Whether the greatest line number exceeds those that this cluster had reached when the line was written. */
  readonly linesAhead: boolean
  /** How many subscriptions have such a place. */
  readonly placesAhead: number
  /** The enabled logical replication subscriptions that still copy Sluice's tables here. */
  readonly incoming: string | null
}

/** The lines of the ledger and the ends of calls, to be named by an alias. The order comes from the index of each. */
const everyLine = ({ callEnd, ledger, sql }: Tables) =>
  sql`(select xact, seq, xmin from ${ledger} union all select xact, seq, xmin from ${callEnd})`

/** Reads how the numbers relate to this cluster. Reads only heads of indexes, catalogs and the subscriptions. */
export const standing = (t: Tables) => {
  const { log, schema, sql, subscription } = t
  return sql<Standing>`
    with base as (
      select (
        select pg_catalog.replace(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '"', '')
        from pg_catalog.pg_attrdef d
        join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where d.adrelid = ${`${schema}.persisted_chunk`}::pg_catalog.regclass::pg_catalog.oid and a.attname = 'xact'
      ) as expression
    ), known as (
      select case when expression in ('pg_current_xact_id()', 'pg_catalog.pg_current_xact_id()') then 0
          else substring(expression from '^[(]*''([0-9]+)''::bigint ')::bigint end as base,
        l.base as read_base, coalesce(${sql.literal(isWitnessed("l"))}, false) as witnessed,
        coalesce(l.witness = '0', true) as unexamined, ${sql.literal(writerOf("l"))} as arrived,
        ${sql.literal(nextId)} as next
      from base left join ${log} l on true
    )
    select k.base::pg_catalog.text as base, k.read_base::pg_catalog.text as "readBase", k.witnessed, k.unexamined,
      coalesce(k.arrived, 0)::pg_catalog.text as arrived, k.next::pg_catalog.text as next,
      coalesce((
        select ${sql.literal(isAhead("e", "coalesce(k.read_base, 0)"))} from ${everyLine(t)} e
        order by e.xact desc, e.seq desc limit 1
      ), false) as "linesAhead",
      (
        select pg_catalog.count(*)::int from ${subscription} s where ${
    sql.literal(isAhead("s", "coalesce(k.read_base, 0)"))
  }
      ) as "placesAhead",
      (
        select pg_catalog.string_agg(distinct p.subname::pg_catalog.text, ', ') from pg_catalog.pg_subscription_rel r
        join pg_catalog.pg_subscription p on p.oid = r.srsubid
        where p.subenabled and r.srrelid in (
          ${`${schema}.persisted_chunk`}::pg_catalog.regclass::pg_catalog.oid, ${`${schema}.subscription`}::pg_catalog.regclass::pg_catalog.oid,
          ${`${schema}.subscription_log`}::pg_catalog.regclass::pg_catalog.oid, ${`${schema}.call_end`}::pg_catalog.regclass::pg_catalog.oid
        )
      ) as incoming
    from known k`
}

/** Whether subscriptions can read. */
export const isOurs = (found: Standing): boolean =>
  found.witnessed && found.base === found.readBase && !isAboveUs(found)

/** Whether numbers exceed those that this cluster had reached. */
const isAboveUs = (found: Standing): boolean => found.linesAhead || found.placesAhead > 0

/**
 * Why a rebase must be started manually, if so. Numbers are too high although this cluster wrote the log's row, or no check
 * has run. Then rows were inserted manually or the ids were reset. Lines that this cluster persisted before cannot be told
 * apart, and all of them have to be delivered again.
 */
export const refusal = (found: Standing): string | undefined => {
  if (found.incoming !== null) {
    return `logical replication (${found.incoming}) still brings Sluice's tables here: disable or drop the subscription first`
  }
  if (isAboveUs(found) && (found.witnessed || found.unexamined)) {
    return "numbers of another cluster stand in tables of this one, and what this cluster persisted before they came cannot " +
      "be distinguished from the rest: `sluice subscriptions rebase` puts it behind them, and it is delivered again"
  }
  return undefined
}

/** The state of the numbers, for the doctor. An unexamined log that could be this cluster's is adopted without a message. */
export const logStanding = (t: Tables) =>
  Effect.map(standing(t), ([found]): LogStanding => {
    if (found === undefined || isOurs(found) || (found.unexamined && !isAboveUs(found))) return { _tag: "Ours" }
    const reason = refusal(found)
    return reason === undefined
      ? { _tag: "Foreign", above: isAboveUs(found) }
      : { _tag: "Refused", reason, incoming: found.incoming !== null }
  })

const failed = (
  operation: string,
  reason: string,
  more: { readonly code?: string; readonly transient?: boolean } = {}
) =>
  new ChunkStoreError({
    operation,
    transient: more.transient ?? false,
    reason: `the event log came from another cluster and cannot be read yet: ${reason}`,
    ...(more.code === undefined ? {} : { code: more.code })
  })

/** Adds advice to an error of the statements. */
const explained = (verb: string, error: SqlError, schema: string): SqlError | ChunkStoreError => {
  const code = codeOf(error)
  const name = shown(schema.slice(1, -1))
  if (code === "42501") {
    return failed(
      verb,
      `only the owner of ${name}.persisted_chunk may rebase it: run \`sluice subscriptions rebase\` as its owner`,
      { code }
    )
  }
  if (code === "55P03") {
    return failed(
      verb,
      `a transaction that uses ${name}.persisted_chunk, subscription or subscription_log did not end within ${lockTimeout}; it is ` +
        `tried again`,
      { code, transient: true }
    )
  }
  return error
}

/** The condition for lines that look like this cluster's: from `floor` on, by the base they were written with. */
const looksLikeOurs = ({ sql }: Tables, base: string, floor: string, next: string) =>
  sql`e.xact >= (${base}::bigint + ${floor}::bigint)::pg_catalog.text::pg_catalog.xid8 and e.xact < (${base}::bigint + ${next}::bigint)::pg_catalog.text::pg_catalog.xid8
    and e.xact::pg_catalog.text::bigint - ${base}::bigint <= ${sql.literal(writerOf("e", "b.next"))}`

/** The greatest imported number of a line or a place; -1 if there is none. */
const greatestForeign = (t: Tables, base: string, floor: string, next: string) => {
  const { sql, subscription } = t
  const line = everyLine(t)
  const low = sql`(${base}::bigint + ${floor}::bigint)::pg_catalog.text::pg_catalog.xid8`
  const high = sql`(${base}::bigint + ${next}::bigint)::pg_catalog.text::pg_catalog.xid8`
  // the ends of an index, and the lines between that this cluster may have written: few, if the rebase is soon
  return sql<{ greatest: string }>`
    with b as (select ${next}::bigint as next)
    select greatest(
      (select xact::pg_catalog.text::bigint from ${line} e where xact < ${low} order by xact desc limit 1),
      (
        select pg_catalog.max(e.xact::pg_catalog.text::bigint) from b cross join ${line} e
        where e.xact >= ${low} and e.xact < ${high} and not (${looksLikeOurs(t, base, floor, next)})
      ),
      (select xact::pg_catalog.text::bigint from ${line} e where xact >= ${high} order by xact desc limit 1),
      (select pg_catalog.max(xact::pg_catalog.text::bigint) from ${subscription}),
      -1
    )::pg_catalog.text as greatest`
}

/** Moves the lines of a table that look like this cluster's behind the new base. */
const moveOurs = (
  t: Tables,
  table: Fragment,
  from: { readonly base: string; readonly floor: string; readonly next: string },
  to: string
) =>
  t.sql<{ moved: number; repeated: number }>`
    with b as (select ${from.next}::bigint as next), moved as (
      update ${table} e set xact = (e.xact::pg_catalog.text::bigint - ${from.base}::bigint + ${to}::bigint)::pg_catalog.text::pg_catalog.xid8
      from b where ${looksLikeOurs(t, from.base, from.floor, from.next)}
      returning 1
    ), sure as (
      select pg_catalog.count(*)::int as count from b cross join ${table} e
      where ${looksLikeOurs(t, from.base, from.floor, from.next)}
        and e.xact::pg_catalog.text::bigint - ${from.base}::bigint = ${t.sql.literal(writerOf("e", "b.next"))}
    )
    select (select pg_catalog.count(*)::int from moved) as moved, (select pg_catalog.count(*)::int from moved) - sure.count as repeated
    from sure`

/**
 * Makes the log this cluster's. With `byHand` it also does so if lines are then delivered again, see {@link refusal}. Locks
 * the ledger only if the base has to be raised, while it moves the lines that this cluster persisted.
 */
export const rebase = (t: Tables, byHand: boolean): Effect.Effect<Rebased, ChunkStoreError> => {
  const { callEnd, client, ledger, log, schema, sql, subscription } = t
  const witness = (base: string) =>
    sql`update ${log} set base = ${base}::bigint, witness = default, witnessed_at = default, rebased_at = pg_catalog.now()`

  // A reader may hold places of the other cluster, so its lease is ended.
  const dismiss = sql`update ${subscription} set lease_token = null, lease_until = null, leased_by = null`

  /** Whether all imported numbers are below those that this cluster assigns. */
  const fits = Effect.fnUntraced(function*(found: Standing) {
    if (isAboveUs(found) || found.base === null || found.base !== (found.readBase ?? "0")) return false
    if (found.unexamined) return true
    const [foreign] = yield* greatestForeign(t, found.base, found.arrived, found.next)
    return BigInt(foreign?.greatest ?? -1) < BigInt(found.base) + BigInt(found.arrived)
  })

  const work = Effect.gen(function*() {
    const verb = yield* Verb
    // Relies on read committed, like all transactions of the client: commits during the wait for a lock must be visible.
    yield* sql`select pg_catalog.set_config('lock_timeout', ${lockTimeout}, true)`
    // One rebase at a time. A row missing after a restore is created again, and counts as unexamined.
    yield* sql`insert into ${log} (witness) values ('0') on conflict do nothing`
    yield* sql`select 1 from ${log} for update`
    const [before] = yield* standing(t)
    if (before === undefined || isOurs(before)) return { outcome: "ours", moved: 0, repeated: 0 } as const
    const refused = refusal(before)
    if (refused !== undefined && (!byHand || before.incoming !== null)) return yield* failed(verb, refused)
    if (yield* fits(before)) {
      yield* dismiss
      yield* witness(before.base ?? "0")
      return { outcome: "adopted", moved: 0, repeated: 0 } as const
    }
    // From here on no other transaction persists or reads, and all existing lines are committed.
    yield* sql`lock table ${ledger}, ${callEnd} in access exclusive mode`
    yield* sql`lock table ${subscription} in share row exclusive mode`
    const [found] = yield* standing(t)
    if (found === undefined || found.base === null) {
      return yield* failed(verb, `the default of ${shown(schema.slice(1, -1))}.persisted_chunk.xact is not Sluice's`)
    }
    const known = !found.witnessed && !found.unexamined
    const from = { base: found.base, floor: known ? found.arrived : "0", next: found.next }
    const [foreign] = yield* greatestForeign(t, from.base, from.floor, from.next)
    const to = String(BigInt(foreign?.greatest ?? -1) + 1n)
    const raised = BigInt(to) > BigInt(from.base) ? to : from.base
    const lines = yield* Effect.forEach([ledger, callEnd], (table) => moveOurs(t, table, from, raised))
    yield* sql.unsafe(
      `alter table ${schema}.persisted_chunk alter column xact
        set default ('${raised}'::bigint + pg_catalog.pg_current_xact_id()::pg_catalog.text::bigint)::pg_catalog.text::pg_catalog.xid8`
    )
    yield* dismiss
    yield* witness(raised)
    const moved = lines.flat().reduce((sum, table) => sum + table.moved, 0)
    const repeated = lines.flat().reduce((sum, table) => sum + table.repeated, 0)
    return { outcome: "raised", moved, repeated: known ? repeated : moved } as const
  })
  return client.transaction(() => work).pipe(
    Effect.catchTag(
      "SqlError",
      (error: SqlError) => Effect.flatMap(Verb, (verb) => Effect.fail(explained(verb, error, schema)))
    ),
    asStoreError
  )
}

/** Rebases the log if that needs no manual decision, and logs it. */
const settleFrom = Effect.fnUntraced(function*(t: Tables, found: Standing | undefined) {
  if (found === undefined || isOurs(found)) return
  const { moved, outcome, repeated } = yield* rebase(t, false)
  // An unexamined log is adopted too, which needs no message.
  if (outcome === "ours" || (outcome === "adopted" && found.unexamined)) return
  yield* Effect.logWarning(
    outcome === "adopted"
      ? "the event log came from another cluster; its transaction ids continue here"
      : `the event log came from another cluster and was rebased: ${moved} entries persisted here now come after those that ` +
        `were moved, ${repeated} of them may be delivered again`
  )
})

/** Checks whether the log is this cluster's, and rebases it if that needs no manual decision. */
export const settle = (t: Tables): Effect.Effect<void, ChunkStoreError> =>
  Effect.flatMap(
    t.client.statement(standing(t)),
    ([found]) => settleFrom(t, found)
  )

/**
 * Runs {@link settle} before a program persists anything, when few lines have to move. Recording and draining do not need
 * it: if it fails, the program starts anyway, and readers try again.
 */
export const atStart: Effect.Effect<void, never, SqlClient.SqlClient | Settings.Settings> = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const { schema, statementTimeout } = yield* Settings.Settings
  const t = tables(sql, schema, statementTimeout)
  // a role that only records lacks the rights for the check and does not need it
  const [found] = yield* Effect.catch(
    t.client.statement(standing(t)),
    (error) => Effect.as(Effect.logDebug(error), [])
  )
  yield* settleFrom(t, found).pipe(
    Effect.catch((error) => Effect.logWarning(error.message))
  )
}).pipe(Effect.provideService(Verb, "eventLog.rebase"))
