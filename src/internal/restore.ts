/** Makes an effect interruptible again, if the caller of the region that cannot be interrupted is. */
import type * as Effect from "effect/Effect"

/** What `Effect.uninterruptibleMask` gives to its function. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
