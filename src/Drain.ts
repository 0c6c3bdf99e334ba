/**
 * Phase 2: one cycle claims recorded outputs, finds and runs their handlers, and commits the handlers' writes, the
 * ledger rows and the settlement together. Any number of drains may run on any number of machines.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { hostname } from "node:os"
import {
  type CallView,
  ChunkStore,
  type ChunkView,
  type Claim,
  type ClaimedChunk,
  type ClaimRequest,
  type StoreError
} from "./ChunkStore.ts"
import { DomainEvents } from "./DomainEvents.ts"
import type { DomainObject } from "./DomainObject.ts"
import { HandlerRegistry } from "./HandlerRegistry.ts"
import { abandonable, hangUp } from "./internal/abandonable.ts"
import { timeoutOf } from "./internal/batch.ts"
import { withoutStack } from "./internal/describe.ts"
import { execute, keepAlive, type Outcome } from "./internal/execute.ts"
import { makeHeart } from "./internal/heart.ts"
import { measure } from "./internal/measure.ts"
import { Room } from "./internal/room.ts"
import { makeTell } from "./internal/tell.ts"
import { freshToken } from "./internal/token.ts"
import * as Metrics from "./Metrics.ts"
import {
  CallNotFound,
  ChunkBusy,
  ChunkDead,
  HandlerFailed,
  type PersistNowError,
  RetriesExhausted
} from "./PersistNowError.ts"
import { printKey } from "./ServiceCall.ts"
import * as Settings from "./Settings.ts"
import type { WakeUp } from "./WakeUp.ts"

export * from "./PersistNowError.ts"

/** What a cycle, or several, came to. All are numbers of chunks. */
export const Report = Schema.Struct({
  claimed: Schema.Int,
  /** Committed, with at least one domain object. */
  persisted: Schema.Int,
  /** Committed, and the handler made no domain object. */
  nothingToCreate: Schema.Int,
  /** Found in the ledger: nothing was done again. */
  alreadyPersisted: Schema.Int,
  /** A handler failed; the chunk was charged an attempt and will be tried again. */
  failed: Schema.Int,
  /** No handler, or paused: waits, at no cost. */
  parked: Schema.Int,
  /** Went to the dead letters. */
  dead: Schema.Int,
  /** Given back at no cost: behind an older chunk of their key, at a shutdown, or lost to another worker. */
  released: Schema.Int
})
/** What a cycle, or several, came to. */
export interface Report extends Schema.Schema.Type<typeof Report> {}

/** The report of nothing done. */
export const emptyReport: Report = {
  claimed: 0,
  persisted: 0,
  nothingToCreate: 0,
  alreadyPersisted: 0,
  failed: 0,
  parked: 0,
  dead: 0,
  released: 0
}

/** Two reports as one. */
export const addReports = (a: Report, b: Report): Report => ({
  claimed: a.claimed + b.claimed,
  persisted: a.persisted + b.persisted,
  nothingToCreate: a.nothingToCreate + b.nothingToCreate,
  alreadyPersisted: a.alreadyPersisted + b.alreadyPersisted,
  failed: a.failed + b.failed,
  parked: a.parked + b.parked,
  dead: a.dead + b.dead,
  released: a.released + b.released
})

