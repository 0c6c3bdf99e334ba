/**
 * Reads and records files of recorded calls: one call per line, as JSON. A line that is not a call is reported with its
 * number and the reason, and the rest is still read.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Latch from "effect/Latch"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { CallFacts } from "./CallFacts.ts"
import { CallRecorder } from "./CallRecorder.ts"
import * as exactJson from "./internal/exactJson.ts"
import { type Line, LineCutter } from "./internal/LineCutter.ts"
import { nearest } from "./internal/nearest.ts"
import { quote } from "./internal/quote.ts"
import { ServiceCall } from "./ServiceCall.ts"

/** A line of the file: its number (from 1), its length in bytes, and its call, or the reason why it has none. */
export interface CallLine {
  /** The number of the line, from 1. */
  readonly number: number
  /** Its length in bytes. */
  readonly bytes: number
  /** The call, or why the line has none. */
  readonly call: Result.Result<ServiceCall, string>
}

const decodeCall = Schema.decodeUnknownResult(Schema.toCodecJson(ServiceCall))
// drops a byte order mark
const utf8 = new TextDecoder("utf-8", { fatal: true })

// each line is parsed alone: without the line and column of a JSON error, whose message has the position
const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message.replace(/ \(line \d+ column \d+\)$/, "") : String(error)
// an error quotes the line, which is text from outside: control characters and line ends become blanks
const printable = (text: string): string => text.replaceAll(/[\s\p{Cc}]+/gu, " ")

/** A line of any JSON: its number (from 1), its length in bytes, and its JSON, or the reason why it has none. */
export interface JsonLine {
  /** The number of the line, from 1. */
  readonly number: number
  /** The length of the line. */
  readonly bytes: number
  /** The content of the line, or why it is not JSON. */
  readonly json: Result.Result<Schema.Json, string>
  /** Says which whole number of the line JavaScript has rounded in the content: the first one. Absent if there is none. */
  readonly rounded?: string | undefined
}

const fieldsOfCall = Object.keys(ServiceCall.fields)

/** Says which field is probably misspelt. Other unknown fields are no error: decoding leaves them out. */
const misspelt = (json: Schema.Json): string | undefined => {
  if (!Predicate.isObject(json)) return undefined
  const absent = fieldsOfCall.filter((name) => !Object.hasOwn(json, name))
  for (const name of Object.keys(json)) {
    const meant = fieldsOfCall.includes(name) ? undefined : nearest(name, absent)
    if (meant !== undefined) return `it has no field ${quote(name)}: is ${quote(meant)} meant?`
  }
  return undefined
}

/** The call with its facts as they are written: the recorder logs which of them it leaves out. */
const withFacts = (call: ServiceCall, json: Schema.Json): ServiceCall =>
  Predicate.isObject(json) && Predicate.hasProperty(json, "facts") && json.facts !== undefined
    // the recorder checks them
    ? { ...call, facts: json.facts as CallFacts }
    : call

/** The call in the JSON of a line, or why it is not a call. */
export const toCall = ({ bytes, json, number, rounded }: JsonLine): CallLine => ({
  number,
  bytes,
  call: Result.flatMap(json, (one) => {
    const problem = rounded ?? misspelt(one)
    if (problem !== undefined) return Result.fail(printable(`not a call: ${problem}`))
    return Result.mapBoth(decodeCall(one), {
      onSuccess: (call) => withFacts(call, one),
      onFailure: (error) => printable(`not a call: ${error.message}`)
    })
  })
})

/** Parses the text of a line. */
const jsonLine = (text: string, line: { readonly number: number; readonly bytes: number }): JsonLine => {
  const parsed = Result.try({
    try: () => exactJson.parse(text),
    catch: (error) => printable(`not JSON: ${messageOf(error)}`)
  })
  if (Result.isFailure(parsed)) return { ...line, json: Result.fail(parsed.failure) }
  const { json, rounded } = parsed.success
  return {
    ...line,
    json: Result.succeed(json),
    ...rounded[0] === undefined ? {} : { rounded: exactJson.describe(rounded[0]) }
  }
}

/** The longest line that is parsed, in bytes. Every call that can be recorded fits on a shorter one. */
const longestLine = 64 * 1024 * 1024

/** Reads one line. A blank line gives an empty list. */
const read = ({ content, length }: Line, number: number): ReadonlyArray<JsonLine> => {
  if (content === undefined) {
    const reason = `is ${length} bytes long, more than ${longestLine}: the most that a line may be`
    return [{ number, bytes: length, json: Result.fail(reason) }]
  }
  const text = Result.try({ try: () => utf8.decode(content), catch: () => "not UTF-8" })
  if (Result.isSuccess(text) && text.success.trim() === "") return []
  if (Result.isFailure(text)) return [{ number, bytes: length, json: Result.fail(text.failure) }]
  return [jsonLine(text.success, { number, bytes: length })]
}

/** The calls of lines held in memory. */
export const fromLines = (lines: ReadonlyArray<string>): Stream.Stream<CallLine> =>
  Stream.fromIterable(lines.flatMap((line, index) => {
    const content = Buffer.from(line)
    return read({ content, length: content.length }, index + 1).map(toCall)
  }))

/** The calls of a file, read as a stream, so the size of the file does not matter. Skips blank lines. */
export const fromFile = (path: string) =>
  Stream.unwrap(Effect.map(FileSystem.FileSystem, (fs) => fromBytes(fs.stream(path))))

