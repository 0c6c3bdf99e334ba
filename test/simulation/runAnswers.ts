/**
 * Runs simulations of answers for the command.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { answerMutants } from "./answerMutants.ts"
import { simulateAnswers } from "./answers.ts"
import { answerViolations } from "./checkAnswers.ts"
import { seedsOf } from "./seeds.ts"

/** Runs so many of them, or one again. */
export const runAnswers = Effect.fnUntraced(function*({ enough, from, mutant, seed, seeds }: {
  readonly enough: Option.Option<number>
  readonly mutant: Option.Option<string>
  readonly seed: Option.Option<number>
  readonly seeds: number
  readonly from: number
}) {
  const bug = Option.getOrUndefined(mutant)
  if (bug !== undefined && answerMutants[bug] === undefined) {
    return yield* Effect.die(new Error(`no such mutant. There are: ${Object.keys(answerMutants).join("; ")}`))
  }
  const one = (seed: number) => simulateAnswers(seed, bug === undefined ? undefined : answerMutants[bug])
  if (Option.isSome(seed)) {
    const found = one(seed.value)
    yield* Console.dir(found, { depth: 8 })
    return yield* Console.log(answerViolations(found))
  }
  const most = Option.getOrElse(enough, () => seeds)
  let run = 0
  let calls = 0
  let answers = 0
  let bad = 0
  for (const seed of seedsOf(bug, seeds, from)) {
    if (bad >= most) break
    run++
    const found = one(seed)
    calls += found.calls.length
    answers += found.paid.length
    const wrong = answerViolations(found)
    if (wrong.length === 0) continue
    bad++
    yield* Console.log(`seed ${seed}:`, wrong.slice(0, 4))
  }
  yield* Console.log(`${run} seeds, ${calls} calls, ${answers} answers paid for, ${bad} seeds with violations`)
  if (bad > 0) process.exitCode = 1
})
