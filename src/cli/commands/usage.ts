/**
 * `sluice usage`: prints what calls used, by model, namespace, schema or day.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Inspector } from "../../Inspector.ts"
import { Retention } from "../../Retention.ts"
import { UsageBy, UsageRow } from "../../Usage.ts"
import * as Database from "../Database.ts"
import * as durationFlag from "../durationFlag.ts"
import { told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"

/** What `sluice usage --json` prints. */
export const Usage = Schema.Struct({ by: UsageBy, usage: Schema.Array(UsageRow) })

/** Millionths of a currency's unit as a decimal number. */
const amount = (micros: number): string => (micros / 1e6).toFixed(6).replace(/(\.\d\d\d*?)0+$/, "$1")

const costOf = ({ costs }: UsageRow): string =>
  costs.map(({ currency, micros }) => `${amount(micros)} ${currency}`).join(", ")

const nothing = [
  "nothing was used: calls count that are recorded with facts. A program gives them",
  "with the call, and `effect-sluice/ai` gives them by itself. A line gives them as",
  "  \"facts\": { \"requestModel\": \"gpt-5-mini\", \"inputTokens\": 812, \"outputTokens\": 96 }",
  "All names of facts are in docs/recording.md"
]

const inWords = ({ by, usage }: typeof Usage.Type, limit: number): ReadonlyArray<string> => {
  if (usage.length === 0) return [...nothing]
  const shown = usage.slice(0, limit)
  const short = print.shortNames(shown.flatMap(({ key }) => by === "schema" ? key.split(" ") : []))
  const nameOf = (key: string) =>
    print.clip(key === "" ? "unknown" : by === "schema" ? key.split(" ").map(short).join(" ") : key, 32)
  const rows = shown.map((row) => [
    nameOf(row.key),
    ...[row.calls, row.failed, row.invalid, row.attempts, row.inputTokens, row.outputTokens].map(print.figure),
    costOf(row)
  ])
  return [
    ...print.table([by, "calls", "failed", "invalid", "answers", "in", "out", "cost"], rows).split("\n"),
    ...print.more(usage.length, limit, "rows", "see --limit, or --json")
  ]
}

/** The command. */
export const usage = Command.make(
  "usage",
  {
    ...options.common,
    by: Flag.Literals("by", UsageBy.literals).pipe(
      Flag.withDescription("what to sum by; default: model"),
      Flag.withDefault("model")
    ),
    since: Flag.optional(durationFlag.flag("since", "from the day (UTC) on that was so long ago: 7d; default: all")),
    limit: options.limit(50)
  },
  ({ by, limit, since, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      // a role that may only read skips this: what is not rolled up is counted as well
      yield* Effect.ignore(Retention.use((retention) => retention.rollUp))
      const rows = yield* Inspector.use((inspector) => inspector.usage({ by, since: Option.getOrUndefined(since) }))
      const found = { by, usage: rows }
      yield* json ? print.json(Usage, found) : print.lines(inWords(found, limit))
    }).pipe(Effect.provide(Database.storesAsTheyAre(url)), told)
).pipe(
  Command.withDescription(
    "What calls used: runs, tokens and cost, by model, namespace, schema or day. A call counts if it was recorded with facts, or " +
      "run by a service that reports its answers"
  ),
  Command.withShortDescription("Sum tokens and cost by model, namespace, schema or day"),
  Command.withExamples([
    { command: "sluice usage --since 7d", description: "The last week, by model" },
    { command: "sluice usage --by day --json", description: "All days, for programs" }
  ])
)
