/**
 * What `persistNow` gives back: the domain objects of a call's chunks, or why there are none.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { CallView, ChunkView, ClaimedChunk } from "../ChunkStore.ts"
import type { DomainObject } from "../DomainObject.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import { withoutStack } from "../internal/describe.ts"
import { UnknownVersion } from "../Output.ts"
import { ChunkBusy, ChunkDead, HandlerFailed, RetriesExhausted } from "../PersistNowError.ts"
import { printKey } from "../ServiceCall.ts"
import type { Outcomes } from "./Outcome.ts"

/** The domain objects of a call all of whose chunks were just persisted: nothing need be asked of the database. */
export const allOf = (
  claimed: ReadonlyArray<ClaimedChunk>,
  outcomes: Outcomes
): ReadonlyArray<ReadonlyArray<DomainObject>> | undefined => {
  if (claimed.length === 0 || claimed.length !== claimed[0]!.call.outputs) return undefined
  const all: Array<ReadonlyArray<DomainObject>> = []
  for (const chunk of [...claimed].sort((a, b) => a.seq < b.seq ? -1 : 1)) {
    const outcome = outcomes.get(chunk)
    if (outcome?._tag !== "Persisted") return undefined
    all.push(outcome.persisted.objects)
  }
  return all
}

/** The domain objects of a chunk as it stands now, or the error that says why there are none yet. */
export const objectsOf = Effect.fnUntraced(function*(
  chunk: ChunkView,
  call: CallView,
  registry: HandlerRegistry["Service"],
  outcomes: Outcomes
) {
  if (chunk.ledger !== null) return chunk.ledger.objects
  const { attempts, death, key, state } = chunk
  if (death !== null) {
    return yield* death.reason === "exhausted"
      ? new RetriesExhausted({ ...key, attempts, reason: withoutStack(death.message) })
      : new ChunkDead({ ...key, reason: death.reason, detail: withoutStack(death.message) })
  }
  if (state === "parked") {
    const { output } = yield* registry.resolve(call.namespace, key.schemaIdentity)
    const { schemaVersion: version } = chunk
    if (version > output.version) {
      return yield* new UnknownVersion({ schemaIdentity: key.schemaIdentity, version, known: output.version })
    }
  }
  for (const outcome of outcomes.values()) {
    if (outcome._tag !== "Settled" || outcome.settlement._tag !== "Retry") continue
    const { settlement } = outcome
    if (printKey(settlement.chunk.key) !== printKey(key)) continue
    return yield* new HandlerFailed({
      ...key,
      handler: settlement.failure.handler,
      attempt: settlement.chunk.attempts + 1,
      reason: withoutStack(settlement.failure.message),
      ...(outcome.cause === undefined ? {} : { cause: Cause.squash(outcome.cause) })
    })
  }
  return yield* new ChunkBusy({ ...key, state })
})
