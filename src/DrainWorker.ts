/**
 * The loop around the drain: cycles while there is work, waits for its schedule or a wake-up when there is none, and
 * stops gracefully.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Pull from "effect/Pull"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { ChunkStoreError } from "./ChunkStore.ts"
import { addReports, Drain, emptyReport, type Report } from "./Drain.ts"
import { causeForLog } from "./internal/describe.ts"
import * as Settings from "./Settings.ts"
import { WakeUp } from "./WakeUp.ts"

/** How a worker is run. */
export interface Options<E = never> {
  /**
   * When an idle worker looks for work: `Schedule.spaced("5 seconds")`, `Schedule.cron("0 3 * * *")`, jittered or not.
   * While it finds work it does not wait. The default is `SLUICE_POLL_INTERVAL`, jittered. The worker stops when the
   * schedule ends.
   */
  readonly schedule?: Schedule.Schedule<unknown, void, E> | undefined
  /**
   * Whether it also looks as soon as it gets a hint that something was recorded, by this or another process. The
   * default is true without a `schedule` and false with one: a worker scheduled for the night should not run by day.
   */
  readonly hints?: boolean | undefined
}

/**
 * A worker that drains for as long as its layer lives. When the layer closes it stops claiming, lets running handlers
 * finish within `SLUICE_GRACE_PERIOD`, and gives the rest back without costing them an attempt.
 *
 * ```ts
 * DrainWorker.layer({ schedule: Schedule.spaced("1 second").pipe(Schedule.jittered) }).pipe(
 *   Layer.provide(Drain.layer),
 *   Layer.provide([registry, DomainEvents.layer]),
 *   Layer.provide(stores),
 *   Layer.provide(Settings.layer()),
 *   Layer.launch,
 *   NodeRuntime.runMain
 * )
 * ```
 */
export class DrainWorker extends Context.Service<DrainWorker, {
  /** The report of this worker so far. */
  readonly report: Effect.Effect<Report>
  /** Makes the worker look for work now. */
  readonly wake: Effect.Effect<void>
  /** Completes when the worker has stopped, because its schedule ended or its layer closed. */
  readonly stopped: Effect.Effect<void>
}>()("effect-sluice/DrainWorker") {}

/**
 * The worker. Fails with the schedule's own error when the schedule is invalid, like a cron expression that does not
 * parse.
 */
export const layer = <E = never>(
  options: Options<E> = {}
): Layer.Layer<DrainWorker, E, Drain | WakeUp | Settings.Settings> => Layer.effect(DrainWorker, make(options))

const make = Effect.fnUntraced(function*<E>(options: Options<E>) {
  const drain = yield* Drain
  const settings = yield* Settings.Settings
  const total = yield* Ref.make(emptyReport)
  const outage = makeOutageLog(drain)
  const idle = yield* makeIdle(options, settings)
  const claimNext = yield* makeClaiming(drain, idle, options.schedule === undefined)

  /** Claims when it is this lane's turn, and runs the claim. The next lane claims meanwhile. */
  const pass = Effect.gen(function*() {
    const claimed = yield* claimNext
    if (claimed === undefined) return
    const report = yield* claimed.run
    yield* Ref.update(total, (sum) => addReports(sum, report))
    yield* outage.over
    // another lane may have found nothing because this one held the older chunks of the ordering keys
    if (!claimed.isEmpty && (!claimed.last || report.released + report.lost > 0)) yield* idle.wake
  }).pipe(
    Effect.scoped,
    Effect.catchCauseIf(
      (cause) => !Cause.hasInterruptsOnly(cause),
      (cause) => Effect.andThen(outage.log(cause), Effect.asVoid(idle.wait))
    )
  )
  const lane = Effect.whileLoop({ while: () => !idle.isStopping(), body: () => pass, step: () => undefined })

  // each lane runs one batch at a time, so `inFlight` batches run at once
  const lanes = yield* Effect.forEach(Array.from({ length: settings.inFlight }), () => Effect.forkScoped(lane))
  const finished = yield* Deferred.make<void>()
  yield* Effect.forkScoped(Effect.andThen(Fiber.awaitAll(lanes), Deferred.succeed(finished, undefined)))
  // a finalizer added after the lanes runs before they are interrupted
  yield* Effect.addFinalizer(() =>
    Effect.andThen(idle.stop, Effect.timeoutOption(Fiber.awaitAll(lanes), settings.gracePeriod))
  )
  return DrainWorker.of({
    report: Ref.get(total),
    wake: Effect.asVoid(idle.wake),
    stopped: Deferred.await(finished)
  })
})

