/**
 * Phase 2: one cycle claims recorded outputs, finds and runs their handlers, and commits the handlers' writes, the
 * ledger rows and the settlement together. Any number of drains may run on any number of machines.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type { Scope } from "effect/Scope"
import { hostname } from "node:os"
import {
  type CallConflict,
  CallErased,
  CallRecorder,
  type CallRefused,
  layer as layerCallRecorder
} from "./CallRecorder.ts"
import { ChunkStore, type ChunkStoreError, type ClaimLimits } from "./ChunkStore.ts"
import type { Declaration } from "./Declaration.ts"
import { DomainEvents } from "./DomainEvents.ts"
import type { DomainObject } from "./DomainObject.ts"
import { timeoutOf } from "./drain/batch.ts"
import { type Claimed, claimScoped } from "./drain/claim.ts"
import * as cycles from "./drain/cycles.ts"
import type { Engine } from "./drain/engine.ts"
import * as Heartbeat from "./drain/heartbeat.ts"
import * as Insides from "./drain/inside.ts"
import * as InsideUses from "./drain/insideUse.ts"
import * as Isolations from "./drain/isolation.ts"
import { makeClaimLog } from "./drain/observe/log.ts"
import { warnOfOutside } from "./drain/outside.ts"
import { objectsNow } from "./drain/persistNow.ts"
import * as Pulse from "./drain/pulse.ts"
import { CurrentNote, type Note, recordAndRun } from "./drain/recordNow.ts"
import * as Releases from "./drain/releases.ts"
import type { Report } from "./drain/Report.ts"
import * as Rests from "./drain/rests.ts"
import * as Unfit from "./drain/unfit.ts"
import { HandlerRegistry, warnOfUnused } from "./HandlerRegistry.ts"
import { Inspector } from "./Inspector.ts"
import { freshToken } from "./internal/freshToken.ts"
import type { Kind } from "./Kind.ts"
import * as Metrics from "./Metrics.ts"
import type { PersistNowError } from "./PersistNowError.ts"
import type { ServiceCall } from "./ServiceCall.ts"
import * as Settings from "./Settings.ts"
import type { WakeUp } from "./WakeUp.ts"

export type { Claimed } from "./drain/claim.ts"
export type { Outcome, Outcomes } from "./drain/Outcome.ts"
export type { Health } from "./drain/pulse.ts"
export { addReports, emptyReport, Report } from "./drain/Report.ts"
export * from "./PersistNowError.ts"

/** How a claim is made. */
export interface ClaimOptions {
  /** Allows an empty result without a full search: see `ClaimRequest`. */
  readonly hasty?: boolean | undefined
  /**
   * Allows the result's `run` to do what the store persists by itself, so that another claim can be made meanwhile. The run
   * may then find that nothing is due, though the claim was not empty.
   */
  readonly mayRunLater?: boolean | undefined
}

/**
 * Drains recorded outputs into domain tables.
 *
 * ```ts
 * const drain = yield* Drain.Drain
 * const report = yield* drain.untilEmpty
 * ```
 */
