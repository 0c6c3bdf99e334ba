/**
 * A worker's beat: from its first cycle on, for as long as the drain's layer lives, whether a handler takes an hour or a
 * schedule sleeps for a day. A drain that is only asked to `persistNow` has none: other workers must not leave chunks to
 * one that never looks for them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { type Beat, ChunkStore, mostUnparked, type Served, type StoreError } from "../ChunkStore.ts"
import { WakeUp } from "../WakeUp.ts"
import type { Pulse } from "./pulse.ts"

/** Whose beat it is. */
export interface Options {
  readonly worker: string
  /** What it will really take, and nothing else: others leave it alone. */
  readonly serves: () => ReadonlyArray<Served>
  /** Zero: at every cycle, and not by itself. */
  readonly interval: Duration.Duration
  /** Told of each beat. */
  readonly pulse: Pulse
}

/** How long a closing layer waits for a beat under way. */
const patience = Duration.seconds(1)

/** The beat of a worker. `start` belongs before each claim; `last` is what the latest beat told. */
export const make = Effect.fnUntraced(function*({ interval, pulse, serves, worker }: Options) {
  const store = yield* ChunkStore
  const wakeUp = yield* WakeUp
  const asked = yield* Latch.make(false)
  let last: Beat = { unparked: 0, elsewhere: [], paused: [] }
  const beat = Effect.flatMap(Effect.suspend(() => store.beat(worker, serves())), (told) => {
    pulse.beat(undefined)
    last = told
    if (told.unparked === 0) return Effect.void
    // only now: whoever looks would park again what this worker still takes for paused
    const hint = wakeUp.hint("chunks")
    // a million that waited for a new handler would else go on for a quarter of an hour
    return told.unparked < mostUnparked ? hint : Effect.andThen(hint, asked.open)
  })
  const byCycle = { start: beat, last: () => last }
  if (Duration.isZero(interval)) return byCycle

  const started = yield* Latch.make(false)
  const pauses = yield* wakeUp.hear("pauses")
  yield* Effect.forkScoped(Stream.runForEach(pauses, () => asked.open))

  // an outage is told of by the drain's cycles; what will not pass by itself, by the first beat that meets it
  let told = false
  const complain = (error: StoreError) => {
    if (error.transient || told) return Effect.logDebug("no sign of life was written", error)
    told = true
    return Effect.logWarning(`this worker can give no sign of life, and counts as gone: ${error.message}`)
  }
  const beating = started.await.pipe(
    Effect.andThen(Effect.forever(Effect.gen(function*() {
      yield* Effect.raceFirst(Effect.sleep(interval), asked.await)
      yield* asked.close
      yield* Effect.matchEffect(beat, {
        onSuccess: () => {
          told = false
          return Effect.void
        },
        onFailure: (error) => {
          pulse.beat(error)
          return complain(error)
        }
      })
    })))
  )
  // a connection that hangs must not keep the program from ending
  yield* Effect.acquireRelease(
    Effect.forkDetach(beating),
    (fiber) => Effect.timeoutOption(Fiber.interrupt(fiber), patience)
  )

  // the first cycle claims only once it knows what is paused, and others know what it takes
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