/** How one cycle of many is run. */
export interface CycleOptions {
  /**
   * Told how many chunks were claimed before any of them is run, and whether these are all that was due, so that a worker
   * with several batches under way can let the next one claim while this one persists.
   */
  readonly onClaimed?: ((claimed: number, last: boolean) => Effect.Effect<void>) | undefined
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
  /** The same, for workers that run it again and again. */
  readonly cycleWith: (options: CycleOptions) => Effect.Effect<Report, StoreError>
  /** Cycles until nothing is due. Chunks that wait for their next attempt are left waiting. */
  readonly untilEmpty: Effect.Effect<Report, StoreError>
  /**
   * Persists one call's chunks right now, and gives back their domain objects in the order of the outputs: the inline
   * path. Claims like any worker; when another one holds a chunk, waits for it for up to the handler timeout.
   */
  readonly persistNow: (callId: string) => Effect.Effect<ReadonlyArray<DomainObject>, PersistNowError>
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

type Outcomes = Map<ClaimedChunk, Outcome>

const make = Effect.fnUntraced(function*(namespace: string | undefined) {
  const store = yield* ChunkStore
  const registry = yield* HandlerRegistry
  const settings = yield* Settings.load
  const services = yield* Effect.context<ChunkStore | DomainEvents>()
  const worker = `${hostname()}/${process.pid}/${(yield* Random.nextIntBetween(0, 2 ** 32)).toString(36)}`
  // releases that could not be done at once, because the database was away, go on here
  const lateReleases = yield* FiberSet.make()
  yield* Effect.addFinalizer(() =>
    Effect.ignoreCause(Effect.timeoutOption(Effect.interruptible(store.leave(worker)), hangUp))
  )

  const room = yield* Room
  const tell = makeTell()
  const clock = yield* Clock.Clock
  // longer than any handler may take, and some more to be interrupted in
  const patience = Duration.toMillis(settings.lease) +
    Math.max(...registry.list.map((handler) => Duration.toMillis(timeoutOf(handler, settings.handlerTimeout))), 0)

  const serves = namespace === undefined ? registry.serves : registry.servesIn(namespace)
  Metrics.begin(
    serves.map(({ namespace, schemaIdentity: schema }) => ({
      namespace,
      schema,
      handler: registry.find(namespace, schema)?.name ?? ""
    })),
    yield* Effect.context()
  )
  const heart = yield* makeHeart({ worker, serves, interval: settings.beatInterval })

  /**
   * Gives back what a claim still holds. A database that is away gets a while to do it, but nobody waits for it longer than
   * `hangUp`: when the lease ends there is nothing left to give back.
   */
  const givingBack = (attempt: Effect.Effect<unknown, StoreError>) =>
    // not the other way round: whoever was told to stop would be interrupted here at once, and wait for nothing
    Effect.interruptible(attempt).pipe(
      Effect.timeout(hangUp),
      Effect.catchCause(() =>
        FiberSet.run(
          lateReleases,
          attempt.pipe(
            Effect.retry(Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")])),
            Effect.timeoutOption(settings.lease),
            Effect.ignoreCause
          )
        )
      )
    )

  /** Carries a claim through. `hanging` are chunks that it left in the hands of a handler that cannot be stopped. */
  const carry = Effect.fnUntraced(function*(claim: Claim, outcomes: Outcomes, hanging: Set<ClaimedChunk>) {
    const { chunks, token } = claim
    const held = () => chunks.filter((chunk) => !outcomes.has(chunk))
    // while it waits for its turn nothing is expected of it
    let moved = Number.POSITIVE_INFINITY
    const progress = () => {
      moved = clock.currentTimeMillisUnsafe()
    }
    const run = execute({ registry, settings, paused: heart.last().paused, progress }, claim, (chunk, outcome) => {
      outcomes.set(chunk, outcome)
      progress()
    })
    const running = abandonable(run, (ended) => {
      const left = held()
      for (const chunk of left) hanging.add(chunk)
      const release = store.settle(token, left.map((chunk) => ({ _tag: "Release", chunk })))
      return FiberSet.run(lateReleases, Effect.ignoreCause(Effect.andThen(ended, release)))
    })
    const suspect = chunks.length === 1 && chunks[0]!.crashes > 0
    const inTurn = suspect
      ? room.alone(Effect.andThen(Effect.ignore(store.renew(token, chunks, settings.lease, true)), running))
      : room.shared(running)
    const isMoving = () => clock.currentTimeMillisUnsafe() - moved < patience
    yield* Effect.raceFirst(inTurn, keepAlive({ token, held, lease: settings.lease, isMoving }))
  })

  /** Claims and carries through; whatever way it ends, what has no fate yet is given back. */
  const work = Effect.fnUntraced(function*(options: {
    readonly callId?: string
    readonly cycle?: CycleOptions
  }) {
    const outcomes: Outcomes = new Map()
    const hanging = new Set<ClaimedChunk>()
    const began = yield* Clock.currentTimeMillis
    const token = yield* freshToken
    const request: ClaimRequest = {
      token,
      worker,
      limit: settings.batchSize,
      maxBytes: settings.batchBytes,
      lease: settings.lease,
      except: heart.last().elsewhere,
      own: serves,
      namespace,
      callId: options.callId,
      hasty: options.cycle?.hasty
    }
    const chunks = yield* Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
      const claim = yield* restore(store.claim(request)).pipe(
        // the answer may be lost, and the claim be made all the same
        Effect.onError(() => givingBack(store.giveUp(token)))
      )
      if (claim.chunks.length === 0) return claim.chunks
      const finish = Effect.suspend(() => {
        // what hangs is not given back before it ends: when its lease is over first, it counts as a crash
        const rest = claim.chunks.filter((chunk) => !outcomes.has(chunk) && !hanging.has(chunk))
        const release = store.settle(token, rest.map((chunk) => ({ _tag: "Release", chunk })))
        return (rest.length === 0 ? Effect.void : givingBack(release)).pipe(
          // also of a claim that was cut short: what it has committed is committed
          Effect.andThen(measure(registry, claim.chunks, outcomes, began)),
          Effect.andThen(tell(outcomes))
        )
      })
      yield* restore(
        Effect.andThen(
          options.cycle?.onClaimed?.(claim.chunks.length, claim.last === true) ?? Effect.void,
          carry(claim, outcomes, hanging)
        )
      ).pipe(Effect.ensuring(finish))
      return claim.chunks
    }))
    return { claimed: chunks, outcomes }
  }, Effect.provideContext(services))

  const cycleWith = Effect.fn("Drain.cycle")(function*(options: CycleOptions) {
    yield* heart.start
    const { claimed, outcomes } = yield* work({ cycle: options })
    const report = reportOf(claimed, outcomes)
    if (claimed.length > 0) yield* Effect.annotateCurrentSpan({ ...report })
    return report
  })
  const cycle = Effect.suspend(() => cycleWith({}))

