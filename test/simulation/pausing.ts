/**
 * A person who pauses a kind and resumes it.
 */
import { Pauses } from "effect-sluice"
import * as MemoryDatabase from "effect-sluice/store/MemoryDatabase"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { ledger } from "../../src/store/memory/rows.ts"
import { Card } from "./plan.ts"

/**
 * Pauses a kind before anybody drains it, in every third simulation, and resumes it. Gives back what was persisted
 * meanwhile, unless it was persisted beside the drain.
 */
export const pausing = Effect.gen(function*() {
  const pauses = yield* Pauses.Pauses
  const kind = { namespace: "clinic", schemaIdentity: Card.identity }
  const isPaused = (yield* Random.nextIntBetween(0, 3, { halfOpen: true })) === 0
  if (isPaused) yield* pauses.pause(kind, "the table is moved")
  return Effect.gen(function*() {
    if (!isPaused) return []
    const db = yield* MemoryDatabase.MemoryDatabase
    yield* Effect.sleep(yield* Random.nextIntBetween(500, 6000))
    const early = yield* db.use((access) =>
      access.values(ledger).map(({ key }) => key).filter(({ schemaIdentity }) => schemaIdentity === kind.schemaIdentity)
    )
    yield* pauses.resume(kind)
    return early
  })
})
