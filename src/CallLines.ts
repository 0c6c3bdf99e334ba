/**
 * Files of recorded calls: one call a line, as JSON. A line that is none is an answer as well, never the end.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import { CallRecorder } from "./CallRecorder.ts"
import { ServiceCall } from "./ServiceCall.ts"

/** A line of the file: its number, from 1, its length, and its call, or why it has none. */
export interface CallLine {
  readonly number: number
  readonly bytes: number
  readonly call: Result.Result<ServiceCall, string>
}

const decodeCall = Schema.decodeUnknownResult(Schema.toCodecJson(ServiceCall))
// drops a byte order mark
const utf8 = new TextDecoder("utf-8", { fatal: true })

// a line is one line: that its error is in "(line 1 column 7)" says nothing more than its position
const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message.replace(/ \(line \d+ column \d+\)$/, "") : String(error)
// an error quotes the line, which may hold anything
const printable = (text: string): string => text.replaceAll(/[\s\p{Cc}]+/gu, " ")

const parse = (text: string): Result.Result<ServiceCall, string> =>
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
  Stream.unwrap(Effect.map(FileSystem.FileSystem, (fs) => fromBytes(fs.stream(path))))

/** The calls of a stream of bytes, such as standard input. */
export const fromBytes = <E, R>(bytes: Stream.Stream<Uint8Array, E, R>): Stream.Stream<CallLine, E, R> =>
  bytes.pipe(
    // as Latin-1 every byte is one character: lines are cut first, so that a byte that is not UTF-8 spoils only its own
    Stream.map((chunk) => Buffer.from(chunk).toString("latin1")),
    Stream.splitLines,
    Stream.zipWithIndex,
    Stream.flatMap(([line, index]) => Stream.fromIterable(read(Buffer.from(line, "latin1"), index + 1)))
  )

/** A line that was not recorded, and why. */
export interface Refusal {
  readonly line: number
  readonly reason: string
}

/** What recording came to, or has come to so far. */
export interface Recording {
  /** The bytes of the lines that were read. */
  readonly bytes: number
  /** The ids of the calls that are recorded now, each once. */
  readonly calls: ReadonlySet<string>
  /** Of the lines, those that were new. */
  readonly recorded: number
  /** Of the lines, those that were recorded before, the same. */
  readonly unchanged: number
  readonly refused: ReadonlyArray<Refusal>
}

/** What is recorded in one commit: at most so many lines, and little more than so many bytes. */
const most = { lines: 200, bytes: 4 * 1024 * 1024 }

/** Gathers the lines of one commit. */
const portion = Sink.reduceWhile(
  () => ({ lines: [] as Array<CallLine>, bytes: 0 }),
  ({ bytes, lines }) => lines.length < most.lines && bytes < most.bytes,
  ({ bytes, lines }, line: CallLine) => {
    lines.push(line)
    return { lines, bytes: bytes + line.bytes }
  }
)

/**
 * Records all calls of the lines. What cannot be recorded is told of at once and does not stop the rest. Interrupted, it
 * finishes the commit it is at, so that what `progress` was told last is what was done.
 */
export const record = Effect.fnUntraced(function*<E, R>(
  lines: Stream.Stream<CallLine, E, R>,
  on: {
    readonly refused: (refusal: Refusal) => Effect.Effect<void>
    readonly progress: (soFar: Recording) => Effect.Effect<void>
  }
) {
  const recorder = yield* CallRecorder
  const calls = new Set<string>()
  const refused: Array<Refusal> = []
  let recorded = 0
  let unchanged = 0
  let bytes = 0
  const soFar = (): Recording => ({ bytes, calls, recorded, unchanged, refused })

  yield* Stream.runForEach(
    Stream.transduce(lines, portion),
    Effect.fnUntraced(function*(portion) {
      const { lines } = portion
      const good = lines.flatMap(({ call }) => Result.isSuccess(call) ? [call.success] : [])
      const outcomes = (yield* recorder.recordMany(good)).values()
      for (const { call, number } of lines) {
        // only what parsed was given to the recorder and has an outcome of its own
        const outcome = Result.flatMap(call, ({ callId }) =>
          Result.mapBoth(outcomes.next().value!, {
            onSuccess: (what) => ({ callId, what }),
            onFailure: ({ message }) => message
          }))
        if (Result.isFailure(outcome)) {
          const refusal: Refusal = { line: number, reason: outcome.failure }
          refused.push(refusal)
          yield* on.refused(refusal)
          continue
        }
        calls.add(outcome.success.callId)
        if (outcome.success.what === "recorded") recorded++
        else unchanged++
      }
      // each line had its end as well
      bytes += portion.bytes + lines.length
      yield* on.progress(soFar())
    }, Effect.uninterruptible)
  )
  return soFar()
})
