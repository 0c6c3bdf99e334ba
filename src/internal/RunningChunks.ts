/**
 * The chunks that a fiber is persisting. Shared code such as `ChunkLedger.once` uses it to detect that it is called
 * within the chunk's own transaction.
 */
import * as Context from "effect/Context"
import type { ChunkKey } from "../ServiceCall.ts"

/** The keys of the chunks whose handler a fiber runs; empty outside of handlers. */
export const RunningChunks = Context.Reference<ReadonlyArray<ChunkKey>>("effect-sluice/RunningChunks", {
  defaultValue: () => []
})
