/**
 * Runs random programs of statements as handlers, as many as wished:
 *
 *     npm run programs -- --seeds 1000
 *     npm run programs -- --seed 4711
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { startCluster } from "../support/cluster.ts"
import { batchSizes, database, runSeed } from "./run.ts"

const flags = {
  seed: Flag.Int("seed").pipe(Flag.withDescription("run just this one"), Flag.optional),
  seeds: Flag.Int("seeds").pipe(Flag.withDescription("how many to run"), Flag.withDefault(200)),
  from: Flag.Int("from").pipe(Flag.withDescription("the first of them"), Flag.withDefault(1))
}

Command.make("programs", flags, ({ from, seed, seeds }) =>
  Effect.gen(function*() {
    const cluster = yield* Effect.acquireRelease(
      Effect.promise(() => startCluster({ version: 18 })),
      (running) => Effect.promise(() => running.remove())
    )
    const first = Option.getOrElse(seed, () => from)
    const last = Option.isSome(seed) ? first : from + seeds - 1
    let bad = 0
    yield* Effect.gen(function*() {
      for (let each = first; each <= last; each++) {
        for (const batchSize of batchSizes) {
          const { wrong } = yield* runSeed(each, batchSize)
          if (wrong.length === 0) continue
          bad++
          yield* Console.log(`seed ${each}, batches of ${batchSize}:`, wrong)
        }
      }
    }).pipe(Effect.provide(database(cluster.url())))
    yield* Console.log(`${last - first + 1} seeds in batches of ${batchSizes.join(", ")}: ${bad} with violations`)
    if (bad > 0) process.exitCode = 1
  }).pipe(Effect.scoped)).pipe(Command.run({ version: "0" }), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
