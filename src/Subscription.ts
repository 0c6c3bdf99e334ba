/**
 * Durable subscriptions to what was created: for work that must happen, such as attaching media or telling a billing
 * system, where `DomainEvents` is only a quick hint.
 *
 * What a subscription keeps:
 *
 * - **At least once.** Every domain object's event reaches the handler, over crashes and redeployments: what was
 *   committed before a crash is read from the ledger after it. An event comes again when a process dies between handling
 *   it and moving on, so a handler does its work by the event's key, and only if it is not done yet.
 * - **In order.** Events come one after another, in the order in which their commits became visible. None is skipped
 *   because a transaction with a lower number committed later.
 *   In Postgres what is younger than the oldest transaction still writing, in any database of the server, is not
 *   read yet: one left open for an hour delays events by an hour.
 * - **One at a time.** Of all processes that run a subscription one reads, under a lease; when it dies, another goes on.
 *   A reader that froze beyond its lease may still be within one handler run when the next begins.
 * - **Its own troubles only.** An event whose handler fails is tried again, by the subscription's own schedule and for
 *   ever, and holds up what stands behind it in this subscription, nothing else. `EventLog.list` shows it.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import type { StoreError } from "./ChunkStore.ts"
import type { DomainObjectCreated } from "./DomainObject.ts"
import { EventLog, type From, type LogEntry, type Taken } from "./EventLog.ts"
import { causeForLog, describeCause } from "./internal/describe.ts"
import { quote } from "./internal/quote.ts"
import * as RetryPolicy from "./RetryPolicy.ts"
import * as Settings from "./Settings.ts"
import { WakeUp } from "./WakeUp.ts"

/** A subscription cannot be made like this. */
export class SubscriptionInvalid extends Schema.TaggedError<SubscriptionInvalid>()("SubscriptionInvalid", {
  name: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `subscription ${quote(this.name)} cannot be made: ${this.reason}`
  }
}

/** Handles one event, or the events of a batch together. */
export type Handler<E = unknown, R = never> =
  | ((event: DomainObjectCreated) => Effect.Effect<unknown, E, R>)
  | { readonly handleMany: (events: ReadonlyArray<DomainObjectCreated>) => Effect.Effect<unknown, E, R> }

/** How a subscription is run. */
export interface Options {
  /** Where it begins when it is new: with all there ever was (the default), or with what is created from now on. */
  readonly from?: From
  /** Only the events it holds for are handled. Default: all. */
  readonly filter?: (event: DomainObjectCreated) => boolean
  /**
   * How many lines of the ledger are read at once, one for each persisted chunk: also the most whose events may come
   * again after a crash. Default `SLUICE_BATCH_SIZE`.
   */
  readonly batchSize?: number
  /** When a failed event is tried again. Default {@link RetryPolicy.standard}: from 2 seconds to 15 minutes. */
  readonly retry?: RetryPolicy.RetrySchedule
  /** How long after its reader's last sign the subscription is another's. Default `SLUICE_LEASE`. */
  readonly lease?: Duration.Input
  /** How often it looks without having been woken. Default `SLUICE_POLL_INTERVAL`. */
  readonly pollInterval?: Duration.Input
}

/**
 * A subscription that is run for as long as the layer lives. When it closes, the running handler may finish within
 * `SLUICE_GRACE_PERIOD`; the rest is left for the next reader.
 *
 * ```ts
 * Subscription.layer("chatlab.media", (event) => media.attach(event.object.id), {
 *   filter: DomainEvents.from(PatientReply)
 * })
 * ```
 */
export const layer = <E, R>(
  name: string,
  handler: Handler<E, R>,
  options: Options = {}
): Layer.Layer<
  never,
  SubscriptionInvalid | Settings.SettingInvalid | StoreError,
  Exclude<R, Scope> | EventLog | WakeUp
> => Layer.effectDiscard(make(name, handler, options))

/** The same, run for as long as the scope is open. When this effect is done, the subscription has its place. */
export const make: <E, R>(
  name: string,
  handler: Handler<E, R>,
  options?: Options
) => Effect.Effect<
  void,
  SubscriptionInvalid | Settings.SettingInvalid | StoreError,
  R | EventLog | WakeUp | Scope
