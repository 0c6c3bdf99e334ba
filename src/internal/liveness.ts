/**
 * How long a worker counts as alive. The store decides by it, and the setting of the beat's interval must fit it.
 */
import * as Duration from "effect/Duration"

/** A worker counts as alive for so long after its last beat. */
export const aliveFor = Duration.seconds(30)

/** Two beats may be missed before the third is due. */
export const longestBeatInterval = Duration.times(aliveFor, 1 / 3)

/** A worker that is silent for so long is forgotten. */
export const rememberedFor = Duration.minutes(5)
