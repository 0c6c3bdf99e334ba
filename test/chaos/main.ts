/**
 * Runs the chaos and prints what it did:
 *
 *     npm run chaos -- --seconds 60 --workers 4 --seed 7
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import { chaos } from "./chaos.ts"

const flags = {
  seed: Flag.Int("seed").pipe(
    Flag.withDescription("draws the calls and the faults; by chance when absent"),
    Flag.optional
  ),
  seconds: Flag.Int("seconds").pipe(Flag.withDescription("how long the storm lasts"), Flag.withDefault(30)),
  workers: Flag.Int("workers").pipe(Flag.withDescription("worker processes"), Flag.withDefault(3))
}

Command.make("chaos", flags, ({ seconds, seed, workers }) =>
  Effect.gen(function*() {
    const drawn = yield* Random.nextIntBetween(1, 1_000_000)
    const used = Option.getOrElse(seed, () => drawn)
    const started = performance.now()
    const log = (line: string) =>
      process.stderr.write(`${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s  ${line}\n`)
    yield* Console.error(`seed ${used}`)
    const { drained, faults, planned, wrong, ...numbers } = yield* chaos({ seed: used, seconds, workers, log })
    yield* Console.log("\nfaults")
    for (const [what, count] of Object.entries(faults)) {
      const of = planned[what] === undefined || planned[what] === count ? "" : ` (of ${planned[what]})`
      yield* Console.log(`  ${String(count).padStart(4)} × ${what}${of}`)
    }
    yield* Console.log("\n" + Object.entries(numbers).map(([what, count]) => `${what} ${count}`).join(", "))
    if (!drained) yield* Console.log("not drained within five minutes")
    for (const line of wrong) yield* Console.log(`WRONG: ${line}`)
    if (!drained || wrong.length > 0) process.exitCode = 1
  })).pipe(Command.run({ version: "0" }), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
