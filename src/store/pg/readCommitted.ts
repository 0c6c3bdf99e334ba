/**
 * Checks the isolation level of a transaction that surrounds Sluice's.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { ChunkStoreError } from "../../ChunkStore.ts"
import { Verb } from "../verbs.ts"
import type { Tables } from "./tables.ts"

/**
 * Requires read committed. The statement that wakes a chunk's followers must see everything committed until then. A caller's
 * transaction at another level sees the state at its own begin.
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

/** The same check, with the level read from the server. */
export const checkReadCommitted = ({ sql }: Tables): Effect.Effect<void, ChunkStoreError | SqlError> =>
  Effect.flatMap(
    sql<{ isolation: string }>`select pg_catalog.current_setting('transaction_isolation') as isolation`,
    ([row]) => mustBeReadCommitted(row?.isolation ?? "")
  )
