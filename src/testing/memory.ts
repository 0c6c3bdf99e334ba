/**
 * Everything between recorded calls and handlers, in memory.
 */
import * as Layer from "effect/Layer"
import { CallRecorder } from "../CallRecorder.ts"
import { ChunkLedger } from "../ChunkLedger.ts"
import { DomainEvents } from "../DomainEvents.ts"
import { Drain } from "../Drain.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import type { SettingInvalid } from "../Settings.ts"
import type { MemoryDatabase } from "../store/MemoryDatabase.ts"
import * as MemoryStore from "../store/MemoryStore.ts"
import type { Stores } from "../store/Stores.ts"

/** What {@link layerMemory} provides. */
export type Memory = Drain | CallRecorder | ChunkLedger | DomainEvents | Stores | MemoryDatabase

/**
 * A drain over a store in memory, for a registry whose handlers may keep their rows in the same `MemoryDatabase`. Time
 * is `Clock`'s, so that `TestClock` drives leases and retries.
 *
 * ```ts
 * const application = layerMemory(HandlerRegistry.layer(Chatlab).pipe(Layer.provide(ChatlabHandlers), Layer.provide(repositories)))
 * ```
 */
export const layerMemory = <E, R>(
  registry: Layer.Layer<HandlerRegistry, E, R>
): Layer.Layer<Memory | HandlerRegistry, E | SettingInvalid, Exclude<R, Stores | MemoryDatabase | DomainEvents>> =>
  Layer.mergeAll(Drain.layer, CallRecorder.layer, ChunkLedger.layer).pipe(
    Layer.provideMerge(registry),
    Layer.provideMerge(Layer.merge(DomainEvents.layer, MemoryStore.layer))
  )
