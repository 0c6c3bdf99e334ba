/**
 * Runs handlers under a time limit, one run at a time. Only time in which the process itself was running counts: a
 * frozen process says nothing about its handlers. A run that does not end when it is interrupted is abandoned.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Scope } from "effect/Scope"

/** How many milliseconds a run may take to end after it was interrupted. */
const longestInterrupt = 1000
/** The longest time between two checks of the clock, in milliseconds. */
const longestTick = 1000
/** A sleep that takes more than this many times its length means that the process was frozen. */
const late = 1.25

/** How a run ended. */
export type Ended<A, E> =
  | { readonly _tag: "Ended"; readonly exit: Exit.Exit<A, E> }
  | { readonly _tag: "TimedOut" }
  /** It could not be interrupted, and continues. `ended` completes when it ends, which may be never. */
  | { readonly _tag: "Hangs"; readonly ended: Effect.Effect<unknown> }

/** Runs effects under a time limit. */
export interface Supervisor {
  /**
   * Runs an effect, one at a time. When it is interrupted, it interrupts the run, and calls `onHang` if the run
   * continues.
   */
  readonly run: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    onHang: (ended: Effect.Effect<unknown>) => Effect.Effect<void>
  ) => Effect.Effect<Ended<A, E>, never, R>
}

interface Current {
  /** Milliseconds. */
  millisLeft: number
  since: bigint
  isLate: boolean
  readonly interrupt: () => void
  readonly giveUp: () => void
}

/** Makes a supervisor, for as long as the scope is open. */
export const make = Effect.fnUntraced(function*(limit: Duration.Duration): Effect.fn.Return<Supervisor, never, Scope> {
  const clock = yield* Clock.Clock
  const millis = Duration.toMillis(limit)
  const tick = Math.min(longestTick, millis / 4)
  let current: Current | undefined

  const look = (slept: number) => {
    if (current === undefined) return
    const now = clock.monotonicTimeNanosUnsafe()
    current.millisLeft -= Math.min(Number(now - current.since) / 1e6, slept * late)
    current.since = now
    // timers round their delays
    if (current.millisLeft > 0.5) return
    if (current.isLate) {
      current.giveUp()
    } else {
      current.isLate = true
      current.millisLeft = longestInterrupt
      current.interrupt()
    }
  }
  yield* Effect.suspend(() => {
    const next = Math.max(1, Math.min(tick, current?.millisLeft ?? tick))
    return Effect.andThen(Effect.sleep(next), Effect.sync(() => look(next)))
  }).pipe(Effect.forever, Effect.forkScoped)

  const run: Supervisor["run"] = (effect, onHang) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        Effect.forkDetach(Effect.interruptible(effect), { startImmediately: true }),
        (fiber) => {
          type Result = Ended<Effect.Success<typeof effect>, Effect.Error<typeof effect>>
          const soon = fiber.pollUnsafe()
          if (soon !== undefined) return Effect.succeed<Result>({ _tag: "Ended", exit: soon })
          const waiting = Effect.callback<Result>((resume) => {
            const mine: Current = current = {
              millisLeft: millis,
              since: clock.monotonicTimeNanosUnsafe(),
              isLate: false,
              interrupt: () => fiber.interruptUnsafe(),
              giveUp: () => resume(Effect.succeed({ _tag: "Hangs", ended: Fiber.await(fiber) }))
            }
            fiber.addObserver((exit) =>
              resume(Effect.succeed<Result>(mine.isLate ? { _tag: "TimedOut" } : { _tag: "Ended", exit }))
            )
          })
          const stopped = Effect.flatMap(
            Effect.timeoutOption(Effect.interruptible(Fiber.interrupt(fiber)), longestInterrupt),
            (ended) => ended._tag === "None" ? onHang(Fiber.await(fiber)) : Effect.void
          )
          return restore(waiting).pipe(
            Effect.onInterrupt(() => stopped),
            Effect.ensuring(Effect.sync(() => {
              current = undefined
            }))
          )
        }
      )
    )
  return { run }
})
