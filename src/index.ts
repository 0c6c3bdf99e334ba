/**
 * Sluice writes structured LLM answers into your own tables, exactly once. Each module is also its own entry point,
 * like `effect-sluice/Drain`; stores are in `effect-sluice/store/*`.
 */
/** An attempt is one answer that a running service received and that is paid for, whether it was valid or not. */
export * as CallAttempt from "./CallAttempt.ts"
/** The event that every chunk of a call is persisted or dead, for `Subscription.layerCalls`. */
export * as CallEnded from "./CallEnded.ts"
/** Facts of a recorded call: which model answered, what it used, what it cost. */
export * as CallFacts from "./CallFacts.ts"
/** Reads and records files of recorded calls: one call per line, as JSON. */
export * as CallLines from "./CallLines.ts"
/** Phase 1: records a paid answer as soon as it exists, independently of the handlers. */
export * as CallRecorder from "./CallRecorder.ts"
/** What the calls of a group look like: which services make them, and what their context holds. */
export * as CallShape from "./CallShape.ts"
/** The views of recorded calls: the state of each chunk, its history, and counts per state. */
export * as CallView from "./CallView.ts"
/** Persists chunks outside the drain through the ledger: a chunk is persisted once, by the drain or by this service. */
export * as ChunkLedger from "./ChunkLedger.ts"
/** The port of the engine: every operation that drains and recorders need from a database. */
export * as ChunkStore from "./ChunkStore.ts"
/** Dead letters: chunks that are not retried automatically. */
export * as DeadLetters from "./DeadLetters.ts"
/** A declared handler as data: which table, and where each column's value comes from. */
export * as Declaration from "./Declaration.ts"
/** The objects that this process's drains create, published right after the commit. */
export * as DomainEvents from "./DomainEvents.ts"
/** The names of the application's rows. */
export * as DomainObject from "./DomainObject.ts"
/**
 * Phase 2: one cycle claims recorded outputs, finds and runs their handlers, and commits the handlers' writes, the
 * ledger rows and the settlement together.
 */
export * as Drain from "./Drain.ts"
/**
 * The loop around the drain: cycles while there is work, waits for its schedule or a wake-up when there is none, and
 * stops gracefully.
 */
export * as DrainWorker from "./DrainWorker.ts"
/** Erases what is recorded of a subject: a person, a conversation, a call. */
export * as Erasure from "./Erasure.ts"
/**
 * The port of `Subscription`: the ledger read as a log of created objects, by durable subscribers that each keep their
 * own place.
 */
export * as EventLog from "./EventLog.ts"
/** Defines handlers: the code that persists one kind of chunk for one namespace. */
export * as Handler from "./Handler.ts"
/**
 * Finds and loads handler modules by glob, for the command and for programs that do not list their handlers: by
 * default the modules of every `persist` folder, in the order of their paths.
 */
export * as HandlerDiscovery from "./HandlerDiscovery.ts"
/**
 * Layers that add a handler to the registry they are provided to, for plug-ins and for handlers found by the command.
 */
export * as HandlerPlugin from "./HandlerPlugin.ts"
/**
 * Finds the handler for `(namespace, schema identity)`: the namespace's own, else that of namespace `core`, else none.
 */
export * as HandlerRegistry from "./HandlerRegistry.ts"
/**
 * Parses, formats and validates identities, the names of the parts of LLM services: `domain.namespace.group.name`, for
 * example `schemas.chatlab.standardized_patient.patient-reply`.
 */
export * as Identity from "./Identity.ts"
/** The port for reading: the queries of people, gauges and the doctor. */
export * as Inspector from "./Inspector.ts"
/** Decodes invalid answers again after a fix of the schema, and records them, without asking a model. */
export * as InvalidAnswers from "./InvalidAnswers.ts"
/** Kinds of chunks: the namespace a chunk was recorded in and the identity of its schema. */
export * as Kind from "./Kind.ts"
/** Makes calls of files in other formats, such as the results of a provider's batch. */
export * as LineMapper from "./LineMapper.ts"
/** The objects that the drains of all processes create, as a live stream that follows the ledger. */
export * as LiveEvents from "./LiveEvents.ts"
/** Sluice's metrics, built on Effect's `Metric` and named by the conventions of OpenTelemetry and Prometheus. */
export * as Metrics from "./Metrics.ts"
/** Declares outputs. */
export * as Output from "./Output.ts"
/**
 * Groups the outputs of a namespace and builds the layer of their handlers: `toLayer` does not compile until every
 * output has its handler.
 */
export * as OutputGroup from "./OutputGroup.ts"
/** Pauses the drain of kinds of chunks, on a person's request. */
export * as Pauses from "./Pauses.ts"
/** Redacts recorded JSON for people and logs. */
export * as Redaction from "./Redaction.ts"
/** Asks again for answers that a handler rejected, and redrives their chunks with the new ones. */
export * as RejectedAnswers from "./RejectedAnswers.ts"
/** Deletes old data. */
export * as Retention from "./Retention.ts"
/**
 * Computes when a failed chunk is retried: a `Schedule`, replayed over the attempt count in the database, so the
 * delays continue after a restart, on any worker.
 */
export * as RetryPolicy from "./RetryPolicy.ts"
/** The types of recorded calls. */
export * as ServiceCall from "./ServiceCall.ts"
/** The settings and their defaults, as one service that every layer of Sluice reads, so two layers cannot disagree. */
export * as Settings from "./Settings.ts"
/**
 * Ends a program of workers on a signal: the first SIGINT or SIGTERM starts a graceful shutdown; a second one, or the
 * end of the time limit, ends the process immediately.
 */
export * as Shutdown from "./Shutdown.ts"
/**
 * Durable subscriptions to created domain objects: for work that must happen, such as attaching media or notifying a
 * billing system, where `DomainEvents` is only a quick hint.
 */
export * as Subscription from "./Subscription.ts"
/** Declared handlers, which need no program: which column takes which field of the answer. */
export * as TableHandler from "./TableHandler.ts"
/** What calls used, rolled up: calls, tokens and cost by day, namespace, service, schema and model. */
export * as Usage from "./Usage.ts"
/** Hints that there may be work, within a process and between processes. */
export * as WakeUp from "./WakeUp.ts"
