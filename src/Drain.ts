/**
 * Phase 2: one cycle claims recorded outputs, finds and runs their handlers, and commits the handlers' writes, the
 * ledger rows and the settlement together. Any number of drains may run on any number of machines.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import { hostname } from "node:os"
import { ChunkStore, type ClaimedChunk, type StoreError } from "./ChunkStore.ts"
import { DomainEvents } from "./DomainEvents.ts"
import type { DomainObject } from "./DomainObject.ts"
import { type Claimed, claimScoped, type Engine } from "./drain/claim.ts"
import { cycleWithin } from "./drain/deadline.ts"
import * as Heartbeat from "./drain/heartbeat.ts"
import * as Isolations from "./drain/isolation.ts"
import { allOf, objectsOf } from "./drain/objects.ts"
import { makeClaimLog } from "./drain/observe/log.ts"
import type { Outcome } from "./drain/Outcome.ts"
import * as Pulse from "./drain/pulse.ts"
import * as Releases from "./drain/releases.ts"
import { addReports, emptyReport, type Report } from "./drain/Report.ts"
import { timeoutOf } from "./drain/transaction.ts"
import * as Unfit from "./drain/unfit.ts"
import { HandlerRegistry } from "./HandlerRegistry.ts"
import { freshToken } from "./internal/token.ts"
import * as Metrics from "./Metrics.ts"
import { CallNotFound, type PersistNowError } from "./PersistNowError.ts"
import * as Settings from "./Settings.ts"
import type { WakeUp } from "./WakeUp.ts"

export type { Claimed } from "./drain/claim.ts"
export type { Health } from "./drain/pulse.ts"
export { addReports, emptyReport, Report } from "./drain/Report.ts"
export * from "./PersistNowError.ts"

/** How a claim is made. */
export interface ClaimOptions {
  /** Whether it may come back empty without having looked thoroughly: see `ClaimRequest`. */
  readonly hasty?: boolean | undefined
}

/**
 * Drains recorded outputs into domain tables.
 *
 * ```ts
 * const drain = yield* Drain
 * const report = yield* drain.untilEmpty
 * ```
 */
export class Drain extends Context.Service<Drain, {
  /** One batch: claim, persist, settle, announce. Fails only when the database does; nobody is charged for that. */
  readonly cycle: Effect.Effect<Report, StoreError>
  /** Cycles until nothing is due. Chunks that wait for their next attempt are left waiting. */
  readonly untilEmpty: Effect.Effect<Report, StoreError>
  /**
   * Cycles until nothing is due or the time is over. Then what runs is interrupted and given back at no cost, which may take
   * a moment more: for functions that are killed at a deadline, choose a second less than that. Succeeds with what it came
   * to.
   */
  readonly within: (duration: Duration.Input) => Effect.Effect<Report, StoreError>
  /**
   * The first half of a cycle: claims what is due. `run` of what was claimed is the second half. When the scope closes,
   * whatever has no outcome is given back. For workers that have several batches under way, and let the next one claim while
   * this one is run.
   */
  readonly claim: (options?: ClaimOptions) => Effect.Effect<Claimed, StoreError, Scope>
  /**
   * Persists one call's chunks right now, and gives back their domain objects in the order of the outputs: the inline
   * path. Claims like any worker; when another one holds a chunk, waits for it for up to the handler timeout.
   */
  readonly persistNow: (callId: string) => Effect.Effect<ReadonlyArray<DomainObject>, PersistNowError>
  /** Whether this drain goes on, and what troubles it. Asks no database. */
  readonly health: Effect.Effect<Pulse.Health>
  /** The name this drain claims under, for people: host, process and a random part. */
  readonly worker: string
}>()("effect-sluice/Drain") {
  static readonly layer: Layer.Layer<
    Drain,
    Settings.SettingInvalid,
    ChunkStore | HandlerRegistry | DomainEvents | WakeUp
  > = Layer.effect(Drain, Effect.suspend(() => make(undefined)))
  /** A drain that claims the chunks of one namespace only. */
  static readonly layerNamespace = (
    namespace: string
  ): Layer.Layer<Drain, Settings.SettingInvalid, ChunkStore | HandlerRegistry | DomainEvents | WakeUp> =>
    Layer.effect(Drain, make(namespace))
}

/** How long a drain's layer waits for the database when it closes. */
const patience = Duration.seconds(5)

