/**
 * Runs simulations, or one again:
 *
 *     npm run simulate -- --seeds 5000
 *     npm run simulate -- --seed 4711
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { violations } from "./check.ts"
import { mutants } from "./mutants.ts"
import { simulate } from "./simulate.ts"

const flags = {
  seed: Flag.Int("seed").pipe(Flag.withDescription("run just this one, and tell all"), Flag.optional),
  seeds: Flag.Int("seeds").pipe(Flag.withDescription("how many to run, from seed 1"), Flag.withDefault(2000)),
  mutant: Flag.String("mutant").pipe(Flag.withDescription("with this bug planted"), Flag.optional)
}

Command.make("simulate", flags, ({ mutant, seed, seeds }) =>
  Effect.gen(function*() {
    const planted = Option.getOrUndefined(Option.map(mutant, (name) => mutants[name]))
    if (Option.isSome(seed)) {
      const picture = yield* simulate(seed.value, planted)
      yield* Console.dir(picture, { depth: 8 })
      yield* Console.log(violations(picture))
      return
    }
    const happened = new Map<string, number>()
    let chunks = 0
    let bad = 0
    for (let each = 1; each <= seeds; each++) {
      const picture = yield* simulate(each, planted)
      chunks += picture.calls.reduce((sum, call) => sum + call.chunks.length, 0)
      for (const [what, count] of picture.happened) happened.set(what, (happened.get(what) ?? 0) + count)
      const wrong = violations(picture)
      if (wrong.length === 0) continue
      bad++
      yield* Console.log(`seed ${each}:`, wrong.slice(0, 4))
    }
    yield* Console.log(`${seeds} seeds, ${chunks} chunks, ${bad} seeds with violations`, Object.fromEntries(happened))
    if (bad > 0) process.exitCode = 1
  })).pipe(Command.run({ version: "0" }), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
