/**
 * Bounds the wait for a declared table that another session holds locked, for example by `alter table` in a transaction that
 * stays open. The server locks a table when it plans a statement, before the statement can limit that wait. To set a limit
 * beforehand would cost each batch three round trips. So a statement that takes long is looked at from another
 * connection, and is cancelled if others wait for its table.
 */
import * as Effect from "effect/Effect"
import { type Declaration, TableLocked } from "../../Declaration.ts"
import { aside } from "./connection.ts"
import { clientOf, isSingle } from "./session.ts"
import type { Tables } from "./tables.ts"
import { unwatched } from "./watch.ts"

/** How often a statement is looked at, and how long a session must have waited for a table that counts as locked. */
const patience = "250 millis"
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

/** Interrupts an effect that writes the tables of a declaration, and fails, when one of them stays locked. */
export const unlessLocked =
  (t: Tables, declaration: Declaration) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | TableLocked, R> => {
    const client = clientOf(t.sql)
    // the only connection is the one that waits
    if (client === undefined || isSingle(client)) return effect
    const names = [declaration, ...declaration.children].map(({ table }) => table)
    const look = unwatched(lockedOf(t, names)).pipe(
      aside(t.sql),
      Effect.orElseSucceed(() => [])
    )
    const watching = Effect.andThen(Effect.sleep(patience), look).pipe(
      Effect.flatMap(([locked]) =>
        locked === undefined ? Effect.void : Effect.fail(new TableLocked({ table: locked.name }))
      ),
      Effect.forever
    )
    return Effect.raceFirst(effect, watching)
  }