  const untilEmpty = Effect.gen(function*() {
    let total = emptyReport
    while (true) {
      const report = yield* cycle
      if (report.claimed === 0) return total
      total = addReports(total, report)
    }
  }).pipe(Effect.withSpan("Drain.untilEmpty"))

  /** A call may have more outputs than one claim takes. */
  const workAll = Effect.fnUntraced(function*(callId: string) {
    const claimed: Array<ClaimedChunk> = []
    const outcomes: Outcomes = new Map()
    while (true) {
      const part = yield* work({ callId })
      claimed.push(...part.claimed)
      for (const [chunk, outcome] of part.outcomes) outcomes.set(chunk, outcome)
      const isMoving = [...part.outcomes.values()].some((outcome) => outcome._tag === "Persisted")
      if (!isMoving || claimed.length === claimed[0]?.call.outputs) return { claimed, outcomes }
    }
  })

  const persistNow = Effect.fn("Drain.persistNow")(function*(callId: string) {
    yield* Effect.annotateCurrentSpan("sluice.call_id", callId)
    const patience = Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: settings.handlerTimeout }))
    const attempt = Effect.gen(function*() {
      const { claimed, outcomes } = yield* workAll(callId)
      const done = allOf(claimed, outcomes)
      if (done !== undefined) return done
      const view = yield* Effect.flatMap(
        store.call(callId),
        Option.match({ onNone: () => new CallNotFound({ callId }), onSome: Effect.succeed })
      )
      if (view.chunks.length === 0) return yield* new CallNotFound({ callId })
      return yield* Effect.forEach(view.chunks, (chunk) => objectsOf(chunk, view, registry, outcomes))
    })
    const objects = yield* Effect.retry(attempt, {
      schedule: patience,
      while: (error) => error._tag === "ChunkBusy" && error.state !== "scheduled" && error.state !== "parked"
    })
    return objects.flat()
  })

  return Drain.of({ cycle, cycleWith, untilEmpty, persistNow, worker })
})

const reportOf = (claimed: ReadonlyArray<ClaimedChunk>, outcomes: ReadonlyMap<ClaimedChunk, Outcome>): Report => {
  const counts = { ...emptyReport, claimed: claimed.length }
  for (const chunk of claimed) counts[columnOf(outcomes.get(chunk))]++
  return counts
}

const columnOf = (outcome: Outcome | undefined): Exclude<keyof Report, "claimed"> => {
  if (outcome === undefined || outcome._tag === "Lost") return "released"
  if (outcome._tag === "Persisted") return outcome.persisted.objects.length > 0 ? "persisted" : "nothingToCreate"
  switch (outcome.settlement._tag) {
    case "Retry":
      return "failed"
    case "Park":
      return "parked"
    case "Bury":
      return "dead"
    case "Already":
      return "alreadyPersisted"
    case "Release":
      return "released"
  }
}

/** The domain objects of a call all of whose chunks were just persisted: nothing need be asked of the database. */
const allOf = (
  claimed: ReadonlyArray<ClaimedChunk>,
  outcomes: ReadonlyMap<ClaimedChunk, Outcome>
): ReadonlyArray<ReadonlyArray<DomainObject>> | undefined => {
  if (claimed.length === 0 || claimed.length !== claimed[0]!.call.outputs) return undefined
  const all: Array<ReadonlyArray<DomainObject>> = []
  for (const chunk of [...claimed].sort((a, b) => a.seq < b.seq ? -1 : 1)) {
    const outcome = outcomes.get(chunk)
    if (outcome?._tag !== "Persisted") return undefined
    all.push(outcome.persisted.objects)
  }
  return all
}

/** The domain objects of a chunk as it stands now, or the error that says why there are none yet. */
const objectsOf = Effect.fnUntraced(function*(
  chunk: ChunkView,
  call: CallView,
  registry: HandlerRegistry["Service"],
  outcomes: ReadonlyMap<ClaimedChunk, Outcome>
) {
  if (chunk.ledger !== null) return chunk.ledger.objects
  const { attempts, death, key, state } = chunk
  if (death !== null) {
    return yield* death.reason === "exhausted"
      ? new RetriesExhausted({ ...key, attempts, reason: withoutStack(death.message) })
      : new ChunkDead({ ...key, reason: death.reason, detail: withoutStack(death.message) })
  }
  if (state === "parked") yield* registry.resolve(call.namespace, key.schemaIdentity)
  for (const outcome of outcomes.values()) {
    if (outcome._tag !== "Settled" || outcome.settlement._tag !== "Retry") continue
    const { settlement } = outcome
    if (printKey(settlement.chunk.key) !== printKey(key)) continue
    return yield* new HandlerFailed({
      ...key,
      handler: settlement.failure.handler,
      attempt: settlement.chunk.attempts + 1,
      reason: withoutStack(settlement.failure.message),
      ...(outcome.cause === undefined ? {} : { cause: Cause.squash(outcome.cause) })
    })
  }
  return yield* new ChunkBusy({ ...key, state })
})
