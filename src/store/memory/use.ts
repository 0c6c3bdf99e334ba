/**
 * One step on the database in memory, with the time it is taken at.
 */
import type * as Effect from "effect/Effect"
import type { Access } from "../MemoryDatabase.ts"

/** Reads and writes in one step. Time is milliseconds by `Clock`. */
export type Use = <A>(step: (access: Access, now: number) => A) => Effect.Effect<A>