const numbered = (state: { number: number }, lines: ReadonlyArray<Line>): ReadonlyArray<JsonLine> =>
  lines.flatMap((line) => {
    state.number++
    return read(line, state.number)
  })

/** The calls of a stream of bytes, such as standard input. A byte that is not UTF-8 spoils only its own line. */
export const fromBytes = <E, R>(bytes: Stream.Stream<Uint8Array, E, R>): Stream.Stream<CallLine, E, R> =>
  Stream.map(jsonFromBytes(bytes), toCall)

/** The same, of any JSON. */
export const jsonFromBytes = <E, R>(bytes: Stream.Stream<Uint8Array, E, R>): Stream.Stream<JsonLine, E, R> =>
  Stream.mapAccumArray(
    bytes,
    () => ({ cutter: new LineCutter(longestLine), number: 0 }),
    (state, chunks) => [state, numbered(state, chunks.flatMap((chunk) => state.cutter.push(chunk)))],
    { onHalt: (state) => numbered(state, state.cutter.rest()) }
  )

/** A line that was not recorded, and why. */
export interface Refusal {
  /** The number of the line, from 1. */
  readonly line: number
  /** Why its call was not recorded. */
  readonly reason: string
}

/** The result of recording, final or so far. */
export interface Recording {
  /** The bytes of the lines that were read. */
  readonly bytes: number
  /** The ids of the calls that are recorded now, each once. */
  readonly calls: ReadonlySet<string>
  /** How many lines held a new call. */
  readonly recorded: number
  /** How many lines held a call that was recorded before with the same content. */
  readonly unchanged: number
  /** The lines that were not recorded. */
  readonly refused: ReadonlyArray<Refusal>
}

/** The most that one commit records. The last line may exceed the bytes. */
const most = { lines: 200, bytes: 4 * 1024 * 1024 }

/**
 * How long a line waits for more lines before it is committed. A program that writes single lines into a pipe is
 * recorded within a second.
 */
const longestWait = Duration.millis(500)

/** How long an interrupted recording waits for lines that were already read, in steps. */
const farewell = { steps: 10, each: Duration.millis(100) }

/** Lines that were read and are not recorded yet. */
const makeBasket = Effect.gen(function*() {
  let lines: Array<CallLine> = []
  let bytes = 0
  let ended: Exit.Exit<void, unknown> | undefined
  const some = yield* Latch.make(false)
  const full = yield* Latch.make(false)
  const room = yield* Latch.make(true)
  return {
    /** Adds lines, and waits while the basket is full. */
    put: Effect.fnUntraced(function*(more: ReadonlyArray<CallLine>) {
      for (const line of more) {
        yield* room.await
        lines.push(line)
        // plus the line end
        bytes += line.bytes + 1
        yield* some.open
        if (lines.length < most.lines && bytes < most.bytes) continue
        yield* room.close
        yield* full.open
      }
    }),
    /** Marks the end of the lines. */
    end: (exit: Exit.Exit<void, unknown>) =>
      Effect.suspend(() => {
        ended = exit
        return Effect.andThen(some.open, full.open)
      }),
    /** How reading ended; undefined until then. */
    ended: () => ended,
    /** Waits for the first line, then a moment longer for more. */
    waiting: Effect.andThen(some.await, Effect.raceFirst(full.await, Effect.sleep(longestWait))),
    /** Takes all lines. */
    take: Effect.suspend(() => {
      const portion = { lines, bytes }
      lines = []
      bytes = 0
      const closing = ended === undefined ? Effect.andThen(some.close, full.close) : Effect.void
      return Effect.as(Effect.andThen(closing, room.open), portion)
    })
  }
})

/**
 * Records all calls of the lines, each within a second after it was read. Reports a line that cannot be recorded
 * immediately, and continues with the rest. When interrupted, it still records the lines it has read, because a pipe
 * cannot be read again. The last value given to `progress` is the final result.
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

  const commit = Effect.fnUntraced(
    function*(portion: { readonly lines: ReadonlyArray<CallLine>; readonly bytes: number }) {
      const good = portion.lines.flatMap(({ call }) => Result.isSuccess(call) ? [call.success] : [])
      const outcomes = (yield* recorder.recordMany(good)).values()
      for (const { call, number } of portion.lines) {
        // only calls that parsed were given to the recorder and have an outcome there
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
      bytes += portion.bytes
      yield* on.progress(soFar())
    }
  )

  return yield* Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
    const basket = yield* makeBasket
    const reader = yield* Effect.forkChild(
      Effect.interruptible(Stream.runForEachArray(lines, basket.put)).pipe(Effect.onExit((exit) => basket.end(exit)))
    )
    const step = Effect.flatMap(
      basket.take,
      (portion) => portion.lines.length === 0 ? Effect.succeed(false) : Effect.as(commit(portion), true)
    )
    const last = Effect.gen(function*() {
      yield* step
      for (let steps = 0; steps < farewell.steps; steps++) {
        yield* Effect.sleep(farewell.each)
        if (!(yield* step)) return
      }
    })
    const all = Effect.gen(function*() {
      do {
        yield* restore(basket.waiting)
        yield* step
      } while (basket.ended() === undefined)
      yield* step
    })
    yield* all.pipe(
      Effect.onInterrupt(() => Effect.ignore(last, { log: "Warn", message: "what was read last is not recorded" })),
      Effect.ensuring(Fiber.interrupt(reader))
    )
    // fails if reading the lines failed
    yield* Fiber.join(reader)
    return soFar()
  }))
})
