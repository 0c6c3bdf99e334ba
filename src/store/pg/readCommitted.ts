/**
 * The isolation of a transaction that surrounds Sluice's.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { ChunkStoreError } from "../../ChunkStore.ts"
import { Verb } from "../verbs.ts"
import type { Tables } from "./tables.ts"

/**
 * Who wakes a chunk's followers must see what was committed until that moment. A transaction of the caller's at another
 * level sees what was there when it began.
 */
export const mustBeReadCommitted = (isolation: string): Effect.Effect<void, ChunkStoreError> =>
  isolation === "read committed" ? Effect.void : Effect.flatMap(Verb, (operation) =>
    Effect.fail(
      new ChunkStoreError({
        operation,
        transient: false,
        reason: `the surrounding transaction is at ${isolation}; this needs read committed. ` +
          `Do it before or after that transaction, or begin the transaction at read committed`
      })
    ))

/** The same, asked of the server. */
export const checkReadCommitted = ({ sql }: Tables): Effect.Effect<void, ChunkStoreError | SqlError> =>
  Effect.flatMap(
    sql<{ isolation: string }>`select pg_catalog.current_setting('transaction_isolation') as isolation`,
    ([row]) => mustBeReadCommitted(row?.isolation ?? "")
  )
