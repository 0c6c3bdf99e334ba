/**
 * Waiting for what other fibers, processes and servers do. What is awaited must last until the test goes on: a state that
 * passes may be over before anybody looks. Who waits in vain is told for what, and what was seen last.
 */
import * as Effect from "effect/Effect"
import { setTimeout } from "node:timers/promises"
import { inspect } from "node:util"
import { TestRunner } from "vitest"

const pauseMillis = 20
/** Of the time of a test, what is left for the report. */
const reserveMillis = 2_000
/** In a hook, whose time limit is not known. */
const hookMillis = 100_000

/** When the test that runs is almost over its time limit. */
const deadline = (): number => {
  const test = TestRunner.getCurrentTest()
  return test?.result?.startTime === undefined
    ? Date.now() + hookMillis
    : test.result.startTime + test.timeout - reserveMillis
}

const seconds = (millis: number): string => `${Math.round(millis / 1000)} s`

class Vain extends Error {
  constructor(began: number, condition: unknown, last: unknown) {
    super(
      `waited ${seconds(Date.now() - began)} in vain until ${String(condition)}; the last answer was ${
        inspect(last, { depth: 6, breakLength: 120, maxStringLength: 4000 })
      }`
    )
    this.name = "WaitedInVain"
  }
}

/** Asks until the answer is as awaited, and returns it. */
export const until = async <A>(
  ask: () => Promise<A> | A,
  is: (answer: A) => boolean = Boolean
): Promise<A> => {
  const [began, end] = [Date.now(), deadline()]
  while (true) {
    const answer = await ask()
    if (is(answer)) return answer
    if (Date.now() > end) throw new Vain(began, is === Boolean ? ask : is, answer)
    await setTimeout(pauseMillis)
  }
}

/** Real time, also under a `TestClock`. */
const wallClock = (): number => Date.now()

/** {@link until}, of an effect. The pauses are real ones, also under a `TestClock`. */
export const untilIt = <A, E, R>(ask: Effect.Effect<A, E, R>, is: (answer: A) => boolean): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const [began, end] = [wallClock(), deadline()]
    const pause = Effect.promise((signal) => setTimeout(pauseMillis, undefined, { signal }).catch(() => undefined))
    const look: Effect.Effect<A, E, R> = Effect.flatMap(ask, (answer) => {
      if (is(answer)) return Effect.succeed(answer)
      return wallClock() > end ? Effect.die(new Vain(began, is, answer)) : Effect.andThen(pause, look)
    })
    return look
  })
