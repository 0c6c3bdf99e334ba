/**
 * The verb `leave`: removes a worker that stops.
 */
import * as Effect from "effect/Effect"
import type { ChunkStore } from "../../ChunkStore.ts"
import type { Engine } from "./engine.ts"

/** The verb. */
export const leave = ({ t: { client, sql, worker } }: Engine): ChunkStore["Service"]["leave"] => (id) =>
  sql`delete from ${worker} where id = ${id}`.pipe(Effect.asVoid, client.statement)
