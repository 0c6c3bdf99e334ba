/**
 * Durable subscriptions to created domain objects, or to the ends of calls: for work that must happen, such as attaching
 * media or notifying a billing system, where `DomainEvents` is only a quick hint.
 *
 * What a subscription guarantees:
 *
 * - **At least once.** Every domain object's event reaches the handler, across crashes and redeployments: events
 *   committed before a crash are read from the ledger after it. An event is delivered again when a process dies between
 *   handling it and advancing, so a handler must be idempotent by the event's key.
 * - **In order.** Events are delivered one after another, in the order in which their commits became visible. None is
 *   skipped because a transaction with a lower number committed later.
 *   In Postgres, events younger than the oldest transaction that is still writing, in any database of the server, are
 *   not read yet: a transaction left open for an hour delays events by an hour.
 * - **In another cluster too.** After a restore into another cluster, a switch to a logical replica, pg_upgrade, a
 *   failover or a recovery to a point in time, none is skipped: moved entries are read in their order, before new ones.
 *   Where the new cluster's transaction ids are lower, the log is rebased at the first start or `take` of a program
 *   that owns Sluice's tables. Without that right, and where it is unknown what this cluster persisted before, nothing
 *   is read, the log says why, and a person must run `sluice subscriptions rebase`. Events delivered after the copy was
 *   made are delivered again, and so may be a few of those persisted around the move.
 * - **One reader at a time.** Of all processes that run a subscription one reads, under a lease; when it dies, another
 *   continues. A reader that froze beyond its lease may still be inside one handler run when the next reader begins.
 * - **Failures stay local.** An event whose handler fails is retried on the subscription's own schedule, without limit,
 *   and blocks the later events of this subscription only. `sluice subscriptions` shows it, and can skip it.
 * - **Few repetitions.** When `handleMany` fails with a batch of n entries, halves of it are retried immediately until
 *   the failing entry is alone, and only that one waits for the schedule: an entry before it is delivered at most 2 +
 *   log₂ n times because of it. A batch under which a process died is also halved, by the next reader.
 * - **One end for each call.** It is delivered at least once: see {@link layerCalls}.
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
import { hostname } from "node:os"
import type { CallEnded } from "./CallEnded.ts"
import type { ChunkStoreError } from "./ChunkStore.ts"
import type { DomainObjectCreated } from "./DomainObject.ts"
import { EventLog, type Feed, type From, type LogEntry, type Release, type Taken } from "./EventLog.ts"
import { causeForLog, describeCause } from "./internal/describe.ts"
import { quote } from "./internal/quote.ts"
import * as RetryPolicy from "./RetryPolicy.ts"
import * as Settings from "./Settings.ts"
import { WakeUp } from "./WakeUp.ts"

/** The name or an option of a subscription is invalid. */
export class SubscriptionInvalid extends Schema.TaggedError<SubscriptionInvalid>()("SubscriptionInvalid", {
  name: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `subscription ${quote(this.name)} cannot be made: ${this.reason}`
  }
}

/** Handles one event, or the events of a batch together. */
export type Handler<E = unknown, R = never, Event = DomainObjectCreated> =
  | ((event: Event) => Effect.Effect<unknown, E, R>)
  | { readonly handleMany: (events: ReadonlyArray<Event>) => Effect.Effect<unknown, E, R> }

/** How a subscription is run. */
export interface Options<Event = DomainObjectCreated> {
  /** Where a new subscription begins: at the beginning of the log (the default), or with events from now on. */
  readonly from?: From | undefined
  /** Only events for which it is true are handled. Default: all. */
  readonly filter?: ((event: Event) => boolean) | undefined
  /**
   * How many entries are read at once: ledger rows, one for each persisted chunk, or ends of calls. After a crash the events
   * of as many may be delivered again. Fewer if they exceed `SLUICE_BATCH_BYTES`. Default `SLUICE_BATCH_SIZE`.
   */
  readonly batchSize?: number | undefined
  /** When a failed event is retried. Default {@link RetryPolicy.standard}: from 2 seconds to 15 minutes. */
  readonly retry?: RetryPolicy.RetrySchedule | undefined
  /** How long after the reader's last renewal another reader may take the subscription. Default `SLUICE_LEASE`. */
  readonly lease?: Duration.Input | undefined
  /** How often it polls without a hint. Default `SLUICE_POLL_INTERVAL`. */
  readonly pollInterval?: Duration.Input | undefined
}

