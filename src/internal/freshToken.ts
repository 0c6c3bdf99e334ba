/** Makes fencing tokens: a new one for each claim, each run of a call, and each subscription taken. */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** A random UUID. Of 48, 48 and 32 bits, because a random number has 53. */
export const freshToken: Effect.Effect<string> = Effect.map(Random.Random, (random) => {
  const hex = (bits: number) => Math.floor(random.nextDoubleUnsafe() * 2 ** bits).toString(16).padStart(bits / 4, "0")
  const [a, b, c] = [hex(48), hex(48), hex(32)]
  return `${a.slice(0, 8)}-${a.slice(8)}-${b.slice(0, 4)}-${b.slice(4, 8)}-${b.slice(8)}${c}`
})
