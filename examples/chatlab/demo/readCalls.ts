/**
 * Files of recorded calls: one call a line, as JSON. A line that is none is an answer as well, never the end.
 */
import { ServiceCall } from "effect-sluice"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

/** A line of the file: its number, from 1, its length, and its call, or why it has none. */
export interface CallLine {
  readonly number: number
  readonly bytes: number
  readonly call: Result.Result<ServiceCall.ServiceCall, string>
}

const decodeCall = Schema.decodeUnknownResult(Schema.toCodecJson(ServiceCall.ServiceCall))
// drops a byte order mark
const utf8 = new TextDecoder("utf-8", { fatal: true })

const messageOf = (error: unknown): string => error instanceof Error ? error.message : String(error)
// an error quotes the line, which may hold anything
const printable = (text: string): string => text.replaceAll(/[\s\p{Cc}]+/gu, " ")

const parse = (text: string): Result.Result<ServiceCall.ServiceCall, string> =>
  Result.try({ try: (): unknown => JSON.parse(text), catch: (error) => `not JSON: ${messageOf(error)}` }).pipe(
    Result.flatMap((json) => Result.mapError(decodeCall(json), (error) => `not a call: ${error.message}`)),
    Result.mapError(printable)
  )

/** What is on a line; nothing, when it is blank. */
const read = (bytes: Buffer, number: number): ReadonlyArray<CallLine> => {
  const text = Result.try({ try: () => utf8.decode(bytes), catch: () => "not UTF-8" })
  if (Result.isSuccess(text) && text.success.trim() === "") return []
  return [{ number, bytes: bytes.length, call: Result.flatMap(text, parse) }]
}

/** The calls of lines held in memory. */
export const fromLines = (lines: ReadonlyArray<string>): Stream.Stream<CallLine> =>
  Stream.fromIterable(lines.flatMap((line, index) => read(Buffer.from(line), index + 1)))

/** The calls of a file, read as a stream, so that its size does not matter. Blank lines are passed over. */
export const fromFile = (path: string) =>
  Stream.unwrap(Effect.map(FileSystem.FileSystem, (fs) =>
    fs.stream(path).pipe(
      // as Latin-1 every byte is one character: lines are cut first, so that a byte that is not UTF-8 spoils only its own
      Stream.map((bytes) => Buffer.from(bytes).toString("latin1")),
      Stream.splitLines,
      Stream.zipWithIndex,
      Stream.flatMap(([line, index]) => Stream.fromIterable(read(Buffer.from(line, "latin1"), index + 1)))
    )))
