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
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { StoreError } from "./ChunkStore.ts"
import { addReports, Drain, emptyReport, type Report } from "./Drain.ts"
import { causeForLog } from "./internal/describe.ts"
import * as Settings from "./Settings.ts"
import { WakeUp } from "./WakeUp.ts"

/** How a worker is run. */
export interface WorkerOptions<E = never> {
  /**
   * When an idle worker looks for work: `Schedule.spaced("5 seconds")`, `Schedule.cron("0 3 * * *")`, jittered or
   * not. While it finds some it does not wait. The default is `SLUICE_POLL_INTERVAL`, jittered. When the schedule ends,
   * so does the worker.
   */
  readonly schedule?: Schedule.Schedule<unknown, void, E>
  /**
   * Whether it also looks as soon as it hears that something was recorded, here or by another process. The default is
   * true without a `schedule` and false with one, so that a worker of the night sleeps by day.
   */
  readonly hints?: boolean
}

/**
 * A worker that drains for as long as its layer lives. When the layer closes it stops claiming, lets running handlers
 * finish within `SLUICE_GRACE_PERIOD`, and gives the rest back without costing them an attempt.
 *
 * ```ts
 * DrainWorker.layer({ schedule: Schedule.spaced("1 second").pipe(Schedule.jittered) }).pipe(
 *   Layer.provide(Drain.layer),
 *   Layer.launch,
 *   NodeRuntime.runMain
 * )
 * ```
 */
export class DrainWorker extends Context.Service<DrainWorker, {
  /** What this worker has done so far. */
  readonly report: Effect.Effect<Report>
  /** Makes the worker look for work now. */
  readonly wake: Effect.Effect<void>
  /** Completes when the worker has stopped, because its schedule ended or its layer closed. */
  readonly stopped: Effect.Effect<void>
}>()("effect-sluice/DrainWorker") {
  /** The worker. Fails with the schedule's own error when it is not one, as a cron that does not parse. */
  static readonly layer = <E = never>(
    options: WorkerOptions<E> = {}
  ): Layer.Layer<DrainWorker, E, Drain | WakeUp | Settings.Settings> => Layer.effect(DrainWorker, make(options))
}

const make = Effect.fnUntraced(function*<E>(options: WorkerOptions<E>) {
  const drain = yield* Drain
  const settings = yield* Settings.Settings
  const total = yield* Ref.make(emptyReport)
  const woken = yield* Latch.make(false)
  const stopping = yield* Latch.make(false)
  const finished = yield* Deferred.make<void>()
  let stop = false
  let hasty = false
  // whether the last claim took all that was due: then there is nothing to be asked before something new is told of
  let drained = false
  if (options.hints ?? options.schedule === undefined) {
    const hints = yield* (yield* WakeUp).hear("chunks")
    yield* Effect.forkScoped(Stream.runForEach(hints, () => woken.open))
  }
  const schedule: Schedule.Schedule<unknown, void, E> = options.schedule ??
    Schedule.jittered(Schedule.spaced(settings.pollInterval))
  // one that is wrong says so at its first step: here, before anything is drained
  const probe = yield* Schedule.toStep(schedule)
  yield* Pull.catchDone(probe(yield* Clock.currentTimeMillis, undefined), () => Effect.void)
  const nextTick = yield* Schedule.toStepWithSleep(schedule)

  // Of the worker's lanes one at a time looks for work. As soon as it has found some it hands the baton to the next, so
  // that `inFlight` batches are under way, and an idle worker asks the database once, not once a lane.
  const baton = yield* Semaphore.make(1)

  /** Waits for the next tick or to be woken; says whether it was woken. */
  const idle = Effect.raceFirst(
    nextTick(undefined).pipe(
      Pull.catchDone(() =>
        Effect.sync(() => {
          stop = true
        })
      ),
      Effect.orDie,
      Effect.as(false)
    ),
    Effect.as(Effect.raceFirst(woken.await, stopping.await), true)
  )

  // A trouble is logged once, when it begins and when it is over. In the course of an outage the server says this and that:
  // one error that passes is as good as another.
  let trouble: StoreError | undefined
  const isKnown = (error: StoreError) =>
    trouble !== undefined && (trouble.message === error.message || (trouble.transient && error.transient))
  const complain = (cause: Cause.Cause<StoreError>) => {
    const error = Cause.squash(cause)
    if (!(error instanceof StoreError)) return Effect.logError(`a drain cycle failed; going on:${causeForLog(cause)}`)
    const known = isKnown(error)
    trouble = error
    if (known) return Effect.logDebug(`a drain cycle failed again:${causeForLog(cause)}`)
    return error.transient
      ? Effect.logWarning(`the database does not answer; trying again until it does: ${error.message}`)
      : Effect.logError(`a drain cycle failed; going on: ${error.message}`)
  }
  const recover = Effect.flatMap(drain.health, ({ trouble: left }) => {
    if (trouble === undefined || left !== undefined) return Effect.void
    trouble = undefined
    return Effect.logInfo("the database answers again")
  })

  /** Waits for its turn and for something to do, and claims. Nothing when the worker is to stop. */
  const claim = Effect.gen(function*() {
    // Woken it looks where something is to be expected, after a tick everywhere: the ticks of the poll interval are close.
    if (drained) hasty = (yield* idle) && options.schedule === undefined
    if (stop) return undefined
    drained = false
    // closed before the claim: a wake-up during the claim is not lost
    yield* woken.close
    const claimed = yield* drain.claim({ hasty })
    drained = claimed.last || claimed.chunks.length === 0
    return claimed
  })

  /** One claim, carried out. While it runs the next lane may claim. */
  const pass = Effect.gen(function*() {
    const claimed = yield* baton.withPermits(1)(claim)
    if (claimed === undefined) return
    const report = yield* claimed.run
    yield* Ref.update(total, (sum) => addReports(sum, report))
    yield* recover
    // what this lane had claimed may have kept another, which found nothing and waits, from what is behind it
    if (report.claimed > 0 && (!claimed.last || report.released > 0)) yield* woken.open
  }).pipe(
    Effect.scoped,
    Effect.catchCauseIf(
      (cause) => !Cause.hasInterruptsOnly(cause),
      (cause) => Effect.andThen(complain(cause), Effect.asVoid(idle))
    )
  )
  const lane = Effect.whileLoop({ while: () => !stop, body: () => pass, step: () => undefined })

  const lanes = yield* Effect.forEach(
    Array.from({ length: settings.inFlight }),
    () => Effect.forkScoped(lane)
  )
  yield* Effect.forkScoped(Effect.andThen(Fiber.awaitAll(lanes), Deferred.succeed(finished, undefined)))
  // Runs before the lanes are interrupted, because it was added after them.
  yield* Effect.addFinalizer(() =>
    Effect.gen(function*() {
      stop = true
      yield* stopping.open
      yield* Effect.timeoutOption(Fiber.awaitAll(lanes), settings.gracePeriod)
    })
  )
  return DrainWorker.of({
    report: Ref.get(total),
    wake: Effect.asVoid(woken.open),
    stopped: Deferred.await(finished)
  })
})
