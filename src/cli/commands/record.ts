/**
 * `sluice record`: records the calls of a file, one JSON object per line, or lines of which a mapper makes calls. A second
 * run records only what is missing.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as CallLines from "../../CallLines.ts"
import * as CallRecorder from "../../CallRecorder.ts"
import { quote } from "../../internal/quote.ts"
import * as callFile from "../callFile.ts"
import * as Database from "../Database.ts"
import { Failed, told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"
import * as Terminal from "../Terminal.ts"
import * as mapping from "../via.ts"

/** What `sluice record --json` prints. */
export const RecordReport = Schema.Struct({
  recorded: Schema.Int,
  unchanged: Schema.Int,
  /** By line of the file, from 1; by element, where the file is one JSON list. */
  refused: Schema.Array(Schema.Struct({ line: Schema.Int, reason: Schema.String })),
  /** With `--via`: how many lines the mapper skipped. */
  skipped: Schema.optionalKey(Schema.Int),
  /** With `--requests`: those that no line answers. */
  missing: Schema.optionalKey(Schema.Array(Schema.Struct({ line: Schema.Int, key: Schema.String })))
})

/** Reports progress: a bar on a terminal, or else a line every 10,000 calls. */
const progress = (size: number) => {
  let told = 0
  return ({ bytes, calls }: CallLines.Recording) =>
    Effect.suspend(() => {
      const isNews = Math.floor(calls.size / 10_000) > Math.floor(told / 10_000)
      told = calls.size
      if (!Terminal.isWatched()) return isNews ? Terminal.say(`${told} calls`) : Effect.void
      const percent = size === 0 ? "" : `, ${Math.min(100, Math.round(100 * bytes / size))} %`
      return Terminal.bar(size === 0 ? 0 : bytes / size, `${told} calls${percent}`)
    })
}

interface Given {
  readonly file: string
  readonly via: Option.Option<string>
  readonly requests: Option.Option<string>
}

/** What a mapper leaves to be told. */
type More = Pick<typeof RecordReport.Type, "skipped" | "missing">

/** The calls of the file, and what else there is to report. */
const source = Effect.fnUntraced(function*({ file, requests, via }: Given) {
  if (file === "-" && Option.contains(requests, "-")) {
    return yield* new Failed({ reason: "standard input can be the results or the requests, and not both" })
  }
  const opened = yield* callFile.open(file)
  if (Option.isNone(via)) {
    if (Option.isSome(requests)) return yield* new Failed({ reason: "--requests needs --via" })
    return { ...opened, calls: Stream.map(opened.lines, CallLines.toCall), more: (): More => ({}) }
  }
  const mapper = yield* mapping.load(via.value)
  const asked: mapping.Requests = Option.isNone(requests)
    ? new Map()
    : yield* mapping.requestsOf(requests.value, mapper, (yield* callFile.open(requests.value)).lines)
  let skipped = 0
  const skip = Effect.sync(() => {
    skipped++
  })
  return {
    ...opened,
    calls: mapping.calls(mapper, opened.lines, asked, skip),
    more: (): More => (
      { skipped, ...Option.isNone(requests) ? {} : { missing: mapping.missing(asked) } }
    )
  }
})

const inWords = ({ recorded, refused, unchanged }: CallLines.Recording, { missing = [], skipped = 0 }: More): string =>
  [
    `${recorded} recorded, ${unchanged} known already, ${refused.length} refused`,
    ...skipped > 0 ? [`${skipped} skipped`] : [],
    ...missing.length > 0 ? [`${missing.length} missing`] : []
  ].join(", ")

/** The command. */
export const record = Command.make(
  "record",
  {
    ...options.common,
    embedded: options.embedded,
    via: Flag.optional(
      Flag.String("via").pipe(
        Flag.withMetavar("FILE"),
        Flag.withDescription("a module that makes calls of the lines of another format: see effect-sluice/LineMapper")
      )
    ),
    requests: Flag.optional(
      Flag.String("requests").pipe(
        Flag.withMetavar("FILE"),
        Flag.withDescription("with --via: the requests, one a line; reports which have no answer")
      )
    ),
    file: Argument.String("file").pipe(
      Argument.withDescription("a file of calls, one JSON object a line or one JSON list; - for stdin")
    )
  },
  ({ embedded, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const { calls, more, size, unit } = yield* source(given)
      const printed = (so: CallLines.Recording, rest: More, before = "") =>
        Effect.andThen(
          Terminal.clear,
          json
            ? print.json(RecordReport, { recorded: so.recorded, unchanged: so.unchanged, refused: so.refused, ...rest })
            : print.line(before + inWords(so, rest))
        )
      let last: CallLines.Recording = { bytes: 0, calls: new Set(), recorded: 0, unchanged: 0, refused: [] }
      const tell = progress(size)
      const recording = CallLines.record(calls, {
        refused: ({ line, reason }) => Terminal.say(`${unit} ${line}: ${reason}`),
        progress: (soFar) => {
          last = soFar
          return tell(soFar)
        }
      }).pipe(Effect.onInterrupt(() => Effect.suspend(() => printed(last, {}, "stopped before the end; "))))
      const recorded = yield* Effect.provide(
        recording,
        CallRecorder.layer.pipe(Layer.provide(Database.stores(url, { embedded })))
      )
      const rest = more()
      for (const { key, line } of rest.missing ?? []) {
        yield* Terminal.say(`no line answers ${quote(key)}, line ${line} of the requests`)
      }
      if (recorded.refused.length + (rest.missing?.length ?? 0) > 0) process.exitCode = 1
      yield* printed(recorded, rest)
    }).pipe(told)
).pipe(
  Command.withDescription(
    "Record the calls of a file; run again, only what is missing. A line has callId, namespace, service and outputs, and " +
      "may have context, orderingKey, priority, notBefore, finishedAt and more: see docs/recording.md. Its facts are what " +
      "`sluice usage` sums: \"facts\": { \"requestModel\": \"gpt-5-mini\", \"inputTokens\": 812, \"outputTokens\": 96 }"
  ),
  Command.withShortDescription("Record the calls of a file; run again, only what is missing"),
  Command.withExamples([
    { command: "sluice record calls.jsonl", description: "Record a file" },
    { command: "zcat calls.jsonl.gz | sluice record -", description: "Record standard input" },
    {
      command: "sluice record output.jsonl --via openai.ts --requests batch.jsonl",
      description: "Record the results of a provider's batch"
    }
  ])
)
