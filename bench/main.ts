/**
 * Programs that print ratios: `npm run bench -- drain`. Every figure is taken in one run on one server, in turns.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { drain } from "./drain.ts"
import { growth } from "./growth.ts"
import { print, type Result } from "./harness/output.ts"
import type { BenchOptions } from "./harness/settings.ts"
import { idle } from "./idle.ts"
import { latency } from "./latency.ts"
import { memory } from "./memory.ts"
import { poison } from "./poison.ts"
import { profile } from "./profile.ts"
import { record } from "./record.ts"
import { refused } from "./refused.ts"
import { report } from "./report.ts"
import { scale } from "./scale.ts"
import { shapesBench } from "./shapes.ts"

const flags = {
  records: Flag.Int("records").pipe(Flag.withDescription("how many records"), Flag.optional),
  rounds: Flag.Int("rounds").pipe(Flag.withDescription("how often each is measured"), Flag.withDefault(3)),
  postgres: Flag.Literals("postgres", ["18", "15"]).pipe(
    Flag.withDescription("which Postgres"),
    Flag.withDefault("18" as const)
  ),
  only: Flag.String("only").pipe(Flag.withDescription("these systems or cases, by commas"), Flag.optional),
  json: Flag.Boolean("json").pipe(Flag.withDescription("JSON lines instead of tables"), Flag.withDefault(false)),
  save: Flag.Boolean("save").pipe(Flag.withDescription("keep the result in bench/results"), Flag.withDefault(false))
}

/** A flag of some benches; the others ignore it. */
const number = (name: string, description: string, fallback: number) =>
  Flag.Finite(name).pipe(Flag.withDescription(description), Flag.withDefault(fallback))

const more = {
  scale: number("scale", "what the sizes are multiplied with (growth)", 1),
  holdMinutes: number("hold-minutes", "how long a snapshot is held (growth)", 10),
  minutes: number("minutes", "how long it drains (memory)", 10),
  seconds: number("seconds", "how long each is watched (idle)", 60),
  commitDelay: number("commit-delay", "microseconds that each commit takes longer, as on a slower disk (latency)", 0),
  content: number("content", "characters of content of a record (drain)", 600)
}

const bench = (name: string, description: string, run: (options: BenchOptions) => Promise<Result>) =>
  Command.make(name, { ...flags, ...more }, ({ json, only, postgres, records, rounds, save, ...rest }) => {
    const part = Option.getOrUndefined(Option.map(only, (names) => names.split(",")))
    return Effect.map(
      Effect.promise(() =>
        run({
          ...rest,
          records: Option.getOrUndefined(records),
          rounds,
          postgres: postgres === "15" ? 15 : 18,
          only: part
        })
      ),
      (result) => print(result, { json, save, part })
    )
  }).pipe(Command.withDescription(description))

Command.make("bench").pipe(
  Command.withDescription("What Sluice costs, beside what it could cost and what others cost"),
  Command.withSubcommands([
    bench("drain", "records a second from recorded to persisted, beside the limit and the peers", drain),
    bench("profile", "where the time of a drain goes, in Node and in Postgres", profile),
    bench("latency", "milliseconds from recorded to persisted, beside the floor", latency),
    bench("record", "calls a second recorded, beside the bare inserts", record),
    bench("growth", "whether it stays as fast as it grows, and while a snapshot is held", growth),
    bench("scale", "many workers, many batches in flight, large payloads", scale),
    bench("poison", "some handlers fail", poison),
    bench("refused", "the table refuses some rows of a declared handler", refused),
    bench("shapes", "four kinds of answers, and answers that become ten rows", shapesBench),
    bench("idle", "what it costs while there is nothing to do, beside the peers", idle),
    bench("memory", "a long drain, and what is left behind after closing", memory),
    Command.make("report", {}, () => Effect.sync(report)).pipe(
      Command.withDescription("writes the saved results into bench/README.md")
    )
  ]),
  Command.run({ version: "0" }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