export class Drain extends Context.Service<Drain, {
  /** One claim and its run: persist, settle, announce. Fails only when the database fails; then no chunk is charged. */
  readonly cycle: Effect.Effect<Report, ChunkStoreError>
  /**
   * Cycles until nothing is due. Chunks that are scheduled for a later attempt stay in the queue: `Inspector.later` counts
   * them. Waits for a declared table that another session holds locked, for as long as a run may take.
   */
  readonly untilEmpty: Effect.Effect<Report, ChunkStoreError>
  /**
   * Cycles until nothing is due or the time is over. Then it interrupts running handlers and gives their chunks back at
   * no cost, which may take a moment longer: for functions that are killed at a deadline, choose a second less than the
   * deadline. Succeeds with the report of what was done.
   */
  readonly within: (duration: Duration.Input) => Effect.Effect<Report, ChunkStoreError>
  /**
   * The first half of a cycle: claims due chunks, or lets the store persist those of declared handlers. The second half is
   * `run` of the result. When the scope closes, chunks without an outcome are given back. For workers that run several
   * batches and make the next claim while this one is run.
   */
  readonly claim: (options?: ClaimOptions) => Effect.Effect<Claimed, ChunkStoreError, Scope>
  /**
   * The inline path: persists one call's chunks now, and returns their domain objects in the order of the outputs.
   * Claims like any worker; when another worker holds a chunk, waits for it for up to the handler timeout.
   */
  readonly persistNow: (callId: string) => Effect.Effect<ReadonlyArray<DomainObject>, PersistNowError>
  /**
   * Records a finished call and persists its outputs in one commit, and returns their domain objects in the order of the
   * outputs: for requests that need the rows at once. One commit waits for the disk; `record` and `persistNow` need two.
   *
   * The handlers run in the transaction that records the call. Failing that, the call is recorded all the same, and this
   * fails like `persistNow`: a failed run is charged an attempt, and is not repeated here. Outputs of several handlers
   * are one commit too, unless one of these has `isolation: "transaction"`; if one fails, the others run again without it.
   *
   * If one declared handler serves all outputs, and they are as `Output.encode` made them, the store does all of that by one
   * statement. Once that is sent, nothing is lost even if this process dies, unless the table has triggers.
   *
   * If nothing outstanding has the call's ordering key, the call is recorded before its handlers run, and claimed by the
   * same statement: later calls of the key must wait for it. A call that is recorded already, is behind others of its key or
   * is not due yet, and one within a caller's transaction, is recorded and then persisted as by `persistNow`.
   *
   * **What may be lost.** Until its handlers have run the answer is in memory only. A process that dies meanwhile loses it,
   * as it would while it waits for the LLM. After `SLUICE_RECORD_WITHIN` (100 milliseconds) it is recorded by itself,
   * whatever the handlers do, on another connection; a client of one connection records it when the handlers have ended.
   * With 0 it is recorded before they run. When this is interrupted, the answer is recorded nevertheless.
   */
  readonly recordNow: (
    call: ServiceCall
  ) => Effect.Effect<ReadonlyArray<DomainObject>, CallRefused | CallConflict | CallErased | PersistNowError>
  /** Whether this drain makes progress, and the database's last error. Does not query the database. */
  readonly health: Effect.Effect<Pulse.Health>
  /** The name under which this drain claims, for display: host, process and a random part. */
  readonly worker: string
}>()("effect-sluice/Drain") {}

/** A drain of all namespaces, over any store. */
export const layer: Layer.Layer<
  Drain,
  never,
  ChunkStore | Inspector | HandlerRegistry | DomainEvents | WakeUp | Settings.Settings
> = Layer.effect(Drain, Effect.suspend(() => make(undefined)))

/** A drain that claims only chunks of `namespace`, when given. */
export const layerWith = (
  { namespace }: { readonly namespace?: string | undefined }
): Layer.Layer<Drain, never, ChunkStore | Inspector | HandlerRegistry | DomainEvents | WakeUp | Settings.Settings> =>
  Layer.effect(Drain, make(namespace))

/** How long a drain's layer waits for the database when it closes. */
const longestLeave = Duration.seconds(5)

const leaveAtEnd = (store: ChunkStore["Service"], worker: string) =>
  Effect.addFinalizer(() =>
    Effect.ignoreCause(Effect.timeoutOption(Effect.interruptible(store.leave(worker)), longestLeave))
  )

/** Warns of handlers that would not do what they seem to. */
const warnOf = (registry: HandlerRegistry["Service"], store: ChunkStore["Service"]) =>
  Effect.flatMap(
    Effect.context<never>(),
    (context) => Effect.andThen(warnOfUnused(registry, context), warnOfOutside(registry, store))
  )

