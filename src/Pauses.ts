/**
 * What nobody may drain now, by a person's word. Workers hear of it at once, or, where no hint reaches them, see it at
 * their next beat; what they have claimed they finish.
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
  /** Ends a pause. False when there was none of exactly this kind. */
  readonly resume: (kind: Kind) => Effect.Effect<boolean, ChunkStoreError>
  readonly list: Effect.Effect<ReadonlyArray<Pause>, ChunkStoreError>
}>()("effect-sluice/Pauses") {}
