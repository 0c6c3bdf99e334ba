/**
 * Opens what `sluice record` reads: a file of JSON lines, a file that is one JSON list, a pipe, standard input.
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type { PlatformError } from "effect/PlatformError"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { createReadStream } from "node:fs"
import type { Readable } from "node:stream"
import * as CallLines from "../CallLines.ts"
import * as exactJson from "../internal/exactJson.ts"
import { Failed } from "./Failed.ts"

/** What is read. */
export interface Opened {
  readonly lines: Stream.Stream<CallLines.JsonLine, unknown>
  /** In bytes; 0 if unknown. */
  readonly size: number
  /** What the numbers of the lines count. */
  readonly unit: "line" | "element"
}

/** The lines of standard input or a pipe, which cannot be read by position like a file. */
const piped = (name: string, evaluate: () => Readable): Opened => ({
  lines: CallLines.jsonFromBytes(
    NodeStream.fromReadable({ evaluate, onError: (cause) => new Failed({ reason: `${name}: ${String(cause)}` }) })
  ),
  size: 0,
  unit: "line"
})

/** How much of a file is looked at to see what it is. */
const beginning = 64 * 1024
/** The largest file that is parsed as one JSON value, in bytes. */
const largestList = 256 * 1024 * 1024

const isJson = (text: string): boolean => Result.isSuccess(Result.try(() => JSON.parse(text)))

/** Whether a file begins with the byte order mark of UTF-16. */
const isUtf16 = ([first, second]: Buffer): boolean =>
  (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)

/** Whether a file begins as a list, or as JSON over several lines: neither begins with a line that is a call. */
const isOneValue = (text: string): boolean => {
  const [first = "", ...others] = text.replace(/^\ufeff/, "").trimStart().split(/\r\n|\n|\r/)
  if (first.startsWith("[")) return true
  // only the beginning was read: a line that is cut there is not one of several
  return /^\{\s*("[^"]*"\s*:\s*)?[[{]?\s*$/.test(first) && others.length > 0 && !isJson(first)
}

const isObject = (line: string): boolean => line.trimStart().startsWith("{") && isJson(line)

const linesOf = (fs: FileSystem.FileSystem, file: string, size: number): Opened => ({
  lines: CallLines.jsonFromBytes(fs.stream(file)),
  size,
  unit: "line"
})

const jsonAdvice = (file: string) => `jq -c '.[]' ${file} | sluice record -`

/** The size of a JSON value in bytes; 0 of one that is nested too deep, which is not recorded. */
const sizeOf = (json: Schema.Json): number =>
  Result.getOrElse(Result.try(() => Buffer.byteLength(JSON.stringify(json))), () => 0)

/** The elements of a JSON list as lines; a file of one object is a list of one. */
const elementsOf = Effect.fnUntraced(function*(fs: FileSystem.FileSystem, file: string, size: number) {
  if (size > largestList) {
    return yield* new Failed({
      reason: `${file} is one JSON value of ${size} bytes, too large for one piece: write a call a line: ${
        jsonAdvice(file)
      }`
    })
  }
  const text = yield* fs.readFileString(file)
  const parsed = Result.try(() => exactJson.parse(text.replace(/^\ufeff/, "")))
  if (Result.isFailure(parsed)) {
    // a file of lines whose first one is broken: the others are recorded, and that one is reported
    if (text.split("\n").some(isObject)) return linesOf(fs, file, size)
    const { failure } = parsed
    return yield* new Failed({
      reason: `${file} is neither a call a line nor one JSON list: ${
        failure instanceof Error ? failure.message : failure
      }`
    })
  }
  const { json, rounded } = parsed.success
  const elements: ReadonlyArray<Schema.Json> = Array.isArray(json) ? json : [json]
  const roundedIn = (index: number) => {
    const place = Array.isArray(json) ? `[${index}].` : ""
    const one = rounded.find(({ path }) => path.startsWith(place))
    return one === undefined ? undefined : exactJson.describe({ ...one, path: one.path.slice(place.length) })
  }
  const lines = elements.map((element, index): CallLines.JsonLine => ({
    number: index + 1,
    bytes: sizeOf(element),
    json: Result.succeed(element),
    rounded: rounded.length === 0 ? undefined : roundedIn(index)
  }))
  return { lines: Stream.fromIterable(lines), size: 0, unit: "element" } satisfies Opened
})

/** Opens a file, a pipe or standard input. */
export const open = Effect.fnUntraced(function*(file: string): Effect.fn.Return<
  Opened,
  Failed | PlatformError,
  FileSystem.FileSystem
> {
  if (file === "-") return piped("standard input", () => process.stdin)
  const fs = yield* FileSystem.FileSystem
  const { size, type } = yield* fs.stat(file)
  if (type === "Directory") {
    return yield* new Failed({
      reason: `${file} is a folder: name a file of it, or give all: cat ${
        file.replace(/\/$/, "")
      }/*.jsonl | sluice record -`
    })
  }
  if (type !== "File") return piped(file, () => createReadStream(file))
  const head = yield* Stream.runCollect(fs.stream(file, { bytesToRead: beginning }))
  const bytes = Buffer.concat([...head])
  if (isUtf16(bytes)) {
    return yield* new Failed({
      reason: `${file} is UTF-16, as PowerShell writes it: make it UTF-8, for example by iconv -f UTF-16 -t UTF-8`
    })
  }
  if (isOneValue(bytes.toString("utf8"))) return yield* elementsOf(fs, file, Number(size))
  return linesOf(fs, file, Number(size))
})
