/**
 * The two phases of the demo: record the calls of a file, then let so many drains persist them.
 */
import { CallRecorder, ChunkStore, Drain } from "effect-sluice"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import type { CallLine } from "./readCalls.ts"

/** A line that was not recorded, and why. */
export interface Refusal {
  readonly line: number
  readonly reason: string
}

/** What recording came to. */
export interface Recording {
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

/** Records all calls of the lines. What cannot be recorded is told of at once and does not stop the rest. */
export const record = Effect.fnUntraced(function*<E, R>(
  lines: Stream.Stream<CallLine, E, R>,
  on: {
    readonly refused: (refusal: Refusal) => Effect.Effect<void>
    readonly progress: (calls: number) => Effect.Effect<void>
  }
) {
  const recorder = yield* CallRecorder
  const calls = new Set<string>()
  const refused: Array<Refusal> = []
  let recorded = 0
  let unchanged = 0

  yield* Stream.runForEach(
    Stream.transduce(lines, portion),
    Effect.fnUntraced(function*({ lines }) {
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
      yield* on.progress(calls.size)
    })
  )
  return { calls, recorded, unchanged, refused } satisfies Recording
})

/**
 * Drains by so many drains at once, each as if it were a process of its own, until nothing is due within `patience`.
 * That is time enough for the lease of a run that was killed to end, and for a failed chunk's first retries. Tells
 * after every cycle how many chunks have been persisted so far, and gives back how many were in the end.
 */
export const drain = Effect.fnUntraced(function*(options: {
  readonly workers: number
  readonly patience: Duration.Duration
  readonly progress: (persisted: number) => Effect.Effect<void>
}) {
  const store = yield* ChunkStore
  let persisted = 0
  let lastClaim = yield* DateTime.now
  const worker = Effect.gen(function*() {
    const drain = yield* Drain
    while (true) {
      const report = yield* drain.cycle
      if (report.claimed === 0) return
      lastClaim = yield* DateTime.now
      persisted += report.persisted + report.nothingToCreate
      yield* options.progress(persisted)
    }
  }).pipe(
    // fresh, or all of them would share one
    Effect.provide(Layer.fresh(Drain.layer))
  )
  while (true) {
    yield* Effect.all(Array.from({ length: options.workers }, () => worker), { concurrency: "unbounded" })
    const next = yield* store.nextDue
    const now = yield* DateTime.now
    const deadline = DateTime.addDuration(lastClaim, options.patience)
    if (Option.isNone(next) || DateTime.isGreaterThan(next.value, deadline) || DateTime.isGreaterThan(now, deadline)) {
      return persisted
    }
    yield* Effect.sleep(Duration.max(DateTime.distance(now, next.value), Duration.millis(100)))
  }
})