const make = Effect.fnUntraced(function*(namespace: string | undefined) {
  const store = yield* ChunkStore
  const registry = yield* HandlerRegistry
  const settings = yield* Settings.load
  const services = Context.make(ChunkStore, store).pipe(Context.add(DomainEvents, yield* DomainEvents))
  const worker = `${hostname()}/${process.pid}/${(yield* Random.nextIntBetween(0, 2 ** 32)).toString(36)}`
  yield* Effect.addFinalizer(() =>
    Effect.ignoreCause(Effect.timeoutOption(Effect.interruptible(store.leave(worker)), patience))
  )

  const serves = namespace === undefined ? registry.serves : registry.servesIn(namespace)
  Metrics.begin(
    serves.map(({ namespace, schemaIdentity: schema }) => ({
      namespace,
      schema,
      handler: registry.find(namespace, schema)?.name ?? ""
    })),
    yield* Effect.context()
  )
  const longestRun = Math.max(
    Duration.toMillis(settings.handlerTimeout),
    ...registry.list.map((handler) => Duration.toMillis(timeoutOf(handler, settings.handlerTimeout)))
  )
  const pulse = yield* Pulse.make({
    lease: settings.lease,
    beatInterval: settings.beatInterval,
    longestRun: Duration.millis(longestRun)
  })
  const unfit = Unfit.make(registry)
  const heartbeat = yield* Heartbeat.make({
    worker,
    serves: () => serves.filter((kind) => unfit.registry.find(kind.namespace, kind.schemaIdentity) !== undefined),
    interval: settings.beatInterval,
    pulse
  })
  const engine: Engine = {
    registry: unfit.registry,
    settings,
    isolations: Isolations.make(),
    unfit,
    releases: yield* Releases.make,
    log: makeClaimLog(),
    paused: () => heartbeat.last().paused,
    progress: pulse.progress
  }

  /** Claims, until the scope closes. */
  const claimed = Effect.fnUntraced(function*(options: ClaimOptions & { readonly callId?: string }) {
    return yield* claimScoped(engine, {
      token: yield* freshToken,
      worker,
      limit: settings.batchSize,
      maxBytes: settings.batchBytes,
      lease: settings.lease,
      except: heartbeat.last().elsewhere,
      own: serves,
      namespace,
      callId: options.callId,
      hasty: options.hasty
    })
  }, Effect.provideContext(services))

  const claim = (options: ClaimOptions = {}) =>
    pulse.watch("claim", Effect.andThen(heartbeat.start, claimed(options))).pipe(
      // where nothing was claimed nothing was tried
      Effect.map((found) => ({ ...found, run: pulse.watch("run", found.run, ({ claimed }) => claimed > 0) }))
    )

  const cycle = Effect.gen(function*() {
    const found = yield* claim()
    const report = yield* found.run
    if (report.claimed > 0) yield* Effect.annotateCurrentSpan({ ...report })
    return report
  }).pipe(Effect.scoped, Effect.withSpan("Drain.cycle"))

  const untilEmpty = Effect.gen(function*() {
    let total = emptyReport
    while (true) {
      const report = yield* cycle
      if (report.claimed === 0) return total
      total = addReports(total, report)
    }
  }).pipe(Effect.withSpan("Drain.untilEmpty"))

  const within = Effect.fn("Drain.within")(function*(duration: Duration.Input) {
    const clock = yield* Clock.Clock
    const began = clock.monotonicTimeNanosUnsafe()
    const limit = Duration.toMillis(Duration.fromInputUnsafe(duration))
    const left = () => Duration.millis(Math.max(0, limit - Number(clock.monotonicTimeNanosUnsafe() - began) / 1e6))
    let total = emptyReport
    while (Duration.isPositive(left())) {
      const { ends, report } = yield* cycleWithin(claim(), left())
      total = addReports(total, report)
      if (ends) break
    }
    return total
  })

  /** Claims and runs what is due of a call: it may have more outputs than one claim takes. */
  const claimedAll = Effect.fnUntraced(function*(callId: string) {
    const chunks: Array<ClaimedChunk> = []
    const outcomes = new Map<ClaimedChunk, Outcome>()
    while (true) {
      const part = yield* Effect.scoped(Effect.tap(claimed({ callId }), ({ run }) => run))
      chunks.push(...part.chunks)
      for (const [chunk, outcome] of part.outcomes) outcomes.set(chunk, outcome)
      const isMoving = [...part.outcomes.values()].some((outcome) => outcome._tag === "Persisted")
      if (!isMoving || chunks.length === chunks[0]?.call.outputs) return { chunks, outcomes }
    }
  })

  const persistNow = Effect.fn("Drain.persistNow")(function*(callId: string) {
    yield* Effect.annotateCurrentSpan("sluice.call_id", callId)
    const attempt = Effect.gen(function*() {
      const { chunks, outcomes } = yield* claimedAll(callId)
      const done = allOf(chunks, outcomes)
      if (done !== undefined) return done
      const view = yield* Effect.flatMap(
        store.call(callId),
        Option.match({ onNone: () => new CallNotFound({ callId }), onSome: Effect.succeed })
      )
      if (view.chunks.length === 0) return yield* new CallNotFound({ callId })
      return yield* Effect.forEach(view.chunks, (chunk) => objectsOf(chunk, view, registry, outcomes))
    })
    const objects = yield* Effect.retry(attempt, {
      schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: settings.handlerTimeout })),
      while: (error) => error._tag === "ChunkBusy" && error.state !== "scheduled" && error.state !== "parked"
    })
    return objects.flat()
  })

  return Drain.of({ cycle, untilEmpty, within, claim, persistNow, health: pulse.health, worker })
})
