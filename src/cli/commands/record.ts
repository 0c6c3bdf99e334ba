/**
 * `sluice record`: records the calls of a file with one JSON object per line. A second run records only what is missing.
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import { createReadStream } from "node:fs"
import type { Readable } from "node:stream"
import * as CallLines from "../../CallLines.ts"
import * as CallRecorder from "../../CallRecorder.ts"
import * as Database from "../Database.ts"
import { Failed, told } from "../Failed.ts"
import * as options from "../options.ts"
import * as print from "../print.ts"
import * as Terminal from "../Terminal.ts"

/** What `sluice record --json` prints. */
export const RecordReport = Schema.Struct({
  recorded: Schema.Int,
  unchanged: Schema.Int,
  refused: Schema.Array(Schema.Struct({ line: Schema.Int, reason: Schema.String }))
})

/** The lines of standard input or a pipe, which cannot be read by position like a file. */
const fromReadable = (name: string, evaluate: () => Readable) =>
  CallLines.fromBytes(
    NodeStream.fromReadable({ evaluate, onError: (cause) => new Failed({ reason: `${name}: ${String(cause)}` }) })
  )

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

interface Opened {
  readonly lines: Stream.Stream<CallLines.CallLine, unknown, FileSystem.FileSystem>
  /** In bytes; 0 if unknown. */
  readonly size: number
}

/** Opens a file, a pipe or standard input. */
const open = (file: string) =>
  Effect.gen(function*() {
    const piped = (name: string, evaluate: () => Readable): Opened => ({ lines: fromReadable(name, evaluate), size: 0 })
    if (file === "-") return piped("standard input", () => process.stdin)
    const { size, type } = yield* FileSystem.FileSystem.use((fs) => fs.stat(file))
    if (type !== "File") return piped(file, () => createReadStream(file))
    return { lines: CallLines.fromFile(file), size: Number(size) } satisfies Opened
  })

/** The command. */
export const record = Command.make(
  "record",
  {
    ...options.common,
    embedded: options.embedded,
    file: Argument.String("file").pipe(Argument.withDescription("a file of calls, one JSON object a line; - for stdin"))
  },
  ({ embedded, file, url, ...given }) =>
    Effect.gen(function*() {
      const json = yield* options.switchOf(given.json, "SLUICE_JSON")
      const { lines, size } = yield* open(file)
      const printed = ({ recorded, refused, unchanged }: CallLines.Recording, before = "") =>
        Effect.andThen(
          Terminal.clear,
          json
            ? print.json(RecordReport, { recorded, unchanged, refused })
            : print.line(`${before}${recorded} recorded, ${unchanged} known already, ${refused.length} refused`)
        )
      let last: CallLines.Recording = { bytes: 0, calls: new Set(), recorded: 0, unchanged: 0, refused: [] }
      const tell = progress(size)
      const recording = CallLines.record(lines, {
        refused: ({ line, reason }) => Terminal.say(`line ${line}: ${reason}`),
        progress: (soFar) => {
          last = soFar
          return tell(soFar)
        }
      }).pipe(Effect.onInterrupt(() => Effect.suspend(() => printed(last, "stopped before the end; "))))
      const recorded = yield* Effect.provide(
        recording,
        CallRecorder.layer.pipe(Layer.provide(Database.stores(url, { embedded })))
      )
      if (recorded.refused.length > 0) process.exitCode = 1
      yield* printed(recorded)
    }).pipe(told)
).pipe(
  Command.withDescription("Record the calls of a file; run again, only what is missing"),
  Command.withExamples([
    { command: "sluice record calls.jsonl", description: "Record a file" },
    { command: "zcat calls.jsonl.gz | sluice record -", description: "Record standard input" }
  ])
)