> = Effect.fnUntraced(function*<E, R>(name: string, handler: Handler<E, R>, options: Options = {}) {
  const log = yield* EventLog
  const settings = yield* Settings.load
  const invalid = (reason: string) => new SubscriptionInvalid({ name, reason })
  if (!/^[^\p{Cc}]{1,200}$/u.test(name)) return yield* invalid("a name is 1 to 200 characters, none of them a control")
  const limit = options.batchSize ?? settings.batchSize
  if (!Number.isInteger(limit) || limit < 1) return yield* invalid(`${limit} is no batch size`)
  const lease = Duration.fromInputUnsafe(options.lease ?? settings.lease)
  const pollInterval = Duration.fromInputUnsafe(options.pollInterval ?? settings.pollInterval)

  yield* log.open(name, options.from ?? "beginning")
  const stopping = yield* Latch.make(false)
  let stopped = false
  const heard = yield* Latch.make(false)
  const hints = yield* (yield* WakeUp).hear("events")
  yield* Effect.forkScoped(Stream.runForEach(hints, () => heard.open))

  /** Hands over a batch; `moved` is told of every entry that is behind it. */
  const handle = Effect.fnUntraced(function*(taken: Taken, moved: (entry: LogEntry) => void) {
    const { filter = () => true } = options
    // after a failure one by one, so that a batch gets to the culprit and stops there
    const entries = taken.attempts > 0 ? taken.entries.slice(0, 1) : taken.entries
    if (typeof handler === "object") {
      const events = entries.flatMap((entry) => entry.events.filter(filter))
      if (events.length > 0) yield* handler.handleMany(events)
      return moved(entries.at(-1)!)
    }
    for (const entry of entries) {
      if (stopped) return
      for (const event of entry.events) if (filter(event)) yield* handler(event)
      moved(entry)
    }
  }, Effect.withSpan("Subscription.handle", { attributes: { "sluice.subscription": name } }))

  /** Handles what was taken and moves on. Gives back how long to wait, after a failure. */
  const work = Effect.fnUntraced(function*(taken: Taken, restore: <A, E, R>(e: Effect.Effect<A, E, R>) => typeof e) {
    let place = taken.place
    const advance = Effect.suspend(() => log.advance(name, taken.token, place, lease))
    // ends, and the handler with it, when the lease is lost: another reader is at it
    const keepAlive = advance.pipe(
      Effect.catchTag("StoreError", (error) => Effect.logWarning(`${name}: lease not renewed: ${error.message}`)),
      Effect.delay(Duration.times(lease, 1 / 3)),
      Effect.forever,
      Effect.catchTag("LeaseLost", () => Effect.succeed("lost" as const))
    )
    const handling = handle(taken, (entry) => {
      place = entry.place
    })
    const exit = yield* Effect.exit(restore(Effect.raceFirst(handling, keepAlive)))
    if (Exit.isSuccess(exit) && exit.value === "lost") {
      yield* Effect.logWarning(`subscription ${name} is another reader's: this one's lease ran out`)
      return Duration.zero
    }
    // a handler that interrupts itself has failed; an interruption from outside is seen here again
    const interrupted = Exit.isFailure(yield* Effect.exit(restore(Effect.yieldNow)))
    let failure: { readonly message: string; readonly delay: Duration.Duration } | undefined
    if (Exit.isFailure(exit) && !interrupted) {
      const attempts = place === taken.place ? taken.attempts + 1 : 1
      failure = {
        message: describeCause(exit.cause),
        delay: yield* RetryPolicy.delayAfter(options.retry ?? RetryPolicy.standard, attempts)
      }
      yield* Effect.logWarning(`subscription ${name} failed, attempt ${attempts}:${causeForLog(exit.cause)}`)
    }
    const giveBack = Effect.andThen(
      place === taken.place ? Effect.void : advance,
      log.release(name, taken.token, failure)
    )
    yield* Effect.retry(giveBack, {
      while: (error) => error._tag === "StoreError" && error.transient,
      schedule: patience
    })
    return failure?.delay
  })

  /** One look: what is there is taken and handled. Gives back what to wait for. */
  const look = Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
    const taken = yield* restore(log.take(name, { limit, lease }))
    if (Option.isNone(taken)) return { _tag: "Nothing" } as const
    const delay = yield* work(taken.value, restore)
    return delay === undefined ? { _tag: "More" } as const : { _tag: "Failed", delay } as const
  })).pipe(
    Effect.catchCauseIf((cause) => !Cause.hasInterruptsOnly(cause), (cause) =>
      Effect.as(
        Effect.logWarning(`subscription ${name} could not look; going on:${causeForLog(cause)}`),
        { _tag: "Nothing" } as const
      ))
  )

  // What a hint told of may not be readable yet, because an older transaction is still running: so it is looked for
  // again and again, at growing gaps.
  let gap = firstGap
  const loop = Effect.gen(function*() {
    while (!stopped) {
      // closed before looking: a hint that comes meanwhile is not lost
      yield* heard.close
      const found = yield* look
      if (found._tag === "More") {
        gap = firstGap
        continue
      }
      if (found._tag === "Failed") {
        yield* Effect.raceFirst(Effect.sleep(found.delay), stopping.await)
        continue
      }
      const hint = Effect.as(heard.await, true)
      const time = Effect.as(Effect.raceFirst(Effect.sleep(gap), stopping.await), false)
      gap = (yield* Effect.raceFirst(hint, time)) ? firstGap : Duration.min(Duration.times(gap, 2), pollInterval)
    }
  })

  const fiber = yield* Effect.forkScoped(loop)
  // runs before the loop is interrupted, because it was added after it
  yield* Effect.addFinalizer(() =>
    Effect.gen(function*() {
      stopped = true
      yield* stopping.open
      yield* Effect.timeoutOption(Fiber.await(fiber), settings.gracePeriod)
    })
  )
})

const firstGap = Duration.millis(50)

// for moving on when the database is away for a moment; when this is not enough the events come again
const patience = Schedule.exponential("100 millis").pipe(Schedule.upTo({ times: 5 }))
