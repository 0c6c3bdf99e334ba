/**
 * Runs simulations, or one again:
 *
 *     npm run simulate -- --seeds 5000
 *     npm run simulate -- --seeds 5000 --from 5001
 *     npm run simulate -- --seed 4711
 *     npm run simulate -- --mutant "a claim ignores ordering keys" --enough 5
 *     npm run simulate -- --renew                       the seeds that find the planted bugs
 *     npm run simulate -- --answers                     what is paid for, instead of what is drained
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { plant, planted } from "./planted.ts"
import { seedsOf } from "./seeds.ts"

const flags = {
  answers: Flag.Boolean("answers").pipe(Flag.withDescription("what is paid for"), Flag.withDefault(false)),
  seed: Flag.Int("seed").pipe(Flag.withDescription("run just this one, and tell all"), Flag.optional),
  seeds: Flag.Int("seeds").pipe(Flag.withDescription("how many to run"), Flag.withDefault(2000)),
  from: Flag.Int("from").pipe(Flag.withDescription("the first of them"), Flag.withDefault(1)),
  programs: Flag.Boolean("programs").pipe(Flag.withDescription("without declared handlers"), Flag.withDefault(false)),
  mutant: Flag.String("mutant").pipe(Flag.withDescription("with this bug planted"), Flag.optional),
  renew: Flag.Boolean("renew").pipe(
    Flag.withDescription("search for seeds that find each planted bug, and write them to knownSeeds.ts"),
    Flag.withDefault(false)
  ),
  enough: Flag.Int("enough").pipe(Flag.withDescription("end after so many seeds with violations"), Flag.optional)
}

Command.make(
  "simulate",
  flags,
  ({ answers, enough, from, mutant, programs, renew, seed, seeds }) =>
    Effect.gen(function*() {
      if (renew) {
        const { renewSeeds } = yield* Effect.promise(() => import("./renewSeeds.ts"))
        return yield* renewSeeds
      }
      if (answers) {
        const { runAnswers } = yield* Effect.promise(() => import("./runAnswers.ts"))
        return yield* runAnswers({ enough, from, mutant, seed, seeds })
      }
      const bug = Option.getOrElse(mutant, () => "")
      if (planted[bug] !== undefined) plant(planted[bug])
      // not before the bug is planted
      const { judge, simulate } = yield* Effect.promise(() => import("./simulate.ts"))
      const { logMutants, mutants } = yield* Effect.promise(() => import("./mutants.ts"))
      const { insideMutants, insideRules } = yield* Effect.promise(() => import("./insideMutants.ts"))
      const known = [mutants, logMutants, insideMutants, insideRules, planted].flatMap(Object.keys)
      if (bug !== "" && !known.includes(bug)) {
        return yield* Effect.die(new Error(`no such mutant. There are: ${known.join("; ")}`))
      }
      const isOfPrograms = [mutants[bug], logMutants[bug], planted[bug]].some((one) => one !== undefined)
      const options = {
        world: programs || isOfPrograms && planted[bug]?.world !== "mixed" ? "programs" : "mixed",
        mutant: mutants[bug] ?? insideMutants[bug],
        logMutant: logMutants[bug],
        rules: insideRules[bug]
      } as const
      if (Option.isSome(seed)) {
        yield* Console.dir(simulate(seed.value, options), { depth: 8 })
        yield* Console.log(judge(seed.value, options).wrong)
        return
      }
      const began = performance.now()
      const happened = new Map<string, number>()
      const most = Option.getOrElse(enough, () => seeds)
      let run = 0
      let chunks = 0
      let bad = 0
      for (const seed of seedsOf(bug, seeds, from)) {
        if (bad >= most) break
        run++
        const { picture, wrong } = judge(seed, options)
        chunks += picture?.calls.reduce((sum, call) => sum + call.chunks.length, 0) ?? 0
        for (const [what, count] of picture?.happened ?? []) happened.set(what, (happened.get(what) ?? 0) + count)
        if (wrong.length === 0) continue
        bad++
        yield* Console.log(`seed ${seed}:`, wrong.slice(0, 4))
      }
      const each = `${Math.round(run / (performance.now() - began) * 1000)} a second`
      yield* Console.log(`${run} seeds (${each}), ${chunks} chunks, ${bad} seeds with violations`)
      yield* Console.log(Object.fromEntries([...happened].sort()))
      if (bad > 0) process.exitCode = 1
    })
).pipe(Command.run({ version: "0" }), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