/**
 * A subscription that runs for as long as the layer lives. When the layer closes, the running handler may finish within
 * `SLUICE_GRACE_PERIOD`; the rest is left for the next reader.
 *
 * ```ts
 * Subscription.layer("chatlab.media", (event) => attachMedia(event.object.id), {
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
  SubscriptionInvalid | ChunkStoreError,
  Exclude<R, Scope> | EventLog | WakeUp | Settings.Settings
> => Layer.effectDiscard(make(name, handler, options))

/** The same, running for as long as the scope is open. When this effect succeeds, the subscription has its place. */
export const make = <E, R>(
  name: string,
  handler: Handler<E, R>,
  options: Options = {}
): Effect.Effect<
  void,
  SubscriptionInvalid | ChunkStoreError,
  R | EventLog | WakeUp | Settings.Settings | Scope
> => run("objects", (entry) => entry.events, name, handler, options)

/**
 * A subscription to the ends of calls, which runs for as long as the layer lives: for work that needs every chunk of a call
 * to be persisted or dead. It runs like one to created objects, and reads ends in the order in which they became visible.
 *
 * - **Which calls.** Those recorded while a subscription to ends exists. Calls recorded before the first one was opened have
 *   no end. From then on each recording and each settlement costs a little more, until the last such subscription is
 *   removed (`sluice subscriptions remove`).
 * - **When.** When none of the call's chunks is outstanding any more: each is persisted or a dead letter, as the counts say.
 *   The end is written right after the commit that settles the last chunk. If that process dies, the chunks were erased or
 *   the call has no outputs, a beat of a worker writes it.
 * - **Once.** There is one end for each call, whichever workers settle its last chunks and however often they are redriven
 *   later. Like every event it is delivered at least once: the handler must be idempotent by the call id.
 *
 * Retention deletes ends that are as old as payloads to be pruned and that every subscription to ends has read.
 *
 * ```ts
 * Subscription.layerCalls("triage.complete", ({ callId, dead }) =>
 *   dead === 0 ? notifyWard(callId) : askForReview(callId))
 * ```
 */
export const layerCalls = <E, R>(
  name: string,
  handler: Handler<E, R, CallEnded>,
  options: Options<CallEnded> = {}
): Layer.Layer<
  never,
  SubscriptionInvalid | ChunkStoreError,
  Exclude<R, Scope> | EventLog | WakeUp | Settings.Settings
> => Layer.effectDiscard(makeCalls(name, handler, options))

/** The same, running for as long as the scope is open. When this effect succeeds, ends of calls are kept for it. */
export const makeCalls = <E, R>(
  name: string,
  handler: Handler<E, R, CallEnded>,
  options: Options<CallEnded> = {}
): Effect.Effect<
  void,
  SubscriptionInvalid | ChunkStoreError,
  R | EventLog | WakeUp | Settings.Settings | Scope
> => run("calls", ({ ended }) => ended === undefined ? [] : [ended], name, handler, options)