/** The waiting and stopping of a worker. */
interface Idle {
  /** Waits for the next tick of the schedule, for a wake-up, or for the stop. Returns false after a tick. */
  readonly wait: Effect.Effect<boolean>
  readonly wake: Effect.Effect<boolean>
  /** Forgets earlier wake-ups, but not the stop. */
  readonly reset: Effect.Effect<boolean>
  readonly stop: Effect.Effect<unknown>
  readonly isStopping: () => boolean
}

const makeIdle = Effect.fnUntraced(function*<E>(
  options: Options<E>,
  settings: Settings.Values
): Effect.fn.Return<Idle, E, WakeUp | Scope> {
  const woken = yield* Latch.make(false)
  // once it is true, nothing closes the latch any more
  let isStopping = false
  if (options.hints ?? options.schedule === undefined) {
    const hints = yield* (yield* WakeUp).hear("chunks")
    yield* Effect.forkScoped(Stream.runForEach(hints, () => woken.open))
  }
  const schedule: Schedule.Schedule<unknown, void, E> = options.schedule ??
    Schedule.jittered(Schedule.spaced(settings.pollInterval))
  // an invalid schedule fails at its first step: here, before anything is claimed
  const probe = yield* Schedule.toStep(schedule)
  yield* Pull.catchDone(probe(yield* Clock.currentTimeMillis, undefined), () => Effect.void)
  const nextTick = yield* Schedule.toStepWithSleep(schedule)
  const tick = nextTick(undefined).pipe(
    Pull.catchDone(() =>
      Effect.sync(() => {
        isStopping = true
      })
    ),
    Effect.orDie
  )
  return {
    wait: Effect.raceFirst(Effect.as(tick, false), Effect.as(woken.await, true)),
    wake: woken.open,
    reset: Effect.sync(() => !isStopping && woken.closeUnsafe()),
    stop: Effect.suspend(() => {
      isStopping = true
      return woken.open
    }),
    isStopping: () => isStopping
  }
})

/**
 * The next claim of a worker, shared by its lanes. One lane at a time looks for work: it waits while nothing is due,
 * claims, and only then lets the next lane look. So an idle worker queries the database once, not once per lane.
 * Undefined when the worker is to stop.
 */
const makeClaiming = Effect.fnUntraced(function*(drain: Drain["Service"], idle: Idle, polls: boolean) {
  const turn = yield* Semaphore.make(1)
  // whether the last claim took everything that was due: then the next waits for a tick or a wake-up
  let drained = false
  let hasty = false
  const claim = Effect.gen(function*() {
    // After a wake-up a hasty claim is enough. After a tick the claim searches everything; the poll interval is short.
    if (drained) hasty = (yield* idle.wait) && polls
    if (idle.isStopping()) return undefined
    drained = false
    // before the claim: a wake-up that comes during the claim is not lost
    yield* idle.reset
    const claimed = yield* drain.claim({ hasty, mayRunLater: true })
    drained = claimed.last || claimed.isEmpty
    return claimed
  })
  return turn.withPermits(1)(claim)
})

/**
 * Logs an outage of the database once when it begins and once when it ends. During it, all transient errors count as
 * the same outage.
 */
const makeOutageLog = (drain: Drain["Service"]) => {
  let trouble: ChunkStoreError | undefined
  const isKnown = (error: ChunkStoreError) =>
    trouble !== undefined && (trouble.message === error.message || (trouble.transient && error.transient))
  return {
    log: (cause: Cause.Cause<ChunkStoreError>) => {
      const error = Cause.squash(cause)
      if (!(error instanceof ChunkStoreError)) {
        return Effect.logError(`a drain cycle failed; the worker continues:${causeForLog(cause)}`)
      }
      const known = isKnown(error)
      trouble = error
      if (known) return Effect.logDebug(`a drain cycle failed again:${causeForLog(cause)}`)
      return error.transient
        ? Effect.logWarning(`the database does not answer; trying again until it does: ${error.message}`)
        : Effect.logError(`a drain cycle failed; the worker continues: ${error.message}`)
    },
    over: Effect.flatMap(drain.health, ({ trouble: left }) => {
      if (trouble === undefined || left !== undefined) return Effect.void
      trouble = undefined
      return Effect.logInfo("the database answers again")
    })
  }
}
