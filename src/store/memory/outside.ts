/**
 * Whether a handler was built with another database in memory than the store's, whose rows are not in the store's
 * transactions.
 */
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import type { ChunkStore } from "../../ChunkStore.ts"
import { MemoryDatabase } from "../MemoryDatabase.ts"

/** Names the database. */
export const outsideOf =
  (db: MemoryDatabase["Service"]): NonNullable<ChunkStore["Service"]["outsideOf"]> => (services) => {
    const other = Context.getOption(services, MemoryDatabase)
    return Option.isSome(other) && other.value !== db ? "a MemoryDatabase that is not the store's" : undefined
  }
