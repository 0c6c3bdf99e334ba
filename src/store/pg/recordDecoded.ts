/**
 * The verb `recordDecoded`: records an answer that did not fit and was decoded later.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { Engine } from "./engine.ts"
import { given } from "./given.ts"
import { recordMany } from "./recordStatements.ts"

/** The verb. A run of the call meanwhile holds its row, or has changed its status. */
export const recordDecoded = ({ hint, t }: Engine): ChunkStore["Service"]["recordDecoded"] => {
  const record = recordMany(t)
  return (call) =>
    record([given(call)], { onlyInvalid: true }).pipe(
      Effect.map(({ length }) => length > 0),
      Effect.tap((isRecorded) => isRecorded ? hint("chunks") : Effect.void),
      t.client.statement
    )
}
