/**
 * Bounds the wait for a declared table that another session holds locked, for example by `alter table` in a transaction that
 * stays open. The server locks a table when it plans a statement, before the statement can limit that wait. To set a limit
 * beforehand would cost each batch three round trips. So a statement that takes long is looked at from another
 * connection, and is cancelled if others wait for its table.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type Declaration, TableLocked } from "../../Declaration.ts"
import { within } from "../within.ts"
import { aside } from "./connection.ts"
import * as Contact from "./contact.ts"
import { clientOf, isSingle } from "./session.ts"
import type { Tables } from "./tables.ts"
import { unwatched } from "./watch.ts"

/** How often a statement is looked at, in milliseconds. */
const patience = 250
/** How long a session must have waited for a table that counts as locked. */
const waited = "interval '250 milliseconds'"

/**
 * A relation that a session waits to read or write, of those that writing these tables locks: what is below a view,
 * partitions, and tables that a foreign key refers to. If that is not the session of this statement, the statement may hold
 * up the one that wants to change the table, and makes way. Partitions are read from the catalog, because the server's
 * function would lock them.
 */
const lockedOf = ({ sql }: Tables, names: ReadonlyArray<string>) =>
  sql<{ name: string }>`
    with recursive written as (
      select pg_catalog.to_regclass(t.name)::pg_catalog.oid as oid
      from pg_catalog.unnest(${names}::pg_catalog.text[]) t(name)
      union
      select b.oid from written w cross join lateral (
        select i.inhrelid from pg_catalog.pg_inherits i where i.inhparent = w.oid
        union all
        select d.refobjid from pg_catalog.pg_rewrite r
        join pg_catalog.pg_depend d on d.objid = r.oid and d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
          and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        where r.ev_class = w.oid
      ) b(oid)
    ), reached as (
      select oid, true as writes from written
      union
      select k.confrelid, false from pg_catalog.pg_constraint k join written w on w.oid = k.conrelid where k.contype = 'f'
    )
    select l.relation::pg_catalog.regclass::pg_catalog.text as name
    from pg_catalog.pg_locks l join reached r on r.oid = l.relation
    where l.locktype = 'relation' and not l.granted
      -- whoever writes may wait for less, such as an index that is being made
      and (l.mode in ('AccessShareLock', 'RowShareLock') or (l.mode = 'RowExclusiveLock' and r.writes))
      and l.database = (
        select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()
      )
      and l.waitstart < pg_catalog.clock_timestamp() - ${sql.literal(waited)}
    limit 1`

/** How long an effect may take, and what follows then. */
export interface Limit<A, E> {
  readonly duration: Duration.Duration
  readonly orElse: () => Effect.Effect<A, E>
}

/** Waits until a table of these is locked, or the limit is reached. */
const watch = Effect.fnUntraced(function*<A = never, E = never>(
  t: Tables,
  names: ReadonlyArray<string>,
  limit: Limit<A, E> | undefined
): Effect.fn.Return<A, E | TableLocked> {
  const began = yield* Contact.here
  const longest = limit === undefined ? Infinity : Duration.toMillis(limit.duration)
  const look = unwatched(lockedOf(t, names)).pipe(
    aside(t.sql),
    Effect.orElseSucceed(() => [])
  )
  while (true) {
    const left = longest - ((yield* Contact.here) - began)
    if (limit !== undefined && left <= 0) return yield* limit.orElse()
    yield* Effect.sleep(Math.min(patience, left))
    if (left <= patience) continue
    // the look may have to wait for a connection
    const looked = yield* within(left - patience)(look)
    const [locked] = Option.getOrElse(looked, () => [])
    if (locked !== undefined) return yield* new TableLocked({ table: locked.name })
  }
})

/**
 * Interrupts an effect that writes the tables of a declaration, and fails, when one of them stays locked. One fiber watches
 * that and the `limit`: callers wait for these statements, and a second one costs them as much as parts of the statement.
 */
export const unlessLocked =
  <A2 = never, E2 = never>(t: Tables, declaration: Declaration, limit?: Limit<A2, E2>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A | A2, E | E2 | TableLocked, R> => {
    const client = clientOf(t.sql)
    // the only connection is the one that waits
    if (client === undefined || isSingle(client)) {
      return limit === undefined ? effect : Effect.timeoutOrElse(effect, limit)
    }
    const names = [declaration, ...declaration.children].map(({ table }) => table)
    return Effect.raceFirst(effect, watch(t, names, limit))
  }
