/**
 * Sends a worker's heartbeat. It begins with the first cycle and lasts as long as the drain's layer, even while a
 * handler takes an hour or a schedule sleeps for a day. A drain that is only used for `persistNow` sends none: other
 * workers leave chunks to a worker that sends heartbeats, and this one never claims them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { type Beat, ChunkStore, type ChunkStoreError, mostUnparked } from "../ChunkStore.ts"
import type { Served } from "../Kind.ts"
import { WakeUp } from "../WakeUp.ts"
import type { InsideUses } from "./insideUse.ts"
import type { Pulse } from "./pulse.ts"
import type { Unfit } from "./unfit.ts"

/** The options of a heartbeat. */
export interface Options {
  readonly worker: string
  /** What it will claim, as far as its handlers can run: other workers leave that to it. */
  readonly serves: ReadonlyArray<Served>
  readonly unfit: Unfit
  readonly uses: InsideUses
  /** Zero: it beats at every cycle, and not by itself. */
  readonly interval: Duration.Duration
  /** Records each beat. */
  readonly pulse: Pulse
}

/** How long a closing layer waits for a running beat. */
const longestClose = Duration.seconds(1)

/** The heartbeat of a worker. Run `start` before each claim; `last` returns the result of the latest beat. */
export const make = Effect.fnUntraced(function*({ interval, pulse, serves, unfit, uses, worker }: Options) {
  const store = yield* ChunkStore
  const wakeUp = yield* WakeUp
  const requested = yield* Latch.make(false)
  let last: Beat = { unparked: 0, elsewhere: [], paused: [] }
  const tell = Effect.suspend(() => {
    const served = serves.filter(({ namespace, schemaIdentity }) =>
      unfit.registry.find(namespace, schemaIdentity) !== undefined
    )
    return store.beat(worker, served, uses.list(unfit.table))
  })
  const beat = Effect.flatMap(Effect.andThen(unfit.lookAgain, tell), (answer) => {
    pulse.beat(undefined)
    last = answer
    if (answer.unparked === 0) return Effect.void
    // only after `last` is set: an earlier claim would park the chunks again because the kind still counts as paused
    const hint = wakeUp.hint("chunks")
    // more are parked: at the usual interval a million chunks would take a quarter of an hour
    return answer.unparked < mostUnparked ? hint : Effect.andThen(hint, requested.open)
  })
  const byCycle = { start: beat, last: () => last }
  if (Duration.isZero(interval)) return byCycle

  const started = yield* Latch.make(false)
  const pauses = yield* wakeUp.hear("pauses")
  yield* Effect.forkScoped(Stream.runForEach(pauses, () => requested.open))

  // the drain's cycles log an outage; other errors are logged here, once
  let warned = false
  const warnOnce = (error: ChunkStoreError) => {
    if (error.transient || warned) return Effect.logDebug("the heartbeat was not written", error)
    warned = true
    return Effect.logWarning(`this worker cannot write its heartbeat, and counts as gone: ${error.message}`)
  }
  const beating = started.await.pipe(
    Effect.andThen(Effect.forever(Effect.gen(function*() {
      yield* Effect.raceFirst(Effect.sleep(interval), requested.await)
      yield* requested.close
      yield* Effect.matchEffect(beat, {
        onSuccess: () => {
          warned = false
          return Effect.void
        },
        onFailure: (error) => {
          pulse.beat(error)
          return warnOnce(error)
        }
      })
    })))
  )
  // a connection that hangs must not block the end of the program
  yield* Effect.acquireRelease(
    Effect.forkDetach(beating),
    (fiber) => Effect.timeoutOption(Fiber.interrupt(fiber), longestClose)
  )

  // the first claim waits for the first beat: then this worker knows the paused kinds, and others know its kinds
  const one = yield* Semaphore.make(1)
  let isBeating = false
  const start = Effect.suspend(() =>
    isBeating ? Effect.void : one.withPermits(1)(Effect.gen(function*() {
      if (isBeating) return
      yield* beat
      isBeating = true
      yield* started.open
    }))
  )
  return { ...byCycle, start }
})