const make = Effect.fnUntraced(function*(namespace: string | undefined) {
  const store = yield* ChunkStore
  const registry = yield* HandlerRegistry
  yield* warnOf(registry, store)
  const settings = yield* Settings.Settings
  const services = Context.make(ChunkStore, store).pipe(Context.add(DomainEvents, yield* DomainEvents))
  const worker = `${hostname()}/${process.pid}/${(yield* Random.nextIntBetween(0, 2 ** 32)).toString(36)}`
  yield* leaveAtEnd(store, worker)
  const serves = namespace === undefined ? registry.serves : registry.servesIn(namespace)
  yield* beginMetrics(registry, serves)
  const { beatInterval: interval, lease } = settings
  const pulse = yield* Pulse.make({ lease, beatInterval: interval, longestRun: longestRun(registry, settings) })
  const inspector = yield* Inspector
  const unfit = Unfit.make(registry, fitsBy(store, inspector))
  const uses = InsideUses.make(registry, settings.declaredInside)
  const heartbeat = yield* Heartbeat.make({ worker, serves, unfit, uses, interval, pulse })
  const rests = yield* Rests.make(settings.handlerTimeout)
  const engine: Engine = {
    registry: unfit.registry,
    settings,
    isolations: Isolations.make(),
    unfit,
    rests,
    uses,
    releases: yield* Releases.make,
    pulse,
    log: makeClaimLog(unfit.why),
    paused: () => heartbeat.last().paused
  }

  const limitsOf = ({ hasty }: ClaimOptions) => {
    const { batchBytes: maxBytes, batchSize: limit } = settings
    return { limit, maxBytes, except: heartbeat.last().elsewhere, own: serves, namespace, hasty }
  }

  const claimOf = Effect.fnUntraced(function*(limits: ClaimLimits, callId?: string) {
    return yield* claimScoped(engine, {
      ...callId === undefined ? rests.apply(limits) : limits,
      token: yield* freshToken,
      worker,
      lease,
      callId,
      inline: callId !== undefined
    })
  }, Effect.provideContext(services))

  const insides = yield* Effect.provideContext(Insides.make(engine, namespace), services)
  const claim = (options: ClaimOptions = {}) =>
    heartbeat.start.pipe(
      // the limits are those of the latest beat
      Effect.andThen(Effect.suspend(() => insides.orClaim(limitsOf(options), options.mayRunLater === true, claimOf))),
      // a worker looks again by itself
      (claiming) => options.mayRunLater === true ? claiming : rests.outlast(claiming),
      (claiming) => pulse.watch("claim", claiming),
      // the run of an empty claim sends nothing to the database, so its success proves nothing
      Effect.map((found) => ({ ...found, run: pulse.watch("run", found.run, ({ claimed }) => claimed > 0) }))
    )
  const persisting = objectsNow(engine, inspector, (callId) => claimOf(limitsOf({}), callId))
  const recorder = yield* recorderOf(recordAndRun(engine, services, worker))

  return Drain.of({
    cycle: cycles.cycle(claim()),
    untilEmpty: cycles.untilEmpty(claim()),
    within: cycles.within(claim()),
    claim,
    persistNow: Effect.fn("Drain.persistNow")(function*(callId: string) {
      yield* Effect.annotateCurrentSpan("sluice.call_id", callId)
      return yield* persisting(callId)
    }),
    recordNow: Effect.fn("Drain.recordNow")(function*(call: ServiceCall) {
      const note: Note = { ran: undefined }
      const recorded = yield* Effect.provideService(recorder.record(call), CurrentNote, note)
      if (recorded === "erased") return yield* new CallErased({ callId: call.callId })
      return note.objects ?? (yield* persisting(call.callId, note.ran))
    }),
    health: pulse.health,
    worker
  })
})

/** Fails if a table does not fit, or if that would be asked in a caller's transaction: a statement that fails aborts it. */
const fitsBy = ({ isNested }: ChunkStore["Service"], inspector: Inspector["Service"]) => (declaration: Declaration) =>
  Effect.flatMap(
    isNested,
    (nested): Effect.Effect<unknown, unknown> => nested ? Effect.fail("nested") : inspector.declaration(declaration)
  )

/** A recorder by another verb `record` than the store's: it checks calls, and counts them, as always. */
const recorderOf = Effect.fnUntraced(function*(record: ChunkStore["Service"]["record"]) {
  const services = yield* Effect.context<ChunkStore | Settings.Settings>()
  const store = { ...Context.get(services, ChunkStore), record }
  const layer = Layer.provide(
    Layer.fresh(layerCallRecorder),
    Layer.succeedContext(Context.add(services, ChunkStore, store))
  )
  return Context.get(yield* Layer.build(layer), CallRecorder)
})

/** Starts the metrics of the served kinds at 0. */
const beginMetrics = (registry: HandlerRegistry["Service"], serves: ReadonlyArray<Kind>) =>
  Effect.map(Effect.context(), (context) =>
    Metrics.begin(
      serves.map(({ namespace, schemaIdentity: schema }) => ({
        namespace,
        schema,
        handler: registry.find(namespace, schema)?.name ?? ""
      })),
      context
    ))

/** The longest time that a run of any handler may take. */
const longestRun = ({ list }: HandlerRegistry["Service"], { handlerTimeout }: Settings.Values): Duration.Duration =>
  list.map((handler) => timeoutOf(handler, handlerTimeout)).reduce((a, b) => Duration.max(a, b), handlerTimeout)
