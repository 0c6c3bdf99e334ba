/** Makes fencing tokens: a new one for each claim, each run of a call, and each subscription taken. */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** A random UUID. */
export const freshToken: Effect.Effect<string> = Effect.map(Random.Random, (random) => {
  const hex = (bits: number) => Math.floor(random.nextDoubleUnsafe() * 2 ** bits).toString(16).padStart(bits / 4, "0")
  return `${hex(32)}-${hex(16)}-${hex(16)}-${hex(16)}-${hex(48)}`
})
