/**
 * Which chunks a fiber is persisting. Code that a handler shares with others, such as `ChunkLedger.once`, sees by it that
 * it is called from within the chunk's own transaction.
 */
import * as Context from "effect/Context"
import type { ChunkKey } from "../ServiceCall.ts"

/** The keys of the chunks whose handler a fiber runs; empty outside of handlers. */
export const RunningChunks = Context.Reference<ReadonlyArray<ChunkKey>>("effect-sluice/RunningChunks", {
  defaultValue: () => []
})
