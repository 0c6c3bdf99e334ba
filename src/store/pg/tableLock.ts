/**
 * Bounds the wait for a declared table that another session holds locked, for example by `alter table` in a transaction that
 * stays open. The server locks a table when it plans a statement, before the statement can limit that wait. To set a limit
 * beforehand would cost each batch three round trips. So a statement that takes long is looked at from another
 * connection, and is cancelled if others wait for its table.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { type Declaration, TableLocked } from "../../Declaration.ts"
import { clientOf, isSingle } from "./session.ts"
import type { Tables } from "./tables.ts"
import { unwatched } from "./watch.ts"

/** How often a statement is looked at, and how long a session must have waited for a table that counts as locked. */
const patience = "250 millis"
const waited = "interval '250 milliseconds'"

/**
 * One of these tables that a session waits to read or write. If that is not the session of this statement, the statement may
 * hold up the one that wants to change the table, and makes way.
 */
const lockedOf = ({ sql }: Tables, names: ReadonlyArray<string>) =>
  sql<{ name: string }>`
    select t.name from pg_catalog.unnest(${names}::pg_catalog.text[]) t(name)
    where exists (
      select from pg_catalog.pg_locks l
      where l.locktype = 'relation' and not l.granted
        and l.mode in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
        and l.database = (
          select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()
        )
        and l.relation = pg_catalog.to_regclass(t.name)::pg_catalog.oid
        and l.waitstart < pg_catalog.clock_timestamp() - ${sql.literal(waited)}
    ) limit 1`

/** Interrupts an effect that writes the tables of a declaration, and fails, when one of them stays locked. */
export const unlessLocked =
  (t: Tables, declaration: Declaration) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | TableLocked, R> => {
    const client = clientOf(t.sql)
    // the only connection is the one that waits
    if (client === undefined || isSingle(client)) return effect
    const names = [declaration, ...declaration.children].map(({ table }) => table)
    const look = unwatched(lockedOf(t, names)).pipe(
      // not on the connection of a surrounding transaction
      Effect.updateContext((context: Context.Context<never>) => Context.omit(t.sql.transactionService)(context)),
      Effect.orElseSucceed(() => [])
    )
    const watching = Effect.gen(function*() {
      while (true) {
        yield* Effect.sleep(patience)
        const [locked] = yield* look
        if (locked !== undefined) return yield* new TableLocked({ table: locked.name })
      }
    })
    return Effect.raceFirst(effect, watching)
  }
