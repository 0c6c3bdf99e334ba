/** How long a worker counts as alive. The store uses it, and it limits the setting of the beat interval. */
import * as Duration from "effect/Duration"

/** A worker counts as alive for this time after its last beat. */
export const aliveFor = Duration.seconds(30)

/** The longest beat interval: a worker may miss two beats before it counts as gone. */
export const longestBeatInterval = Duration.times(aliveFor, 1 / 3)

/** A worker that sends no beat for this time is forgotten. */
export const rememberedFor = Duration.minutes(5)
