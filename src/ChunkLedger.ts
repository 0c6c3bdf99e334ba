/**
 * The ledger by hand, for handlers run outside the drain: a chunk is persisted once, whoever does it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { ChunkStore, type ChunkStoreError, type LedgerEntry } from "./ChunkStore.ts"
import { DomainEvents } from "./DomainEvents.ts"
import type { DomainObject } from "./DomainObject.ts"
import { objectsOf } from "./internal/handlerResult.ts"
import { RunningChunks } from "./internal/RunningChunks.ts"
import { type ChunkKey, printKey } from "./ServiceCall.ts"

/** What `once` gives back: the domain objects, and whether they were created now or stood in the ledger already. */
export interface Once {
  readonly objects: ReadonlyArray<DomainObject>
  readonly created: boolean
}

/** Who persists a chunk outside the drain, for ledger and events. */
export interface Options {
  readonly namespace: string
  /** Written to the ledger as the handler. Default `"once"`. */
  readonly handler?: string
  /** For the event. Default: the call id. */
  readonly correlationId?: string
}

/**
 * Persists a chunk unless the ledger has it.
 *
 * ```ts
 * const { objects, created } = yield* ledger.once(
 *   { callId, schemaIdentity: PatientReply.identity, part: "" },
 *   { namespace: "chatlab" },
 *   Effect.map(messages.insert(message), (row) => [DomainObject.make("chatlab.Message", row.id)])
 * )
 * ```
 */
export class ChunkLedger extends Context.Service<ChunkLedger, {
  /**
   * Runs `effect` in one transaction (the caller's when there is one) with the ledger row of `key`. When the key stands
   * in the ledger, `effect` is not run and the objects of that time are given back. Of two at once the second waits. A chunk
   * that is outstanding, or a dead letter, is settled by it.
   *
   * Within the handler of the chunk itself it only runs `effect`: what the handler gives back stands in the ledger.
   */
  readonly once: <E, R>(
    key: ChunkKey,
    options: Options,
    effect: Effect.Effect<ReadonlyArray<DomainObject>, E, R>
  ) => Effect.Effect<Once, E | ChunkStoreError, R>
  /** The ledger rows of these keys. */
  readonly find: (keys: ReadonlyArray<ChunkKey>) => Effect.Effect<ReadonlyArray<LedgerEntry>, ChunkStoreError>
}>()("effect-sluice/ChunkLedger") {}

export const layer: Layer.Layer<ChunkLedger, never, ChunkStore | DomainEvents> = Layer.effect(
  ChunkLedger,
  Effect.gen(function*() {
    const store = yield* ChunkStore
    const events = yield* DomainEvents
    const once = Effect.fn("ChunkLedger.once")(function*<E, R>(
      key: ChunkKey,
      options: Options,
      effect: Effect.Effect<ReadonlyArray<DomainObject>, E, R>
    ) {
      const { namespace, handler = "once", correlationId = key.callId } = options
      const running = yield* RunningChunks
      // within the chunk's own handler the drain writes the ledger row, in the transaction that this is part of
      if (running.some((own) => printKey(own) === printKey(key))) {
        const objects = objectsOf(yield* effect)
        return objects instanceof Error ? yield* Effect.die(objects) : { objects, created: true }
      }
      const { created, entry } = yield* store.once(
        { key, namespace, handler },
        // what cannot be read back must not reach the ledger, whatever a caller without types gives
        Effect.flatMap(effect, (given) => {
          const objects = objectsOf(given)
          return objects instanceof Error ? Effect.die(objects) : Effect.succeed(objects)
        })
      )
      const { objects } = entry
      if (created) {
        const announced = objects.map((object) => (
          { object, key, namespace, handler, service: "", correlationId, context: {} }
        ))
        yield* store.afterCommit(events.publish(announced))
      }
      return { objects, created }
    })
    return ChunkLedger.of({ once, find: store.ledger })
  })
)
