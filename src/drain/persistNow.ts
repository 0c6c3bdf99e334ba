/**
 * The inline path: persists the chunks of one call now, and returns their domain objects, or fails with the reason why
 * there are none.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import type { CallView, ChunkView } from "../CallView.ts"
import type { ChunkStoreError, ClaimedChunk } from "../ChunkStore.ts"
import type { DomainObject } from "../DomainObject.ts"
import type { Inspector } from "../Inspector.ts"
import { withoutStack } from "../internal/describe.ts"
import { UnknownVersion } from "../Output.ts"
import { CallNotFound, ChunkBusy, ChunkDead, HandlerFailed, RetriesExhausted } from "../PersistNowError.ts"
import { printKey } from "../ServiceCall.ts"
import type { Claimed } from "./claim.ts"
import type { Engine } from "./engine.ts"
import type { Outcome, Outcomes } from "./Outcome.ts"
import { whyParked } from "./parked.ts"

/** What has run: the chunks of a call that were claimed, with their outcomes. */
export interface Ran {
  readonly chunks: ReadonlyArray<ClaimedChunk>
  readonly outcomes: Outcomes
}

/**
 * Persists the chunks of a call, and returns their objects. When another worker holds one, it waits for it, for up to the
 * handler timeout. `first`: what has run already.
 */
export const objectsNow = (
  engine: Engine,
  inspector: Inspector["Service"],
  claim: (callId: string) => Effect.Effect<Claimed, ChunkStoreError, Scope>
) => {
  const attempt = Effect.fnUntraced(function*(callId: string, ran: Ran | undefined) {
    const { chunks, outcomes } = ran ?? (yield* runAll(claim(callId)))
    const done = allOf(chunks, outcomes)
    if (done !== undefined) return done
    const view = yield* Effect.flatMap(
      inspector.call(callId),
      Option.match({ onNone: () => new CallNotFound({ callId }), onSome: Effect.succeed })
    )
    if (view.chunks.length === 0) return yield* new CallNotFound({ callId })
    return yield* Effect.forEach(view.chunks, (chunk) => objectsOf(chunk, view, engine, outcomes))
  })
  return Effect.fnUntraced(function*(callId: string, first?: Ran) {
    const done = first && allOf(first.chunks, first.outcomes)
    if (done !== undefined) return done.flat()
    let ran = first !== undefined && first.chunks.length > 0 ? first : undefined
    const next = Effect.suspend(() => {
      const before = ran
      ran = undefined
      return attempt(callId, before)
    })
    const objects = yield* Effect.retry(next, {
      schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: engine.settings.handlerTimeout })),
      while: (error) => error._tag === "ChunkBusy" && error.state !== "scheduled" && error.state !== "parked"
    })
    return objects.flat()
  })
}

/** Claims and runs the due chunks of a call, in several claims if one does not take all of them. */
const runAll = Effect.fnUntraced(function*(claim: Effect.Effect<Claimed, ChunkStoreError, Scope>) {
  const chunks: Array<ClaimedChunk> = []
  const outcomes = new Map<ClaimedChunk, Outcome>()
  while (true) {
    const part = yield* Effect.scoped(Effect.tap(claim, ({ run }) => run))
    chunks.push(...part.chunks)
    for (const [chunk, outcome] of part.outcomes) outcomes.set(chunk, outcome)
    const isMoving = [...part.outcomes.values()].some((outcome) => outcome._tag === "Persisted")
    if (!isMoving || chunks.length === chunks[0]?.call.outputs) return { chunks, outcomes }
  }
})

/**
 * The domain objects of a call, in the order of its outputs, when all of it was just persisted. Does not query the
 * database.
 */
const allOf = (
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

/** The domain objects of a chunk, or the error that says why there are none yet. */
const objectsOf = Effect.fnUntraced(function*(
  chunk: ChunkView,
  call: CallView,
  engine: Engine,
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
    const handler = yield* engine.registry.resolve(call.namespace, key.schemaIdentity)
    const { output } = handler
    const { parkedFor, schemaVersion: version } = chunk
    if (version > output.version) {
      return yield* new UnknownVersion({ schemaIdentity: key.schemaIdentity, version, known: output.version })
    }
    const reason = yield* whyParked(engine.unfit, handler, parkedFor)
    return yield* new ChunkBusy({ ...key, state, reason, ...parkedFor === null ? {} : { parkedFor } })
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
