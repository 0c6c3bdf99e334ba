/** Makes fencing tokens: a new one for each claim, each run of a call, and each subscription taken. */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** A random UUID. */
export const freshToken: Effect.Effect<string> = Effect.map(
  Effect.all([Random.nextIntBetween(0, 2 ** 48), Random.nextIntBetween(0, 2 ** 48), Random.nextIntBetween(0, 2 ** 32)]),
  ([a, b, c]) => {
    const hex = a.toString(16).padStart(12, "0") + b.toString(16).padStart(12, "0") + c.toString(16).padStart(8, "0")
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5")
  }
)
