/**
 * The verb `recordHeld`: records a call whose chunks are claimed from the start.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { Engine } from "./engine.ts"
import { given } from "./given.ts"
import { recordMany } from "./recordStatements.ts"

/** The verb. */
export const recordHeld = ({ t }: Engine): ChunkStore["Service"]["recordHeld"] => (call, hold) =>
  t.client.statement(Effect.map(recordMany(t, [given(call)], { hold }), ([row]) => row?.seqs))
