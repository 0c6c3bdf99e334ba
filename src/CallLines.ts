/**
 * Files of recorded calls: one call a line, as JSON. A line that is none is an answer as well, never the end.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { CallRecorder } from "./CallRecorder.ts"
import { type Line, LineCutter } from "./internal/LineCutter.ts"
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

/** The longest line that is looked at. No call that can be recorded is written on a longer one. */
const longestLine = 64 * 1024 * 1024

/** What is on a line; nothing, when it is blank. */
const read = ({ content, length }: Line, number: number): ReadonlyArray<CallLine> => {
  if (content === undefined) {
    const reason = `is ${length} bytes long, more than ${longestLine}: the most that a line may be`
    return [{ number, bytes: length, call: Result.fail(reason) }]
  }
  const text = Result.try({ try: () => utf8.decode(content), catch: () => "not UTF-8" })
  if (Result.isSuccess(text) && text.success.trim() === "") return []
  return [{ number, bytes: length, call: Result.flatMap(text, parse) }]
}

/** The calls of lines held in memory. */
export const fromLines = (lines: ReadonlyArray<string>): Stream.Stream<CallLine> =>
  Stream.fromIterable(lines.flatMap((line, index) => {
    const content = Buffer.from(line)
    return read({ content, length: content.length }, index + 1)
  }))

/** The calls of a file, read as a stream, so that its size does not matter. Blank lines are passed over. */
export const fromFile = (path: string) =>
  Stream.unwrap(Effect.map(FileSystem.FileSystem, (fs) => fromBytes(fs.stream(path))))

const numbered = (state: { number: number }, lines: ReadonlyArray<Line>): ReadonlyArray<CallLine> =>
  lines.flatMap((line) => {
    state.number++
    return read(line, state.number)
  })

/** The calls of a stream of bytes, such as standard input. A byte that is not UTF-8 spoils only its own line. */
export const fromBytes = <E, R>(bytes: Stream.Stream<Uint8Array, E, R>): Stream.Stream<CallLine, E, R> =>
  Stream.mapAccumArray(
    bytes,
    () => ({ cutter: new LineCutter(longestLine), number: 0 }),
    (state, chunks) => [state, numbered(state, chunks.flatMap((chunk) => state.cutter.push(chunk)))],
    { onHalt: (state) => numbered(state, state.cutter.rest()) }
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

/** How long lines wait for others: who writes into a pipe one by one is recorded within a second. */
const patience = Duration.millis(500)

/** How long, at most, what has been read already is waited for when recording is told to stop, in steps. */
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
    /** Puts lines in, and waits where there is no room. */
    put: Effect.fnUntraced(function*(more: ReadonlyArray<CallLine>) {
      for (const line of more) {
        yield* room.await
        lines.push(line)
        // its end as well
        bytes += line.bytes + 1
        yield* some.open
        if (lines.length < most.lines && bytes < most.bytes) continue
        yield* room.close
        yield* full.open
      }
    }),
    /** There will be no more. */
    end: (exit: Exit.Exit<void, unknown>) =>
      Effect.suspend(() => {
        ended = exit
        return Effect.andThen(some.open, full.open)
      }),
    /** How reading ended, once it has. */
    ended: () => ended,
    /** Waits until there is something, and a moment more for others to come. */
    waiting: Effect.andThen(some.await, Effect.raceFirst(full.await, Effect.sleep(patience))),
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
 * Records all calls of the lines, within a second after they were read. What cannot be recorded is told of at once and does
 * not stop the rest. Interrupted, it records what it has read: a pipe cannot be read again. What `progress` was told last is
 * what was done.
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
    // as the lines ended
    yield* Fiber.join(reader)
    return soFar()
  }))
})
