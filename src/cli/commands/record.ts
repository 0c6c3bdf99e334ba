/**
 * `sluice record`: records the calls of a file, a JSON object a line. Run again, it records only what is missing.
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import * as CallLines from "../../CallLines.ts"
import { CallRecorder } from "../../CallRecorder.ts"
import * as Database from "../Database.ts"
import * as print from "../print.ts"

/** What `sluice record --json` prints. */
export const RecordReport = Schema.Struct({
  recorded: Schema.Int,
  unchanged: Schema.Int,
  refused: Schema.Array(Schema.Struct({ line: Schema.Int, reason: Schema.String }))
})

const fromStdin = NodeStream.fromReadable({
  evaluate: () => process.stdin,
  onError: (cause) => new Database.Failed({ reason: `standard input: ${String(cause)}` })
})

/** The command. */
export const record = Command.make(
  "record",
  {
    ...Database.common,
    file: Argument.String("file").pipe(Argument.withDescription("a file of calls, one JSON object a line; - for stdin"))
  },
  ({ file, json, url }) =>
    Effect.gen(function*() {
      const lines: Stream.Stream<CallLines.CallLine, unknown, FileSystem.FileSystem> = file === "-"
        ? CallLines.fromBytes(fromStdin)
        : CallLines.fromFile(file)
      let told = 0
      const { recorded, refused, unchanged } = yield* CallLines.record(lines, {
        refused: ({ line, reason }) => Console.error(`line ${line}: ${reason}`),
        progress: (calls) =>
          Effect.sync(() => {
            if (process.stderr.isTTY) process.stderr.write(`\r${calls} calls`)
            else if (Math.floor(calls / 10_000) > Math.floor(told / 10_000)) process.stderr.write(`${calls} calls\n`)
            told = calls
          })
      })
      if (process.stderr.isTTY) process.stderr.write("\r")
      if (refused.length > 0) process.exitCode = 1
      if (json) return yield* print.json(RecordReport, { recorded, unchanged, refused })
      yield* Console.log(`${recorded} recorded, ${unchanged} known already, ${refused.length} refused`)
    }).pipe(
      Effect.provide(CallRecorder.layer.pipe(Layer.provide(Database.stores(url)))),
      Database.told
    )
).pipe(
  Command.withDescription("Record the calls of a file; run again, only what is missing"),
  Command.withExamples([
    { command: "sluice record calls.jsonl", description: "Record a file" },
    { command: "zcat calls.jsonl.gz | sluice record -", description: "Record standard input" }
  ])
)
