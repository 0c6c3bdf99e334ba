/**
 * Turns and time of a simulation. Nothing in it waits for the machine: a fiber's turn comes when the dice say so, and when
 * nobody has anything to do, time goes on to the next sleep's end. So a seed gives the same picture on every machine,
 * and hours pass in milliseconds. (`TestClock` waits for the event loop to become idle after every sleep, which took
 * three quarters of a simulation's time.)
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { Scheduler } from "effect/Scheduler"
import { dice } from "../support/dice.ts"

interface Sleeper {
  readonly until: number
  readonly wake: () => void
}

/** Far more turns than any simulation takes that comes to an end. */
const mostTurns = 100_000

/** The most steps a fiber takes before another one may have its turn. */
const longestTurn = 400

/** Runs a program to its end, in a world of its own. */
export const runInWorld = <A>(seed: number, program: Effect.Effect<A>): A => {
  // dice of the world's own: those of the plan must not fall otherwise because a fiber took one turn more
  const roll = dice(seed)
  let now = 0
  const ready: Array<() => void> = []
  const sleepers = new Set<Sleeper>()

  let turn = roll(longestTurn)
  const scheduler: Scheduler = {
    executionMode: "async",
    shouldYield: (fiber: Fiber.Fiber<unknown, unknown>) => {
      if (fiber.currentOpCount < turn) return false
      turn = 1 + roll(longestTurn)
      return true
    },
    makeDispatcher: () => ({
      scheduleTask: (task) => ready.push(task),
      flush: () => undefined
    })
  }
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => now,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanosUnsafe: () => BigInt(now) * 1_000_000n,
    currentTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
    monotonicTimeNanosUnsafe: () => BigInt(now) * 1_000_000n,
    monotonicTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
    sleep: (duration) =>
      Effect.callback<void>((resume) => {
        const sleeper = { until: now + Math.ceil(Duration.toMillis(duration)), wake: () => resume(Effect.void) }
        sleepers.add(sleeper)
        return Effect.sync(() => {
          sleepers.delete(sleeper)
        })
      })
  }

  const fiber = Effect.runFork(Effect.provideService(program, Clock.Clock, clock), { scheduler })
  for (let turns = 0; turns < mostTurns; turns++) {
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) {
      if (Exit.isSuccess(exit)) return exit.value
      throw new Error(Cause.pretty(exit.cause))
    }
    const next = ready.length > 0 ? take(ready, roll(ready.length)) : wakeNext()
    next()
  }
  throw new Error("it goes on for ever")

  function wakeNext(): () => void {
    let first: Sleeper | undefined
    for (const sleeper of sleepers) if (first === undefined || sleeper.until < first.until) first = sleeper
    if (first === undefined) throw new Error("everybody waits for somebody else")
    sleepers.delete(first)
    now = Math.max(now, first.until)
    return first.wake
  }
}

const take = <A>(list: Array<A>, index: number): A => {
  const taken = list[index]!
  list[index] = list.at(-1)!
  list.pop()
  return taken
}
