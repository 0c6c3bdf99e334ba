/** A complete drain in memory, for tests. */
import type * as Config from "effect/Config"
import * as Layer from "effect/Layer"
import * as CallRecorder from "../CallRecorder.ts"
import * as ChunkLedger from "../ChunkLedger.ts"
import * as DomainEvents from "../DomainEvents.ts"
import * as Drain from "../Drain.ts"
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import * as Settings from "../Settings.ts"
import type { MemoryDatabase } from "../store/MemoryDatabase.ts"
import * as MemoryStore from "../store/MemoryStore.ts"
import type { Stores } from "../store/Stores.ts"

/** What {@link layerMemory} provides. */
export type Memory =
  | Drain.Drain
  | CallRecorder.CallRecorder
  | ChunkLedger.ChunkLedger
  | DomainEvents.DomainEvents
  | Stores
  | MemoryDatabase
  | Settings.Settings

/**
 * A drain over a store in memory, for a registry whose handlers may keep their rows in the same `MemoryDatabase`. Time
 * comes from `Clock`, so `TestClock` controls leases and retries. `settings` override the defaults.
 *
 * ```ts
 * const application = layerMemory(
 *   HandlerRegistry.layer(Chatlab).pipe(Layer.provide(ChatlabHandlers), Layer.provide(repositories))
 * )
 * ```
 */
export const layerMemory = <E, R>(
  registry: Layer.Layer<HandlerRegistry, E, R>,
  settings: Settings.Options = {}
): Layer.Layer<
  Memory | HandlerRegistry,
  E | Config.ConfigError,
  Exclude<R, Stores | MemoryDatabase | DomainEvents.DomainEvents | Settings.Settings>
> =>
  Layer.mergeAll(Drain.layer, CallRecorder.layer, ChunkLedger.layer).pipe(
    Layer.provideMerge(registry),
    Layer.provideMerge(
      Layer.merge(DomainEvents.layer, MemoryStore.layer).pipe(Layer.provideMerge(Settings.layer(settings)))
    )
  )
