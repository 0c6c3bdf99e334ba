/**
 * Pauses the drain of kinds of chunks, on a person's request. Workers get a hint immediately, or read the pause at
 * their next beat; they finish the chunks that they have claimed.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ChunkStoreError } from "./ChunkStore.ts"
import type { Kind } from "./Kind.ts"

/** A pause. `"*"` stands for all namespaces, or for all schemas of the namespace. */
export const Pause = Schema.Struct({
  namespace: Schema.String,
  schemaIdentity: Schema.String,
  reason: Schema.String,
  pausedAt: Schema.DateTimeUtcFromString
})
/** A pause. */
export interface Pause extends Schema.Schema.Type<typeof Pause> {}

/**
 * Stops and restarts the drain of some kinds, on all workers.
 *
 * ```ts
 * yield* pauses.pause({ namespace: "chatlab", schemaIdentity: "*" }, "the message table is being moved")
 * ```
 */
export class Pauses extends Context.Service<Pauses, {
  /** Pauses a kind; pausing it again changes the reason. */
  readonly pause: (kind: Kind, reason: string) => Effect.Effect<void, ChunkStoreError>
  /** Ends a pause. False when exactly this kind was not paused. */
  readonly resume: (kind: Kind) => Effect.Effect<boolean, ChunkStoreError>
  /** The pauses in force, by namespace and schema. */
  readonly list: Effect.Effect<ReadonlyArray<Pause>, ChunkStoreError>
}>()("effect-sluice/Pauses") {}
