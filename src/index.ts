/**
 * Sluice: structured LLM answers into your own tables, exactly once.
 */
export * as CallLines from "./CallLines.ts"
export * as CallShape from "./CallShape.ts"
export * as DomainObject from "./DomainObject.ts"
export * as HandlerDiscovery from "./HandlerDiscovery.ts"
export * as HandlerPlugin from "./HandlerPlugin.ts"
export * as Identity from "./Identity.ts"
export * as LiveEvents from "./LiveEvents.ts"
export * as Metrics from "./Metrics.ts"
export * as Output from "./Output.ts"
export * as OutputGroup from "./OutputGroup.ts"
export * as RetryPolicy from "./RetryPolicy.ts"
export * as ServiceCall from "./ServiceCall.ts"
export * as Settings from "./Settings.ts"
export * as Shutdown from "./Shutdown.ts"
export * as Subscription from "./Subscription.ts"

export {
  CallConflict,
  CallRecorder,
  CallRefused,
  CallRunning,
  type Recorded,
  RunInTransaction,
  type RunResult
} from "./CallRecorder.ts"
export { ChunkLedger, type Once, type OnceOptions } from "./ChunkLedger.ts"
export { ChunkStore, StoreError } from "./ChunkStore.ts"
export { DeadLetters } from "./DeadLetters.ts"
export { DomainEvents } from "./DomainEvents.ts"
export { DomainObjectCreated } from "./DomainObject.ts"
export {
  CallNotFound,
  ChunkBusy,
  ChunkDead,
  Drain,
  HandlerFailed,
  type PersistNowError,
  Report,
  RetriesExhausted
} from "./Drain.ts"
export { DrainWorker, type WorkerOptions } from "./DrainWorker.ts"
export { EventLog } from "./EventLog.ts"
export {
  ContextMissing,
  type Created,
  type HandlerCall,
  type HandlerInput,
  type HandlerOptions,
  type Persist,
  type PersistMany,
  Rejected
} from "./Handler.ts"
export { DuplicateHandler, HandlerNotFound, HandlerRegistry } from "./HandlerRegistry.ts"
export { Pauses } from "./Pauses.ts"
export { Retention } from "./Retention.ts"
export { WakeUp } from "./WakeUp.ts"
