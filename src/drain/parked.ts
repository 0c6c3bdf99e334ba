/** Says why a chunk is parked, and what to do. */
import * as Effect from "effect/Effect"
import type { ParkReason } from "../ChunkStore.ts"
import type { Handler } from "../Handler.ts"
import type { Unfit } from "./unfit.ts"

/** Why a chunk of this handler is parked, in words: as the store has it, and as this process knows it. */
export const whyParked = (unfit: Unfit, handler: Handler, parkedFor: ParkReason | null): Effect.Effect<string> => {
  switch (parkedFor) {
    case "paused":
      return Effect.succeed(
        "its kind is paused, and `sluice status` shows why. It is persisted after `sluice resume`"
      )
    case "newer-version":
      return Effect.succeed(
        "it was recorded at a newer version than any worker so far reads. A worker that reads it takes it up at its next beat"
      )
    default:
      // a process that only persists inline has no beat that looks at the table
      return Effect.map(
        Effect.when(unfit.lookAgain, Effect.sync(() => unfit.table(handler) !== undefined)),
        () =>
          unfit.advice(handler) ??
            "no worker so far had a handler for it that could run: see `sluice handlers`. " +
              "A worker that has one takes it up at its next beat"
      )
  }
}
