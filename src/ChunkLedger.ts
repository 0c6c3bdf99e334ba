/** Persists chunks outside the drain through the ledger: a chunk is persisted once, by the drain or by this service. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { ChunkStore, type ChunkStoreError, type LedgerEntry } from "./ChunkStore.ts"
import { DomainEvents } from "./DomainEvents.ts"
import type { DomainObject } from "./DomainObject.ts"
import { announce } from "./internal/announce.ts"
import { objectsOf } from "./internal/handlerResult.ts"
import { RunningChunks } from "./internal/RunningChunks.ts"
import { type ChunkKey, printKey } from "./ServiceCall.ts"

/** The result of `once`: the domain objects, and whether this call created them or the ledger already had them. */
export interface Once {
  /** The rows that the ledger has for this chunk, whether this call created them or an earlier one. */
  readonly objects: ReadonlyArray<DomainObject>
  /** Whether this call created them. False: the ledger had the chunk before. */
  readonly created: boolean
}

/** What `once` writes to the ledger and the event about the code that persists the chunk. */
export interface Options {
  /** The namespace that the ledger row is written for. */
  readonly namespace: string
  /** Written to the ledger as the handler. Default `"once"`. */
  readonly handler?: string | undefined
  /** For the event. Default: the call id. */
  readonly correlationId?: string | undefined
}

/**
 * Persists a chunk unless the ledger has it.
 *
 * ```ts
 * const { objects, created } = yield* ledger.once(
 *   { callId, schemaIdentity: PatientReply.identity, part: "" },
 *   { namespace: "chatlab" },
 *   Effect.map(messages.insert(answer.text), (row) => [DomainObject.make("chatlab.Message", row.id)])
 * )
 * ```
 */
export class ChunkLedger extends Context.Service<ChunkLedger, {
  /**
   * Runs `effect` in one transaction (the caller's when there is one) with the ledger row of `key`. If the ledger
   * already has the key, `effect` is not run and the objects recorded there are returned. Of two concurrent calls the
   * second waits for the first. Settles the chunk if it is outstanding or a dead letter.
   *
   * Within the handler of the same chunk it only runs `effect`: the drain writes the ledger row from the handler's
   * result.
   */
  readonly once: <E, R>(
    key: ChunkKey,
    options: Options,
    effect: Effect.Effect<ReadonlyArray<DomainObject>, E, R>
  ) => Effect.Effect<Once, E | ChunkStoreError, R>
  /** The ledger rows of these keys. */
  readonly find: (keys: ReadonlyArray<ChunkKey>) => Effect.Effect<ReadonlyArray<LedgerEntry>, ChunkStoreError>
}>()("effect-sluice/ChunkLedger") {}

/** The ledger, over any store. */
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
      // within the chunk's own handler the drain writes the ledger row, in the same transaction
      if (running.some((own) => printKey(own) === printKey(key))) {
        const objects = objectsOf(yield* effect)
        return objects instanceof Error ? yield* Effect.die(objects) : { objects, created: true }
      }
      const { created, entry } = yield* store.once(
        { key, namespace, handler },
        // a caller without types may return anything; only readable objects may enter the ledger
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
        yield* store.afterCommit(announce(() => events.publish(announced)))
      }
      return { objects, created }
    })
    return ChunkLedger.of({ once, find: store.ledger })
  })
)
