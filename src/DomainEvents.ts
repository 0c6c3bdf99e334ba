/**
 * The objects that this process's drains create, published right after the commit to its listeners. Not durable: a listener
 * that falls more than `capacity` events behind loses the oldest, and a crash between commit and publication loses the
 * events. For the objects of other processes' drains see `LiveEvents`; for work that must happen, `Subscription`.
 */
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import type { DomainObjectCreated } from "./DomainObject.ts"
import type * as Output from "./Output.ts"

/** How many events a listener may be behind before it loses the oldest. */
export const capacity = 4096

/** How many are published before the listeners have their turn: a batch may create more than `capacity`. */
const portion = capacity / 4

/**
 * Publishes created domain objects within the process.
 *
 * ```ts
 * const events = yield* DomainEvents.DomainEvents
 * yield* events.stream.pipe(
 *   Stream.filter(DomainEvents.from(PatientReply)),
 *   Stream.runForEach((event) => attachMedia(event.object.id)),
 *   Effect.forkScoped
 * )
 * ```
 */
export class DomainEvents extends Context.Service<DomainEvents, {
  /** Publishes to all listeners in this process. The drain does so after each commit. */
  readonly publish: (events: ReadonlyArray<DomainObjectCreated>) => Effect.Effect<void>
  /** Everything created from the moment the stream is run. */
  readonly stream: Stream.Stream<DomainObjectCreated>
  /** The same, subscribed immediately: nothing published after this effect is missed. */
  readonly subscribe: Effect.Effect<Stream.Stream<DomainObjectCreated>, never, Scope>
}>()("effect-sluice/DomainEvents") {}

/** Whether an event is from a chunk of this output. */
export const from = (output: Output.Any) => (event: DomainObjectCreated): boolean =>
  event.key.schemaIdentity === output.identity

/** Events of this process. It publishes nothing beyond the process: see `LiveEvents` and `Subscription` for that. */
export const layer: Layer.Layer<DomainEvents> = Layer.effect(
  DomainEvents,
  Effect.gen(function*() {
    // sliding: a slow listener must neither block the drain nor fill the memory
    const bus = yield* Effect.acquireRelease(PubSub.sliding<DomainObjectCreated>(capacity), PubSub.shutdown)
    return DomainEvents.of({
      publish: (events) =>
        events.length <= portion
          ? Effect.asVoid(PubSub.publishAll(bus, events))
          : Effect.forEach(
            Arr.chunksOf(events, portion),
            (some) => Effect.andThen(PubSub.publishAll(bus, some), Effect.yieldNow),
            { discard: true }
          ),
      stream: Stream.fromPubSub(bus),
      subscribe: Effect.map(PubSub.subscribe(bus), Stream.fromSubscription)
    })
  })
)
