/**
 * Hints that there may be something to do, within a process and between processes. A hint may be lost, doubled or late:
 * whoever waits for one also looks by itself now and then.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"

/** What the hint is about: chunks to drain, domain objects created, or a pause that began or ended. */
export type Topic = "chunks" | "events" | "pauses"

/** @internal The in-process half, on which stores build. */
export const makeLocal = Effect.gen(function*() {
  // one slot: a hint not yet heard says all that a second one would
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
 * Gives and hears hints. Every store brings one and gives the hints itself, after the commit: `chunks` when calls were
 * recorded or dead letters moved, `events` when domain objects were created, `pauses` when one began or ended. That of `PgStore` reaches other processes
 * by NOTIFY, seldom: never one for each row, and never on the way of the transaction that caused it.
 */
export class WakeUp extends Context.Service<WakeUp, {
  /** Gives a hint. Costs the caller nothing. */
  readonly hint: (topic: Topic) => Effect.Effect<void>
  /** Hears the hints of one topic from now on, those given in quick succession as one. */
  readonly hear: (topic: Topic) => Effect.Effect<Stream.Stream<void>, never, Scope>
}>()("effect-sluice/WakeUp") {}

/** Within this process only. */
export const layerLocal: Layer.Layer<WakeUp> = Layer.effect(
  WakeUp,
  Effect.map(makeLocal, ({ hear, hint }) => WakeUp.of({ hear, hint }))
)
