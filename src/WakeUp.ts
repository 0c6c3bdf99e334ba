/**
 * Hints that there may be work, within a process and between processes. A hint may be lost, doubled or late, so every
 * listener also polls.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"

/** The subject of a hint: chunks to drain, domain objects created, or a pause that began or ended. */
export type Topic = "chunks" | "events" | "pauses"

/** @internal The in-process half, on which stores build. */
export const makeLocal = Effect.gen(function*() {
  // one slot: a second hint adds nothing to one that was not received yet
  const bus = {
    chunks: yield* Effect.acquireRelease(PubSub.sliding<void>(1), PubSub.shutdown),
    events: yield* Effect.acquireRelease(PubSub.sliding<void>(1), PubSub.shutdown),
    pauses: yield* Effect.acquireRelease(PubSub.sliding<void>(1), PubSub.shutdown)
  }
  return {
    hint: (topic: Topic) => Effect.asVoid(PubSub.publish(bus[topic], undefined)),
    hear: (topic: Topic): Effect.Effect<Stream.Stream<void>, never, Scope> =>
      Effect.map(PubSub.subscribe(bus[topic]), Stream.fromSubscription)
  }
})

/**
 * Sends and receives hints. Every store provides one and sends the hints itself, after the commit: `chunks` when calls
 * were recorded or dead letters moved, `events` when domain objects were created, `pauses` when one began or ended.
 * That of `PgStore` reaches other processes by NOTIFY, at a low rate: never one per row, and never within the
 * transaction that caused it.
 */
export class WakeUp extends Context.Service<WakeUp, {
  /** Sends a hint. Does not block the caller. */
  readonly hint: (topic: Topic) => Effect.Effect<void>
  /** Receives the hints of one topic from now on; hints in quick succession count as one. */
  readonly hear: (topic: Topic) => Effect.Effect<Stream.Stream<void>, never, Scope>
}>()("effect-sluice/WakeUp") {}

/** Within this process only. */
export const layerLocal: Layer.Layer<WakeUp> = Layer.effect(
  WakeUp,
  Effect.map(makeLocal, ({ hear, hint }) => WakeUp.of({ hear, hint }))
)
