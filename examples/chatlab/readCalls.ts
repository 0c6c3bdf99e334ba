/**
 * Files of recorded calls: one call a line, as JSON. A line that is none is an answer as well, never the end.
 */
import { ServiceCall } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

/** A line of the file: its number, from 1, and its call, or why it has none. */
export interface CallLine {
  readonly number: number
  readonly call: Result.Result<ServiceCall.ServiceCall, string>
}

const decodeCall = Schema.decodeUnknownResult(Schema.toCodecJson(ServiceCall.ServiceCall), { errors: "first" })
const utf8 = new TextDecoder("utf-8", { fatal: true })

/** The call on a line, or what is wrong with it, in one line. */
export const parse = (line: string): Result.Result<ServiceCall.ServiceCall, string> => {
  let json: unknown
  try {
    json = JSON.parse(line)
  } catch (error) {
    return Result.fail(`not JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
  return Result.mapError(decodeCall(json), (error) => `not a call: ${error.message.replaceAll(/\s*\n\s*/g, " ")}`)
}

const parseBytes = (bytes: Buffer): Result.Result<ServiceCall.ServiceCall, string> => {
  try {
    return parse(utf8.decode(bytes))
  } catch {
    return Result.fail("not UTF-8")
  }
}

const isBlank = (line: string): boolean => line.trim() === ""

/** The calls of lines held in memory. */
export const fromLines = (lines: ReadonlyArray<string>): Stream.Stream<CallLine> =>
  Stream.fromIterable(lines.map((line, index) => ({ number: index + 1, call: parse(line) })))

/** The calls of a file, read as a stream, so that its size does not matter. Blank lines are passed over. */
export const fromFile = (path: string) =>
  Stream.unwrap(Effect.map(FileSystem.FileSystem, (fs) =>
    fs.stream(path).pipe(
      // as Latin-1 every byte is one character: lines are cut first, so that a byte that is not UTF-8 spoils only its own
      Stream.map((bytes) => Buffer.from(bytes).toString("latin1")),
      Stream.splitLines,
      Stream.zipWithIndex,
      Stream.filter(([line]) => !isBlank(line)),
      Stream.map(([line, index]): CallLine => ({ number: index + 1, call: parseBytes(Buffer.from(line, "latin1")) }))
    )))