const run = Effect.fnUntraced(function*<E, R, Event>(
  feed: Feed,
  eventsOf: (entry: LogEntry) => ReadonlyArray<Event>,
  name: string,
  handler: Handler<E, R, Event>,
  options: Options<Event>
) {
  const log = yield* EventLog
  const settings = yield* Settings.Settings
  const invalid = (reason: string) => new SubscriptionInvalid({ name, reason })
  if (!/^[^\p{Cc}]{1,200}$/u.test(name)) {
    return yield* invalid("a name has 1 to 200 characters, and no control characters")
  }
  const limit = options.batchSize ?? settings.batchSize
  if (!Number.isInteger(limit) || limit < 1) {
    return yield* invalid(`${limit} is not a batch size: it is a whole number above 0`)
  }
  const lease = Duration.fromInputUnsafe(options.lease ?? settings.lease)
  const pollInterval = Duration.fromInputUnsafe(options.pollInterval ?? settings.pollInterval)
  const reader = `${hostname()}/${process.pid}`

  const opened = yield* log.open(name, options.from ?? "beginning", feed)
  if (opened !== feed) {
    const [present, wanted] = feed === "calls"
      ? ["created objects", "ends of calls"]
      : ["ends of calls", "created objects"]
    return yield* invalid(`one of this name is there, and is told ${present}, not ${wanted}: choose another name`)
  }
  const stopping = yield* Latch.make(false)
  let stopped = false
  const heard = yield* Latch.make(false)
  const hints = yield* (yield* WakeUp).hear("events")
  yield* Effect.forkScoped(Stream.runForEach(hints, () => heard.open))

  /**
   * Passes the taken entries to the handler. `moved` reports how many entries are handled, `handing` how many of the
   * next ones the handler gets together: if it fails, one of those is the cause.
   */
  const handle = Effect.fnUntraced(function*(
    { entries, unreadable }: Taken,
    { handing, moved }: { readonly handing: (count: number) => void; readonly moved: (count: number) => void }
  ) {
    if (unreadable !== undefined) return yield* unreadable
    const { filter = () => true } = options
    if (typeof handler === "object") {
      handing(entries.length)
      const wanted = entries.map((entry) => eventsOf(entry).filter(filter))
      const first = wanted.findIndex((events) => events.length > 0)
      // an entry without events for the handler is not a suspect
      if (first > 0) moved(first)
      if (first >= 0) {
        handing(wanted.findLastIndex((events) => events.length > 0) + 1 - first)
        yield* handler.handleMany(wanted.flat())
      }
      return moved(entries.length)
    }
    for (const [index, entry] of entries.entries()) {
      if (stopped) return
      for (const event of eventsOf(entry)) if (filter(event)) yield* handler(event)
      moved(index + 1)
    }
  }, Effect.withSpan("Subscription.handle", { attributes: { "sluice.subscription": name } }))

  /** Handles the taken entries and advances. Returns how long to wait after a failure, else undefined. */
  const work = Effect.fnUntraced(function*(taken: Taken, restore: <A, E, R>(e: Effect.Effect<A, E, R>) => typeof e) {
    // the number of handled entries, and of those that the handler last got together
    let done = 0
    let handed = 1
    const advance = (suspects: number) =>
      log.advance(name, taken.token, { place: taken.entries[done - 1]?.place ?? taken.place, suspects }, lease)
    // ends when the lease is lost, and interrupts the handler: another reader has taken over
    const keepAlive = Effect.suspend(() => advance(taken.entries.length - done)).pipe(
      Effect.catchTag("ChunkStoreError", (error) => Effect.logWarning(`${name}: lease not renewed: ${error.message}`)),
      Effect.delay(Duration.times(lease, 1 / 3)),
      Effect.forever,
      Effect.catchTag("LeaseLost", () => Effect.succeed("lost" as const))
    )
    const handling = handle(taken, {
      handing: (count) => {
        handed = count
      },
      moved: (count) => {
        done = count
      }
    })
    const exit = yield* Effect.exit(restore(Effect.raceFirst(handling, keepAlive)))
    if (Exit.isSuccess(exit) && exit.value === "lost") {
      yield* Effect.logWarning(`subscription ${name} has another reader now: this reader's lease ran out`)
      return Duration.zero
    }
    // a handler that interrupts itself has failed; only an interruption from outside shows here again
    const interrupted = Exit.isFailure(yield* Effect.exit(restore(Effect.yieldNow)))
    const release = Exit.isFailure(exit) && !interrupted
      ? yield* failed(exit.cause, { suspects: handed, attempts: done === 0 ? taken.attempts + 1 : 1, taken })
      : { suspects: Math.max(0, taken.suspects - done) }
    const giveBack = Effect.andThen(
      done === 0 ? Effect.void : advance(release.suspects),
      log.release(name, taken.token, release)
    )
    yield* Effect.retry(giveBack, {
      while: (error) => error._tag === "ChunkStoreError" && error.transient,
      schedule: retrySchedule
    })
    return release.failure?.delay
  })

  /**
   * How the subscription is given back after a failure. The halves of a batch are retried immediately; an entry that
   * fails alone has to wait.
   */
  const failed = Effect.fnUntraced(function*(cause: Cause.Cause<unknown>, { attempts, suspects, taken }: {
    readonly attempts: number
    readonly suspects: number
    readonly taken: Taken
  }): Effect.fn.Return<Release> {
    const message = describeCause(cause)
    if (suspects > 1) {
      const text = `subscription ${name} failed with ${suspects} entries together; halves of them are tried:${
        causeForLog(cause)
      }`
      yield* taken.suspects === 0 ? Effect.logWarning(text) : Effect.logDebug(text)
      return { suspects, failure: { message, delay: Duration.zero } }
    }
    yield* Effect.logWarning(`subscription ${name} failed, attempt ${attempts}:${causeForLog(cause)}`)
    return {
      suspects,
      failure: { message, delay: yield* RetryPolicy.delayAfter(options.retry ?? RetryPolicy.standard, attempts) }
    }
  })

  // a failure to take entries is logged once, not at each poll
  let trouble = ""
  const couldNotLook = (cause: Cause.Cause<unknown>) => {
    const isKnown = trouble === describeCause(cause)
    trouble = describeCause(cause)
    const text = `subscription ${name} could not look; going on:${causeForLog(cause)}`
    return isKnown ? Effect.logDebug(text) : Effect.logWarning(text)
  }

  /** Takes entries once and handles them. Returns what to wait for. */
  const look = Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
    const taken = yield* restore(log.take(name, { feed, limit, maxBytes: settings.batchBytes, lease, reader }))
    trouble = ""
    if (Option.isNone(taken)) return { _tag: "Nothing" } as const
    const delay = yield* work(taken.value, restore)
    return delay === undefined ? { _tag: "More" } as const : { _tag: "Failed", delay } as const
  })).pipe(
    Effect.catchCauseIf(
      (cause) => !Cause.hasInterruptsOnly(cause),
      (cause) => Effect.as(couldNotLook(cause), { _tag: "Nothing" } as const)
    )
  )

  // The entries behind a hint may not be readable yet, because an older transaction is still running: so it polls again
  // at growing intervals.
  let gap = firstGap
  const loop = Effect.gen(function*() {
    while (!stopped) {
      // closed before the poll: a hint that arrives during it is not lost
      yield* heard.close
      const found = yield* look
      if (found._tag === "More") {
        gap = firstGap
        continue
      }
      if (found._tag === "Failed") {
        // the next half, immediately
        if (Duration.isZero(found.delay)) continue
        yield* Effect.raceFirst(Effect.sleep(found.delay), stopping.await)
        continue
      }
      const hint = Effect.as(heard.await, true)
      const time = Effect.as(Effect.raceFirst(Effect.sleep(gap), stopping.await), false)
      gap = (yield* Effect.raceFirst(hint, time)) ? firstGap : Duration.min(Duration.times(gap, 2), pollInterval)
    }
  })

  const fiber = yield* Effect.forkScoped(loop)
  // added after the loop, so it runs before the loop is interrupted
  yield* Effect.addFinalizer(() =>
    Effect.gen(function*() {
      stopped = true
      yield* stopping.open
      yield* Effect.timeoutOption(Fiber.await(fiber), settings.gracePeriod)
    })
  )
})

const firstGap = Duration.millis(50)

// for advancing during a short outage; when this is not enough, the events are delivered again
const retrySchedule = Schedule.exponential("100 millis").pipe(Schedule.upTo({ times: 5 }))
